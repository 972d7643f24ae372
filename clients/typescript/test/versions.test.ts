import assert from "node:assert/strict";
import { test } from "node:test";
import { type Versioned, type Versions, newest } from "../src/index.js";

interface Thing extends Versioned {
  readonly shown: number;
}

/** Shuffled, the same for the same seed. */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  let state = seed;
  const next = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  return items.map((item) => ({ item, at: next() })).sort((a, b) => a.at - b.at).map(({ item }) => item);
}

test("in whatever order answers come, the newest of each object is left", () => {
  const answers: Thing[] = Array.from({ length: 30 }, (_, n) => ({ id: `id${n % 3}`, version: `${9007199254740990n + BigInt(n)}`, shown: n }));
  for (let seed = 1; seed <= 50; seed++) {
    const known = new Map<string, Thing>();
    let seen: Versions = new Map();
    const order = shuffled(answers, seed);
    for (let from = 0; from < order.length; from += 4) {
      const [kept, now] = newest(seen, order.slice(from, from + 4));
      seen = now;
      for (const one of kept) known.set(one.id, one);
    }
    assert.deepEqual([...known.values()].map(({ shown }) => shown).sort(), [27, 28, 29]);
  }
});

test("the same answer again is no older one, and what was seen is not changed", () => {
  const seen: Versions = new Map([["a", "10"]]);
  const [kept, now] = newest(seen, [{ id: "a", version: "10" }, { id: "a", version: "9" }, { id: "a", version: "11" }]);
  assert.deepEqual(kept.map(({ version }) => version), ["10", "11"]);
  assert.deepEqual([seen.get("a"), now.get("a")], ["10", "11"]);
});
