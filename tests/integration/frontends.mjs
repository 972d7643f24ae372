// Drives the recipes of docs/frontends.md against a server: node frontends.mjs RECIPES, with what it needs in its
// environment. Every assertion that fails ends it with a stack trace.
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { pathToFileURL } from "node:url";

globalThis.crypto ??= webcrypto; // before node 20
const { API, TOKEN, ACCOUNT, PAYEE } = process.env;

// What a browser does by itself: the address of the page, and the session.
const real = globalThis.fetch;
let faults = []; // what happens to the next requests: "lost" reaches the wallet, "cut" does not; both look the same
let sent = 0;
let tear; // breaks the stream that was begun last
const LIMIT_MS = 7000; // what the limit of this driver tells, in ms; waited for only in name
let obeyed = 0;
const timeout = globalThis.setTimeout;
globalThis.setTimeout = (wake, ms, ...rest) => {
  if (ms !== LIMIT_MS) return timeout(wake, ms, ...rest);
  obeyed += 1;
  return timeout(wake, 0, ...rest);
};
globalThis.fetch = async (path, options) => {
  sent += 1;
  const fault = faults.shift();
  if (fault === "cut") throw new TypeError("fetch failed");
  const headers = { ...options.headers, Authorization: `Bearer ${TOKEN}` };
  const answer = await real(new URL(path, API), { ...options, headers });
  if (answer.headers.get("content-type").startsWith("text/event-stream")) {
    const broken = new AbortController();
    tear = () => broken.abort(new TypeError("terminated"));
    const through = new TransformStream();
    answer.body.pipeTo(through.writable, { signal: broken.signal }).catch(() => {});
    return new Response(through.readable, { headers: answer.headers });
  }
  if (fault === "lost") throw new TypeError("fetch failed");
  if (fault === "proxy") return new Response("<html>Bad Gateway</html>", { status: 502 });
  if (fault === "busy") {
    const data = { transfer: { __typename: "Unavailable", code: "CONTENDED", message: "busy", retryable: true } };
    return new Response(JSON.stringify({ data }));
  }
  if (fault === "limited") {
    const headers = { "Retry-After": String(LIMIT_MS / 1000) };
    return new Response(JSON.stringify({ code: "RATE_LIMITED" }), { status: 429, headers });
  }
  return answer;
};

// localStorage, as far as the recipes use it.
class Store {
  #items = new Map();
  get length() { return this.#items.size; }
  key(n) { return [...this.#items.keys()][n] ?? null; }
  getItem(key) { return this.#items.get(key) ?? null; }
  setItem(key, text) { this.#items.set(key, String(text)); }
  removeItem(key) { this.#items.delete(key); }
}

const recipes = await import(pathToFileURL(process.argv[2]));
const { ask, decide, undecided, pay, Balance, isOld, entries, newer, formatMoney, toMinorUnits, watch, RequestFailed } = recipes;
const store = new Store();
const soon = { pauseMs: 1 };
const payment = (minor) => ({
  fromAccountId: ACCOUNT,
  to: { username: PAYEE },
  amount: { minorUnits: String(minor), currency: "EUR" },
});
const STANDING = `query($id: ID!) { account(id: $id) {
  available { minorUnits decimal currency } version } }`;
const standing = async () => (await ask(STANDING, { id: ACCOUNT })).account;

// ---------------------------------------------------------------- ask

await assert.rejects(ask("{ nonsense }"), (error) => error instanceof RequestFailed && error.code === "BAD_REQUEST");

// ---------------------------------------------------------------- pay

const before = BigInt((await standing()).available.minorUnits);
const clean = await pay(decide(payment(100), store), store, soon);
assert.deepEqual([clean.__typename, clean.replayed, undecided(store)], ["TransferSuccess", false, []]);

// Whatever happens to the answers, the money moves once.
for (const happens of [["lost"], ["cut", "lost", "busy"], ["proxy", "cut"], ["lost", "lost", "lost", "lost", "lost"]]) {
  faults = [...happens];
  sent = 0;
  const answer = await pay(decide(payment(100), store), store, soon);
  assert.equal(answer.__typename, "TransferSuccess");
  assert.equal(answer.replayed, happens.some((fault) => fault !== "cut"));
  assert.equal(sent, happens.length + 1);
}
assert.equal(BigInt((await standing()).available.minorUnits), before - 500n);

// A limit says how long to wait, and is obeyed.
faults = ["limited"];
assert.equal((await pay(decide(payment(100), store), store, soon)).__typename, "TransferSuccess");
assert.equal(obeyed, 1);

// A double click is one payment.
const twice = decide(payment(100), store);
const both = await Promise.all([pay(twice, store, soon), pay(twice, store, soon)]);
assert.deepEqual(both.map((answer) => answer.replayed).sort(), [false, true]);

// Never answered: it is still in the store after a reload, and sent again under its key.
faults = Array(6).fill("lost");
const tunnel = decide(payment(100), store);
await assert.rejects(pay(tunnel, store, soon), TypeError);
assert.deepEqual(undecided(store), [tunnel]);
const after = await pay(undecided(store)[0], store, soon);
assert.deepEqual([after.replayed, undecided(store)], [true, []]);
assert.equal(BigInt((await standing()).available.minorUnits), before - 800n);

// A refusal is an answer: nothing is sent twice, and nothing is left to send.
sent = 0;
const refused = await pay(decide(payment(10n ** 12n), store), store, soon);
assert.deepEqual([refused.__typename, refused.code, sent], ["InsufficientFunds", "INSUFFICIENT_FUNDS", 1]);
assert.deepEqual(undecided(store), []);
await assert.rejects(pay({ ...payment(1), idempotencyKey: "k", colour: "red" }, store, soon), { code: "BAD_REQUEST" });

// ---------------------------------------------------------------- show it before it is answered

const balance = new Balance();
balance.confirm(await standing());
const start = balance.shown;
const intents = [100, 200, 300].map((minor) => decide(payment(minor), store));
intents.forEach((intent) => balance.begin(intent));
assert.equal(balance.shown, start - 600n);
const seen = [];
const answers = await Promise.all(intents.map((intent) => pay(intent, store, soon)));
for (const n of [2, 0, 1]) { // the answers overtake one another
  balance.end(intents[n], answers[n].fromAccount);
  seen.push(balance.shown);
}
assert.ok(seen.every((shown) => shown <= start));
assert.equal(balance.shown, start - 600n);
const newest = await standing();
balance.confirm({ ...newest, available: { minorUnits: "1" }, version: "1" });
assert.equal(balance.shown, BigInt(newest.available.minorUnits));
assert.deepEqual([isOld({ version: "1" }, newest), isOld(newest, newest), isOld(newest, undefined)], [true, false, false]);
const hopeless = decide(payment(10n ** 12n), store);
balance.begin(hopeless);
balance.end(hopeless, (await pay(hopeless, store, soon)).fromAccount);
assert.equal(balance.shown, BigInt(newest.available.minorUnits));

// ---------------------------------------------------------------- page

const sequences = [];
for await (const entry of entries(ACCOUNT, { first: 3 })) {
  if (sequences.length === 4) await pay(decide(payment(100), store), store, soon); // arrives while we read
  sequences.push(Number(entry.sequence));
}
assert.deepEqual(sequences, Array.from({ length: sequences[0] }, (_, n) => sequences[0] - n));
const fresh = await newer(ACCOUNT, String(sequences[0]));
assert.deepEqual(fresh.map((entry) => [Number(entry.sequence), entry.amount.decimal]), [[sequences[0] + 1, "-1.00"]]);
await assert.rejects(entries("acc_" + "0".repeat(32)).next(), { code: "ACCOUNT_NOT_FOUND" });
const kinds = new Set();
for await (const entry of entries(ACCOUNT, { first: 2, filter: { kinds: ["DEPOSIT"] } })) kinds.add(entry.transfer.kind);
assert.deepEqual([...kinds], ["DEPOSIT"]);

// ---------------------------------------------------------------- watch

const watched = [];
const leave = new AbortController();
for await (const event of watch(ACCOUNT, { signal: leave.signal, pauseMs: 1 })) {
  if (watched.length && !event.entry) continue; // the account as it is, after a reconnect
  watched.push(event);
  if (watched.length === 1) assert.equal(event.entry, null);
  if (watched.length <= 3) await pay(decide(payment(100), store), store, soon);
  if (watched.length === 2) {
    tear(); // under a stream that has more to come
    faults = ["cut", "cut"];
  }
  if (watched.length === 4) leave.abort();
}
assert.deepEqual(
  watched.map(({ sequence, entry }) => [Number(sequence), entry?.amount.decimal]),
  watched.map((_, n) => [Number(watched[0].sequence) + n, n ? "-1.00" : undefined]),
);
assert.equal(watched.length, 4);
const others = watch(`acc_${"0".repeat(32)}`, { pauseMs: 1 });
await assert.rejects(others.next(), { code: "ACCOUNT_NOT_FOUND" });

// ---------------------------------------------------------------- amounts

const plain = (text) => text.replaceAll(/\s/g, " ");
assert.equal(plain(formatMoney({ decimal: "1234.50", currency: "EUR" }, "de-DE")), "1.234,50 €");
assert.equal(plain(formatMoney({ decimal: "-0.05", currency: "EUR" }, "en-US")), "-€0.05");
assert.equal(plain(formatMoney({ decimal: "1230", currency: "JPY" }, "en-US")), "¥1,230");
assert.equal(plain(formatMoney({ decimal: "1.230", currency: "KWD" }, "en-US")), "KWD 1.230");
assert.equal(plain(formatMoney({ decimal: "9999999999999.99", currency: "EUR" }, "en-US")), "€9,999,999,999,999.99");
if (Number(process.versions.node.split(".")[0]) >= 19) {
  assert.equal(
    plain(formatMoney({ decimal: "92233720368547758.07", currency: "EUR" }, "en-US")),
    "€92,233,720,368,547,758.07",
  );
}
const { currencies } = await ask("{ currencies { code exponent } }");
const exponents = new Map(currencies.map(({ code, exponent }) => [code, exponent]));
for (const [text, code, minor] of [
  ["12.30", "EUR", "1230"], [" 12,3 ", "EUR", "1230"], ["12", "EUR", "1200"], ["1230", "JPY", "1230"],
  ["1.23", "KWD", "1230"], ["0.001", "KWD", "1"], ["12.345", "EUR", null], ["1.5", "JPY", null], ["0", "EUR", null],
  ["-1", "EUR", null], ["1,234.50", "EUR", null], ["1e3", "EUR", null], ["", "EUR", null], ["12.", "EUR", null],
]) {
  assert.equal(toMinorUnits(text, exponents.get(code)), minor, `${text} ${code}`);
}
console.log("recipes: all hold");
