// urql with its normalised cache: a query, a mutation that updates it, errors, and subscriptions by stream and socket.
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { getIntrospectionQuery } from "graphql";
import { createClient } from "graphql-ws";
import { ACCOUNT, ACCOUNTS, HTTP, PAY, WATCH, WRONG, WS, authorization, counting, follow, payment, report, webSocketImpl } from "./lib.mjs";

// urql leaves the read that it aborts when a stream is closed to nobody.
process.on("unhandledRejection", (error) => {
  if (error?.name !== "AbortError") throw error;
});

const { fetch, sent } = counting();
const asked = await globalThis.fetch(HTTP, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ query: getIntrospectionQuery() }),
});
const { data: schema } = await asked.json();
const keys = { Money: () => null, TransferSuccess: () => null, InsufficientFunds: () => null, AccountEvent: () => null };
const options = { url: HTTP, fetch, preferGetMethod: false, fetchOptions: { headers: { authorization } } };
const client = new Client({
  ...options,
  fetchSubscriptions: true,
  exchanges: [cacheExchange({ keys, schema }), fetchExchange],
});
const balance = ({ data }) => data.viewer.accounts.find(({ id }) => id === ACCOUNT).available.minorUnits;

const shown = [];
const watching = client.query(ACCOUNTS, {}).subscribe((result) => {
  if (result.data) shown.push(balance(result));
});
while (shown.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
const paid = await client.mutation(PAY, payment(7)).toPromise();
const refused = await client.mutation(PAY, payment(10 ** 12)).toPromise();
await new Promise((resolve) => setTimeout(resolve, 50));
watching.unsubscribe();
const requests = sent.map(({ type, status }) => ({ type, status }));
const wrong = await client.query(WRONG, {}).toPromise();

const socket = createClient({ url: WS, webSocketImpl, retryAttempts: 0, connectionParams: { authorization } });
const bySocket = new Client({
  ...options,
  exchanges: [
    subscriptionExchange({
      forwardSubscription: (request) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe({ ...request, query: request.query ?? "" }, sink) }),
      }),
    }),
    fetchExchange,
  ],
});
const following = (through, tear) => {
  let subscription;
  return follow({
    subscribe: (after, sink) => {
      subscription = through.subscription(WATCH, { id: ACCOUNT, after }).subscribe((result) => {
        if (result.error) sink.error(result.error);
        else if (result.data) sink.next(result.data.accountEvents);
      });
      return () => subscription.unsubscribe();
    },
    tear: () => tear(subscription),
    count: Number(process.env.COUNT),
    pause: 3,
  });
};
report({
  shown,
  paid: paid.data.transfer.__typename,
  refused: refused.data.transfer.__typename,
  requests,
  wrong: { network: Boolean(wrong.error.networkError), codes: wrong.error.graphQLErrors.map(({ extensions }) => extensions.code) },
  streamed: await following(client, (subscription) => subscription.unsubscribe()),
  socketed: await following(bySocket, () => socket.terminate()),
});
