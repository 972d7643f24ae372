// graphql-ws: a query, a mutation that is refused, errors, a subscription that resumes.
import { createClient } from "graphql-ws";
import { ACCOUNT, ACCOUNTS, PAY, WATCH, WRONG, WS, authorization, follow, payment, report, webSocketImpl } from "./lib.mjs";

const client = createClient({ url: WS, webSocketImpl, retryAttempts: 0, connectionParams: { authorization } });
const once = (query, variables) =>
  new Promise((resolve) => {
    const results = [];
    client.subscribe(
      { query, variables },
      { next: (value) => results.push(value), error: (error) => resolve({ error }), complete: () => resolve({ results }) },
    );
  });

const query = await once(ACCOUNTS);
const mutation = await once(PAY, payment());
const wrong = await once(WRONG);
const syntax = await once("{ viewer {");
const events = await follow({
  subscribe: (after, sink) =>
    client.subscribe(
      { query: WATCH, variables: { id: ACCOUNT, after } },
      { ...sink, next: ({ data }) => sink.next(data.accountEvents) },
    ),
  tear: () => client.terminate(),
  count: Number(process.env.COUNT),
  pause: 3,
});
report({ query, mutation, wrong, syntax, events });
