// A statement as CSV (RFC 4180), for spreadsheets.
import type { LineFragment as Line } from "wallet-gql-client";

/** Where a spreadsheet may run text as a formula, also if it splits rows at `;`; somebody else wrote the text. */
const FORMULA = /(^|[;|\t\r\n])(?=[\s"]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])/g;

const text = (value: string): string => `"${value.replace(FORMULA, "$1'").replaceAll('"', '""')}"`;

export function toCsv(columns: readonly string[], lines: readonly Line[], kinds: Record<string, string>): string {
  const rows = lines.map(({ createdAt, amount, balanceAfter, transfer }) => [
    createdAt,
    text(kinds[transfer.kind] ?? transfer.kind),
    text(transfer.counterparty?.name ?? ""),
    text(transfer.counterparty?.username ?? ""),
    text(transfer.reference),
    amount.decimal,
    amount.currency,
    balanceAfter.decimal,
  ]);
  return [columns, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

export function download(name: string, content: string): void {
  const url = URL.createObjectURL(new Blob(["\ufeff", content], { type: "text/csv;charset=utf-8" }));
  const anchor = Object.assign(document.createElement("a"), { href: url, download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
