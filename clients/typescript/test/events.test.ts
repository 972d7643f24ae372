import assert from "node:assert/strict";
import { test } from "node:test";
import { Events, type RequestFailed, type ViewerEvent } from "../src/index.js";

/** A connection whose other side is the test. */
class Wire {
  static made: Wire[] = [];
  readyState = 1;
  sent: { type: string; id: string; payload?: { variables: { after: string | null } } }[] = [];
  onopen?: () => void;
  onmessage?: (event: { data: string }) => void;
  onclose?: (event: { code: number }) => void;

  constructor() {
    Wire.made.push(this);
  }
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {}
  open() {
    this.onopen?.();
    this.say({ type: "connection_ack" });
  }
  say(message: object) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  event(cursor: string) {
    this.say({ type: "next", id: "viewer", payload: { data: { event: { cursor, accounts: [], entries: [], holds: [] } } } });
  }
  get asked() {
    return this.sent.filter(({ type }) => type === "subscribe").map(({ payload }) => payload?.variables.after);
  }
}

function watching() {
  Wire.made = [];
  const seen: ViewerEvent[] = [];
  const live: boolean[] = [];
  const ended: RequestFailed[] = [];
  const watcher = {
    onEvent: (event: ViewerEvent) => seen.push(event),
    onLive: (isLive: boolean) => live.push(isLive),
    onEnd: (error: RequestFailed) => ended.push(error),
  };
  const webSocket = Wire as unknown as typeof WebSocket;
  const events = new Events(watcher, { url: "http://wallet", webSocket, pauseMs: 0, pauseMaxMs: 0 });
  return { events, seen, live, ended };
}

/** The connection number `count`, as soon as it is made. */
async function connection(count: number): Promise<Wire> {
  while (Wire.made.length < count) await new Promise((wake) => setTimeout(wake));
  return Wire.made[count - 1] as Wire;
}

const failed = (code: string) => ({ type: "error", id: "viewer", payload: [{ message: "", extensions: { code, retryable: false } }] });

const LOSSES: Record<string, (wire: Wire) => void> = {
  "closed by the server": (wire) => wire.onclose?.({ code: 1012 }),
  "cut off": (wire) => wire.onclose?.({ code: 1006 }),
  "completed": (wire) => wire.say({ type: "complete", id: "viewer" }),
  "a retryable error": (wire) => wire.say({ type: "error", id: "viewer", payload: [{ message: "", extensions: { code: "UNAVAILABLE", retryable: true } }] }),
};

for (const [name, lose] of Object.entries(LOSSES)) {
  test(`${name}: it goes on after the last cursor`, async () => {
    const { events, seen, live } = watching();
    const first = await connection(1);
    first.open();
    assert.deepEqual(first.asked, [null]);
    first.event("c1");
    first.event("c2");
    lose(first);
    first.event("c3"); // of a connection that is gone: nobody listens
    const second = await connection(2);
    second.open();
    assert.deepEqual(second.asked, ["c2"]);
    second.event("c3");
    assert.deepEqual(seen.map(({ cursor }) => cursor), ["c1", "c2", "c3"]);
    assert.deepEqual(live, [true, true, false, true]);
    events.close();
  });
}

test("without a session it ends for good", async () => {
  const { ended } = watching();
  const wire = await connection(1);
  wire.open();
  wire.onclose?.({ code: 4403 });
  assert.deepEqual(ended.map(({ code }) => code), ["UNAUTHENTICATED"]);
  assert.equal(Wire.made.length, 1);
});

test("what cannot be retried ends it, what can does not", async () => {
  const { ended } = watching();
  const wire = await connection(1);
  wire.open();
  wire.say(failed("DOCUMENT_NOT_TRUSTED"));
  assert.deepEqual(ended.map(({ code }) => code), ["DOCUMENT_NOT_TRUSTED"]);
});

test("too many subscriptions are tried again, and a cursor that is refused is dropped", async () => {
  const { events, ended } = watching();
  const first = await connection(1);
  first.open();
  first.event("c1");
  first.say(failed("LIMIT_EXCEEDED"));
  const second = await connection(2);
  second.open();
  assert.deepEqual(second.asked, ["c1"]);
  second.say(failed("BAD_REQUEST"));
  const third = await connection(3);
  third.open();
  assert.deepEqual(third.asked, [null]);
  assert.deepEqual(ended, []);
  third.say(failed("BAD_REQUEST"));
  assert.deepEqual(ended.map(({ code }) => code), ["BAD_REQUEST"]);
  events.close();
});
