// Apollo's and urql's caches with the policies of clients/typescript: every document without a warning, pages that are
// joined, and amounts that are never half old.
import { readFile } from "node:fs/promises";
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { relayStylePagination } from "@apollo/client/utilities";
import { Client, fetchExchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { relayPagination } from "@urql/exchange-graphcache/extras";
import { buildSchema, introspectionFromSchema } from "graphql";
import { ACCOUNT, HTTP, PAYEE, authorization, payment, report } from "./lib.mjs";

const wallet = await import(process.env.CLIENT);
const schema = introspectionFromSchema(buildSchema(await readFile(process.env.SCHEMA, "utf8")));
const warned = [];
console.warn = console.error = (...words) => warned.push(words.join(" "));

const amount = { minorUnits: "1", currency: "EUR" };
const span = { since: "2020-01-01T00:00:00Z", until: "2100-01-01T00:00:00Z" };
const QUERIES = [
  ["HomeDocument", { entries: 5 }],
  ["HistoryDocument", { first: 3 }],
  ["HoldsDocument", { first: 5 }],
  ["SecurityDocument", { first: 5 }],
  ["StatementDocument", { account: ACCOUNT, ...span }],
  ["PayeeDocument", { username: PAYEE }],
  ["PreviewDocument", { input: { fromAccountId: ACCOUNT, to: { username: PAYEE }, amount } }],
  ["IdentityDocument", {}],
];
const PAGE = `query Page($after: String) { viewer { id history(first: 3, after: $after) {
  edges { cursor node { id sequence amount { minorUnits currency } } } pageInfo { hasNextPage endCursor } } } }`;
const WHOLE = `query Whole($id: ID!) { account(id: $id) { id posted { minorUnits decimal currency } } }`;
const HALF = `query Half($id: ID!) { account(id: $id) { id posted { minorUnits } } }`;

/** What both clients must be able to do. */
async function tried({ ask, pay, cached }) {
  for (const [name, variables] of QUERIES) await ask(String(wallet[name]), variables);
  const { viewer } = await ask(PAGE, {});
  await ask(PAGE, { after: viewer.history.pageInfo.endCursor });
  const joined = (await cached(PAGE, {})).viewer.history.edges.map(({ node }) => node.sequence);
  const { account } = await ask(WHOLE, { id: ACCOUNT });
  const paid = await pay(String(wallet.PayDocument), payment(7));
  await ask(HALF, { id: ACCOUNT });
  const after = (await cached(WHOLE, { id: ACCOUNT }))?.account;
  const isMixed = Boolean(after) && Number(after.posted.decimal) * 100 !== Number(after.posted.minorUnits);
  return { joined, before: account.posted.decimal, paid: paid.answer.__typename, isMixed, warned: warned.splice(0) };
}

const cache = new InMemoryCache({
  possibleTypes: wallet.possibleTypes,
  typePolicies: wallet.apolloTypePolicies(relayStylePagination),
});
const apollo = new ApolloClient({ cache, link: new HttpLink({ uri: HTTP, headers: { authorization } }) });
const urql = new Client({
  url: HTTP,
  preferGetMethod: false,
  fetchOptions: { headers: { authorization } },
  exchanges: [cacheExchange({ schema, ...wallet.graphcachePolicies(relayPagination) }), fetchExchange],
});
const told = ({ data, error }) => {
  if (error) throw error;
  return data;
};
report({
  apollo: await tried({
    ask: async (query, variables) => told(await apollo.query({ query: gql(query), variables, fetchPolicy: "network-only" })),
    pay: async (mutation, variables) => told(await apollo.mutate({ mutation: gql(mutation), variables })),
    cached: async (query, variables) => cache.readQuery({ query: gql(query), variables }),
  }),
  urql: await tried({
    ask: async (query, variables) => told(await urql.query(query, variables, { requestPolicy: "network-only" }).toPromise()),
    pay: async (mutation, variables) => told(await urql.mutation(mutation, variables).toPromise()),
    cached: async (query, variables) => told(await urql.query(query, variables, { requestPolicy: "cache-only" }).toPromise()),
  }),
});
