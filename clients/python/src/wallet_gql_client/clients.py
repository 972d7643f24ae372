"""The two clients: they send what `core` says, with httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, Final, Self, TypeVar

import httpx

from .core import SILENCE_SECONDS, Answer, Call, EventReader, NoAnswer, Problem, Retries, exchange, failure_of
from .models import ViewerEvent

T = TypeVar("T")

_TIMEOUT: Final = httpx.Timeout(30.0)
_STREAM: Final = httpx.Timeout(30.0, read=SILENCE_SECONDS)


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[Any], token: str | None, **more: Any) -> httpx.Request:
    headers = call.headers if token is None else {**call.headers, "Authorization": f"Bearer {token}"}
    return http.build_request(call.method, call.path, params=call.params, json=call.body, headers=headers, **more)


def _answer(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content)


class Client:
    """A wallet at a URL, for one user at a time: `token` is that of the user's `BEARER` session.

    Another `token` is for calls and streams that begin after it was set, never for the retries of those before.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.token = token
        self._retries = retries or Retries()
        self._http = httpx.Client(base_url=url, transport=transport, timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def run(self, call: Call[T]) -> T:
        """Send a call, if need be several times; the answer. Raises Problem, NoAnswer."""
        token = self.token  # a retry is never sent as another user
        steps = exchange(call, self._retries)
        wait = next(steps)
        while True:
            time.sleep(wait)
            try:
                answer = _answer(self._http.send(_request(self._http, call, token)))
            except httpx.TransportError:
                answer = None
            try:
                wait = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result

    def events(self, after: str | None = None) -> Generator[ViewerEvent, None, None]:
        """All that changes for the user, across lost connections. Raises Problem, NoAnswer."""
        token = self.token  # a stream never goes on as another user
        reader = EventReader(after, self._retries)
        while True:
            failure: Problem | NoAnswer | None = None
            request = _request(self._http, reader.call, token, timeout=_STREAM)
            try:
                response = self._http.send(request, stream=True)
                try:
                    if response.is_error:
                        response.read()
                        failure = failure_of(_answer(response))
                    else:
                        for line in response.iter_lines():
                            if (event := reader.take(line)) is not None:
                                yield event
                finally:
                    response.close()
            except httpx.TransportError:
                pass
            except Problem as problem:
                failure = problem
            time.sleep(reader.lost(failure))


class AsyncClient:
    """The same for asyncio."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.token = token
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(base_url=url, transport=transport, timeout=_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def run(self, call: Call[T]) -> T:
        """Send a call, if need be several times; the answer. Raises Problem, NoAnswer."""
        token = self.token  # a retry is never sent as another user
        steps = exchange(call, self._retries)
        wait = next(steps)
        while True:
            await asyncio.sleep(wait)
            try:
                answer = _answer(await self._http.send(_request(self._http, call, token)))
            except httpx.TransportError:
                answer = None
            try:
                wait = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result

    async def events(self, after: str | None = None) -> AsyncGenerator[ViewerEvent, None]:
        """All that changes for the user, across lost connections. Raises Problem, NoAnswer."""
        token = self.token  # a stream never goes on as another user
        reader = EventReader(after, self._retries)
        while True:
            failure: Problem | NoAnswer | None = None
            request = _request(self._http, reader.call, token, timeout=_STREAM)
            try:
                response = await self._http.send(request, stream=True)
                try:
                    if response.is_error:
                        await response.aread()
                        failure = failure_of(_answer(response))
                    else:
                        async for line in response.aiter_lines():
                            if (event := reader.take(line)) is not None:
                                yield event
                finally:
                    await response.aclose()
            except httpx.TransportError:
                pass
            except Problem as problem:
                failure = problem
            await asyncio.sleep(reader.lost(failure))
