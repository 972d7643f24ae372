import assert from "node:assert/strict";
import { test } from "node:test";
import { formatMoney, parseMoney, toDecimal } from "../src/index.js";

test("what is typed becomes minor units", () => {
  const read: [string, number, bigint | null][] = [
    ["12.30", 2, 1230n],
    ["12,3", 2, 1230n],
    [" 12 ", 2, 1200n],
    ["0.01", 2, 1n],
    ["1200", 0, 1200n],
    ["1.234", 3, 1234n],
    ["123456789012345.67", 2, 12345678901234567n],
    ...["", "0", "0.00", "-1", "+1", "1.234", "1,000.00", "1 000", "1e3", "٣", "1.", ".5", "1234567890123456"].map(
      (text): [string, number, null] => [text, 2, null],
    ),
    ["1.0", 0, null],
  ];
  for (const [text, exponent, expected] of read) assert.equal(parseMoney(text, exponent), expected, text);
});

test("minor units become text, and back", () => {
  for (const exponent of [0, 2, 3])
    for (const minor of [1n, 9n, 10n, 99n, 100n, 12345n, 9223372036854775807n % 10n ** 15n]) {
      assert.equal(parseMoney(toDecimal(minor, exponent), exponent), minor);
      assert.equal(toDecimal(-minor, exponent), `-${toDecimal(minor, exponent)}`);
    }
});

test("no digit is lost, and the wallet's digits count", () => {
  const plain = (text: string) => text.replace(/\s/g, " ");
  assert.equal(formatMoney({ decimal: "90071992547409.93", currency: "EUR" }, "en"), "€90,071,992,547,409.93");
  assert.equal(plain(formatMoney({ decimal: "-1234.50", currency: "EUR" }, "de")), "-1.234,50 €");
  assert.equal(formatMoney({ decimal: "20000", currency: "JPY" }, "en"), "¥20,000");
  assert.equal(plain(formatMoney({ decimal: "1.230", currency: "KWD" }, "en", { signed: true })), "+KWD 1.230");
});
