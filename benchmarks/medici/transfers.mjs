// Transfers by medici, the way its README does payments that must not overdraw: entry, balance, lock, one transaction.
//
//   node transfers.mjs URL ACCOUNTS IN_FLIGHT WARMUP_SECONDS SECONDS LOAD
//
// Prints one line of JSON: answered, seconds, failed, p50_ms, p99_ms, total (the sum of all balances; must be 0).

import { Book, initModels, mongoTransaction, syncIndexes } from "medici";
import mongoose from "mongoose";

const [url, accounts, inFlight, warmup, seconds, load] = process.argv.slice(2);
const count = Number(accounts);
const DEPOSIT = 1_000_000_000;
const DURABLE = { readConcern: { level: "snapshot" }, writeConcern: { w: "majority", j: true } };

const name = (i) => `Accounts:u${i}`;
const draw = (below) => Math.floor(Math.random() * below);

function pair() {
  const first = draw(count);
  const second = (first + 1 + draw(count - 1)) % count;
  if (load === "one payer") return [0, 1 + draw(count - 1)];
  if (load === "one payee") return [1 + draw(count - 1), 0];
  return [first, second];
}

async function transfer(book, payer, payee, amount) {
  await mongoTransaction(async (session) => {
    await book.entry("transfer").debit(name(payer), amount).credit(name(payee), amount).commit({ session });
    const after = await book.balance({ account: name(payer) }, { session });
    if (after.balance < 0) throw new Error("insufficient funds");
    await book.writelockAccounts([name(payer)], { session });
  }, DURABLE);
}

await mongoose.connect(url, { maxPoolSize: Number(inFlight) + 4 });
await initModels();
await syncIndexes({ background: false });
const book = new Book("wallet", { precision: 0 });
for (let i = 0; i < count; i += 1) {
  await book.entry("deposit").debit("Assets", DEPOSIT).credit(name(i), DEPOSIT).commit();
}

const took = [];
let counting = false;
let running = true;
let answered = 0;
let failed = 0;

async function caller() {
  while (running) {
    const [payer, payee] = pair();
    const began = performance.now();
    try {
      await transfer(book, payer, payee, 1);
      if (counting) {
        answered += 1;
        took.push(performance.now() - began);
      }
    } catch (error) {
      failed += 1;
    }
  }
}

const sleep = (s) => new Promise((resolve) => setTimeout(resolve, s * 1000));
const callers = Array.from({ length: Number(inFlight) }, caller);
await sleep(Number(warmup));
counting = true;
const start = performance.now();
await sleep(Number(seconds));
counting = false;
const elapsed = (performance.now() - start) / 1000;
running = false;
await Promise.all(callers);

took.sort((a, b) => a - b);
const quantile = (share) => took[Math.min(took.length - 1, Math.floor(took.length * share))] ?? 0;
const { balance: people } = await book.balance({ account: "Accounts" });
const { balance: assets } = await book.balance({ account: "Assets" });
console.log(
  JSON.stringify({
    answered,
    seconds: elapsed,
    failed,
    p50_ms: quantile(0.5),
    p99_ms: quantile(0.99),
    total: people + assets,
  }),
);
await mongoose.disconnect();
