import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, HomeDocument, type Intent, Intents, type Operation, RequestFailed, failureOf, successOf, targetOf } from "../src/index.js";

/** A `localStorage` in memory. */
class Memory {
  readonly kept = new Map<string, string>();
  get length() {
    return this.kept.size;
  }
  key = (place: number) => [...this.kept.keys()][place] ?? null;
  getItem = (name: string) => this.kept.get(name) ?? null;
  setItem = (name: string, value: string) => void this.kept.set(name, value);
  removeItem = (name: string) => void this.kept.delete(name);
}

const INPUT = { fromAccountId: "a1", to: { username: "bob" }, amount: { minorUnits: "100", currency: "EUR" } };
const SUCCESS = { __typename: "TransferSuccess", replayed: false, credited: true, transfer: { id: "t" }, fromAccount: null };
const refused = (code: string, retryable: boolean, more = {}) => ({ __typename: "Refusal", code, message: code, retryable, ...more });
const thrown = (code: string, retryable = false) => ({ errors: [{ message: code, extensions: { code, retryable } }] });

type Step = object | Error | string;

/**
 * A user whose requests are answered by these steps, one after the other; `keys` are those that were sent, and
 * `cookie.of` is who is logged in. A step may be a function, which is called when the request arrives.
 */
function user(steps: (Step | (() => Step))[], store = new Memory(), id = "u1", cookie: { of: string | null } = { of: id }) {
  const keys: string[] = [];
  const fetch = async (_url: unknown, request?: RequestInit): Promise<Response> => {
    const { query, variables } = JSON.parse(String(request?.body));
    if (query.includes("query Identity")) return Response.json({ data: { viewer: cookie.of === null ? null : { id: cookie.of } } });
    keys.push(variables.input.idempotencyKey);
    const given = steps.shift();
    const step = typeof given === "function" ? given() : given;
    if (step instanceof Error) throw step;
    if (typeof step === "string") return new Response(step, { status: 502 });
    return Response.json(step && "errors" in step ? step : { data: { answer: step } });
  };
  const client = new Client({ url: "http://wallet", fetch });
  return { keys, store, cookie, intents: new Intents(client, store, id, { attempts: 5, pauseMs: 0 }) };
}

const LOST: Record<string, Step> = {
  "no network": new TypeError("fetch failed"),
  "cut off after it was sent": new DOMException("timeout", "TimeoutError"),
  "a proxy's page": "<html>Bad Gateway</html>",
  "no data and no errors": { errors: [] },
  UNAVAILABLE: refused("UNAVAILABLE", true),
  CONTENDED: refused("CONTENDED", true),
  NODE_UNAVAILABLE: refused("NODE_UNAVAILABLE", true),
  IN_DOUBT: refused("IN_DOUBT", true),
  RATE_LIMITED: refused("RATE_LIMITED", true, { retryAfterSeconds: 0 }),
  "a code of later": refused("LATER", true),
  "top-level, retryable": thrown("UNAVAILABLE", true),
};

for (const [name, step] of Object.entries(LOST)) {
  test(`${name}: the same key again, until there is an answer`, async () => {
    const { intents, keys, store } = user([step, step, SUCCESS]);
    const intent = intents.decide("transfer", INPUT);
    const answer = await intents.send(intent);
    assert.equal(successOf(answer)?.transfer?.id, "t");
    assert.deepEqual(keys, [intent.key, intent.key, intent.key]);
    assert.equal(store.length, 0);
  });

  test(`${name} for good: it throws, and a reload goes on with the same key`, async () => {
    const { intents, store, keys } = user(Array.from({ length: 5 }, () => step));
    const intent = intents.decide("transfer", INPUT);
    await assert.rejects(intents.send(intent), RequestFailed);
    assert.equal(keys.length, 5);
    const reloaded = user([{ ...SUCCESS, replayed: true }], store);
    const [kept] = reloaded.intents.open() as [Intent<"transfer">];
    assert.equal(successOf(await reloaded.intents.send(kept))?.replayed, true);
    assert.deepEqual(reloaded.keys, [intent.key]);
    assert.deepEqual(reloaded.intents.open(), []);
  });
}

for (const code of ["INSUFFICIENT_FUNDS", "INVALID_INPUT", "PAYEE_NOT_FOUND", "IDEMPOTENCY_KEY_REUSED", "LATER"]) {
  test(`${code} is an answer: the intent is over`, async () => {
    const { intents, keys } = user([refused(code, false)]);
    const answer = await intents.send(intents.decide("transfer", INPUT));
    assert.equal(failureOf(answer)?.code, code);
    assert.equal(keys.length, 1);
    assert.deepEqual(intents.open(), []);
  });
}

for (const step of [thrown("UNAUTHENTICATED"), thrown("INTERNAL"), refused("FRESH_LOG_IN_REQUIRED", false)]) {
  test(`after ${JSON.stringify(step)} the key is kept, and nothing is repeated by itself`, async () => {
    const { intents, keys } = user([step]);
    const intent = intents.decide("transfer", INPUT);
    await assert.rejects(intents.send(intent), RequestFailed);
    assert.equal(keys.length, 1);
    assert.deepEqual(intents.open().map(({ key }) => key), [intent.key]);
  });
}

test("a request that was not let in is forgotten, unless an earlier one may have been", async () => {
  const first = user([thrown("BAD_REQUEST")]);
  await assert.rejects(first.intents.send(first.intents.decide("transfer", INPUT)));
  assert.deepEqual(first.intents.open(), []);
  const later = user([new TypeError("cut"), thrown("BAD_REQUEST")]);
  await assert.rejects(later.intents.send(later.intents.decide("transfer", INPUT)), { code: "BAD_REQUEST" });
  assert.equal(later.intents.open().length, 1);
});

test("a refusal before GraphQL is told by its own code", async () => {
  const body = { status: 413, code: "REQUEST_ENTITY_TOO_LARGE", detail: "the body is larger", retryable: false };
  const client = new Client({ fetch: async () => Response.json(body, { status: 413 }) });
  await assert.rejects(client.ask(HomeDocument, { entries: 1 }), { code: body.code, message: body.detail, retryable: false });
});

test("a decision is stored before anything is sent", async () => {
  const { intents, keys, store } = user([SUCCESS]);
  store.setItem = () => {
    throw new Error("full");
  };
  assert.throws(() => intents.decide("transfer", INPUT), /full/);
  assert.deepEqual(keys, []);
});

test("a double click sends once", async () => {
  const { intents, keys } = user([SUCCESS]);
  const intent = intents.decide("transfer", INPUT);
  const [one, two] = await Promise.all([intents.send(intent), intents.send(intent)]);
  assert.equal(one, two);
  assert.equal(keys.length, 1);
});

test("what is being sent is under way, until there is an answer or none", async () => {
  for (const step of [SUCCESS, thrown("UNAUTHENTICATED")]) {
    const { intents } = user([step]);
    const intent = intents.decide("transfer", INPUT);
    const sent = () => intents.open().map((one) => one.sent);
    assert.deepEqual(sent(), [false]);
    const sending = intents.send(intent).catch(() => null);
    assert.deepEqual(sent(), [true]);
    await sending;
    assert.deepEqual(sent(), step === SUCCESS ? [] : [false]);
  }
});

for (const step of [thrown("UNAVAILABLE", true), thrown("RATE_LIMITED", true), refused("CONTENDED", true)]) {
  test(`another tab can discard nothing between attempts, after ${JSON.stringify(step)}`, async () => {
    const { intents, store } = user([step, SUCCESS]);
    const other = new Intents(intents.client, store, "u1");
    const intent = intents.decide("transfer", INPUT);
    const found: boolean[] = [];
    const ask = intents.client.ask.bind(intents.client);
    intents.client.ask = (async (...values: Parameters<typeof ask>) => {
      if ("input" in (values[1] as object)) found.push(other.discard(intent.key));
      return ask(...values);
    }) as typeof ask;
    await intents.send(intent);
    assert.deepEqual(found, [false, false]);
  });
}

test("what another tab has discarded is not sent", async () => {
  const { intents, keys, store } = user([SUCCESS]);
  const intent = intents.decide("transfer", INPUT);
  assert.equal(new Intents(intents.client, store, "u1").discard(intent.key), true);
  await assert.rejects(intents.send(intent), { code: "DISCARDED" });
  assert.deepEqual(keys, []);
});

test("each user of a device has their own intents", async () => {
  const { intents, store } = user([]);
  intents.decide("transfer", INPUT);
  store.setItem("something else", "of the page");
  assert.deepEqual(new Intents(intents.client, store, "u2").open(), []);
  assert.equal(intents.open().length, 1);
});

const ABOUT: { operation: Operation; input: object }[] = [
  { operation: "reverseTransfer", input: { transferId: "x", minorUnits: "5" } },
  { operation: "refundPayment", input: { paymentId: "x", minorUnits: "5" } },
  { operation: "captureHold", input: { holdId: "x" } },
  { operation: "voidHold", input: { holdId: "x" } },
];

for (const { operation, input } of ABOUT) {
  test(`${operation} has one key until there is an answer, however often it is decided`, async () => {
    const { intents, keys } = user([...Array.from({ length: 5 }, () => new TypeError("cut")), SUCCESS, SUCCESS]);
    const first = intents.decide(operation, input as never);
    await assert.rejects(intents.send(first), RequestFailed);
    const second = intents.decide(operation, { ...input, minorUnits: "7" } as never);
    assert.deepEqual({ ...second, sent: false, sender: null }, { ...first, sent: false, sender: null });
    assert.equal(targetOf(second), "x");
    await intents.send(second);
    assert.deepEqual([...new Set(keys)], [first.key]);
    await intents.send(intents.decide(operation, input as never));
    assert.equal(new Set(keys).size, 2);
  });
}

test("two payments of the same amount are two decisions", () => {
  const { intents } = user([]);
  assert.notEqual(intents.decide("transfer", INPUT).key, intents.decide("transfer", INPUT).key);
});

test("what has no answer is not sent as somebody else, and its key is kept", async () => {
  const { intents, keys, cookie, store } = user([() => ((cookie.of = "u2"), new TypeError("cut")), refused("ACCOUNT_NOT_FOUND", false)]);
  const intent = intents.decide("transfer", INPUT);
  await assert.rejects(intents.send(intent), { code: "OTHER_USER", retryable: false });
  assert.equal(keys.length, 1);
  assert.deepEqual(intents.open().map(({ key, sent }) => [key, sent]), [[intent.key, true]]);
  const back = user([{ ...SUCCESS, replayed: true }], store);
  assert.equal(successOf(await back.intents.send(back.intents.open()[0] as Intent<"transfer">))?.replayed, true);
  assert.deepEqual(back.keys, [intent.key]);
});

test("a refusal to who logged in while it was sent is no answer to the user", async () => {
  const { intents, cookie } = user([() => ((cookie.of = "u2"), refused("ACCOUNT_NOT_FOUND", false))]);
  const intent = intents.decide("transfer", INPUT);
  await assert.rejects(intents.send(intent), { code: "OTHER_USER" });
  assert.equal(intents.isOpen(intent.key), true);
});

test("after a log-out nothing is sent again, and the key is kept", async () => {
  const { intents, keys } = user([() => (intents.stop(), new TypeError("cut")), SUCCESS]);
  const intent = intents.decide("transfer", INPUT);
  await assert.rejects(intents.send(intent), { code: "STOPPED" });
  assert.equal(keys.length, 1);
  assert.equal(intents.isOpen(intent.key), true);
});

test("without a session nothing is sent", async () => {
  const { intents, keys, cookie } = user([SUCCESS]);
  cookie.of = null;
  const intent = intents.decide("transfer", INPUT);
  await assert.rejects(intents.send(intent), { code: "UNAUTHENTICATED" });
  assert.deepEqual(keys, []);
  assert.deepEqual(intents.open().map(({ sent }) => sent), [false]);
});

test("it is known whether money may have moved", async () => {
  const steps: Record<string, [Step, boolean]> = {
    UNAVAILABLE: [refused("UNAVAILABLE", true), false],
    FRESH_LOG_IN_REQUIRED: [refused("FRESH_LOG_IN_REQUIRED", false), false],
    "IN_DOUBT": [refused("IN_DOUBT", true), true],
    "lost": [new TypeError("cut"), true],
  };
  for (const [name, [step, mayHave]] of Object.entries(steps)) {
    const { intents } = user(Array.from({ length: 5 }, () => step));
    await assert.rejects(intents.send(intents.decide("transfer", INPUT)));
    assert.deepEqual(intents.open().map(({ sent }) => sent), [mayHave], name);
    assert.equal(intents.discard(intents.open()[0]?.key ?? ""), !mayHave, name);
    assert.equal(intents.open().length, mayHave ? 1 : 0, name);
  }
});
