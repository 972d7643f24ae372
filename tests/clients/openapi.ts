// Pays over REST with types that openapi-typescript made of /openapi.json, and reports what the answers say.
import createClient from "openapi-fetch";
import type { components, paths } from "./wallet.js";

declare const process: { env: Record<"URL" | "TOKEN" | "ACCOUNT" | "PAYEE", string> };
const { URL: baseUrl, TOKEN, ACCOUNT, PAYEE } = process.env;

const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${TOKEN}` } });

const payment = (minorUnits: string): components["schemas"]["Payment"] => ({
  fromAccountId: ACCOUNT,
  to: { username: PAYEE },
  amount: { minorUnits, currency: "EUR" },
});

function pay(minorUnits: string, key: string) {
  return client.POST("/v1/transfer", { params: { header: { "Idempotency-Key": key } }, body: payment(minorUnits) });
}

const key = crypto.randomUUID();
const first = await pay("250", key);
const again = await pay("250", key);
const poor = await pay("99999999", crypto.randomUUID());
const holds = await client.GET("/v1/hold", { params: { query: { state: ["OPEN"], first: 5 } } });
const preview = await client.POST("/v1/preview", { body: payment("100") });
if (!first.data || !again.data || !poor.error || !holds.data || !preview.data) throw new Error("an answer is missing");

// The code tells the kinds of errors apart, and with it their values.
const available: string = poor.error.code === "INSUFFICIENT_FUNDS" ? poor.error.availableMinor : "";
const direction: "IN" | "OUT" = first.data.transfer.direction;
console.log(
  JSON.stringify({
    same: first.data.transfer.id === again.data.transfer.id,
    replayed: again.data.replayed,
    direction,
    available,
    holds: holds.data.holds.length,
    received: preview.data.received?.minorUnits,
  }),
);
