"""An attacker as a process of its own: connections that send hostile documents as fast as they are answered.

Run as `python -m tests.integration._attack HOST PORT ADDRESS CONNECTIONS`; it ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.integration._hostile import grown

NAMES = ("unknown object fields", "conflicting fields", "selections", "list items", "aliases", "nested unknown fields")


def request(host: str, address: str, number: int) -> bytes:
    """A document that nobody has sent before."""
    made = grown(16_000, (29, 95, 320)[number % 3], NAMES[number % len(NAMES)])
    assert made is not None
    body = json.dumps({"query": f"{made.body['query']} #{number}"[-16_384:]}).encode()
    head = f"POST /graphql HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nX-Forwarded-For: {address}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def attack(host: str, port: int, requests: list[bytes]) -> None:
    """Send for ever on one connection."""
    reader, writer = await asyncio.open_connection(host, port)
    while True:
        for one in requests:
            writer.write(one)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))


async def main(host: str, port: int, address: str, connections: int) -> None:
    """Attack until the input ends."""
    documents = [request(host, address, number) for number in range(60)]
    turned = [documents[n:] + documents[:n] for n in range(connections)]
    tasks = [asyncio.create_task(attack(host, port, requests)) for requests in turned]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
