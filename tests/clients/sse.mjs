// graphql-sse, with one connection for each operation: a query, a mutation, errors, a subscription that resumes.
import { createClient } from "graphql-sse";
import { ACCOUNT, ACCOUNTS, HTTP, PAY, WATCH, WRONG, authorization, follow, payment, report } from "./lib.mjs";

const client = createClient({ url: HTTP, retryAttempts: 0, headers: { authorization } });
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
let stop;
const events = await follow({
  subscribe: (after, sink) => {
    stop = client.subscribe(
      { query: WATCH, variables: { id: ACCOUNT, after } },
      { ...sink, next: ({ data }) => sink.next(data.accountEvents) },
    );
    return stop;
  },
  tear: () => stop(),
  count: Number(process.env.COUNT),
  pause: 3,
});
report({ query, mutation, wrong, syntax, events });
