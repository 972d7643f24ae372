// Apollo Client: a query, a mutation that updates the cache with no other request, errors, hashes, a subscription.
import { createHash } from "node:crypto";
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { OperationTypeNode } from "graphql";
import { createClient } from "graphql-ws";
import { ACCOUNT, ACCOUNTS, HTTP, PAY, WATCH, WRONG, WS, authorization, counting, follow, payment, report, webSocketImpl } from "./lib.mjs";

const { fetch, sent } = counting();
const socket = createClient({ url: WS, webSocketImpl, retryAttempts: 0, connectionParams: { authorization } });
const http = new HttpLink({ uri: HTTP, fetch, headers: { authorization } });
const hashes = new PersistedQueryLink({ sha256: (text) => createHash("sha256").update(text).digest("hex") });
const cache = () => new InMemoryCache({ possibleTypes: { WalletError: ["InsufficientFunds", "Refusal", "InvalidInput"] } });
const client = new ApolloClient({
  cache: cache(),
  link: ApolloLink.split(
    ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
    new GraphQLWsLink(socket),
    http,
  ),
});
const balance = ({ data }) => data.viewer.accounts.find(({ id }) => id === ACCOUNT).available.minorUnits;

const shown = [];
const watching = client.watchQuery({ query: gql(ACCOUNTS) }).subscribe((result) => {
  if (result.data) shown.push(balance(result));
});
await client.query({ query: gql(ACCOUNTS) });
const paid = await client.mutate({ mutation: gql(PAY), variables: payment(7) });
const refused = await client.mutate({ mutation: gql(PAY), variables: payment(10 ** 12) });
await new Promise((resolve) => setTimeout(resolve, 50));
watching.unsubscribe();
const requests = [...sent];
const wrong = await client.query({ query: gql(WRONG), fetchPolicy: "no-cache" }).catch((error) => ({
  name: error.name,
  codes: error.errors?.map(({ extensions }) => extensions.code),
}));

sent.length = 0;
const hashing = new ApolloClient({ cache: cache(), link: hashes.concat(http) });
const hashed = await hashing.query({ query: gql(ACCOUNTS) });

let subscription;
const events = await follow({
  subscribe: (after, sink) => {
    subscription = client
      .subscribe({ query: gql(WATCH), variables: { id: ACCOUNT, after } })
      .subscribe({ ...sink, next: (result) => (result.data ? sink.next(result.data.accountEvents) : sink.error(result.error)) });
    return () => subscription.unsubscribe();
  },
  tear: () => socket.terminate(),
  count: Number(process.env.COUNT),
  pause: 3,
});
report({
  shown,
  paid: paid.data.transfer.__typename,
  refused: refused.data.transfer.__typename,
  requests: requests.map(({ type, status }) => ({ type, status })),
  wrong,
  hashed: { balance: balance(hashed), queries: sent.map(({ body }) => Boolean(body.query)) },
  events,
});
