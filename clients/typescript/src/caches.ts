// What normalising caches must be told of the wallet's schema, without depending on any of them.
import { connections, embeddedTypes } from "./facts.js";

/** Apollo's `relayStylePagination`, or a function like it. */
type ByKeyArgs = (keyArgs: string[]) => object;

/**
 * Apollo's `typePolicies`. Pages of a list are joined, and what has no id of its own, such as an amount, is replaced
 * as a whole: merged field by field, an old `decimal` could stand beside new `minorUnits`.
 *
 * @param pagination `relayStylePagination` of `@apollo/client/utilities`
 */
export function apolloTypePolicies(pagination: ByKeyArgs): Record<string, object> {
  const policies: Record<string, object> = {};
  for (const name of embeddedTypes) policies[name] = { keyFields: false, merge: false };
  for (const [name, fields] of Object.entries(connections)) {
    const joined = Object.entries(fields).map(([field, keyArgs]) => [field, pagination([...keyArgs])]);
    policies[name] = { ...policies[name], fields: Object.fromEntries(joined) };
  }
  return policies;
}

type Values = Readonly<Record<string, unknown>>;

/** Minor units of a decimal, which has all of its currency's digits: `12.30` is `1230`. */
const minorOf = (decimal: unknown): string | null =>
  typeof decimal === "string" && /^-?\d+(\.\d+)?$/.test(decimal) ? String(BigInt(decimal.replace(".", ""))) : null;

/**
 * An amount is what it is: a thing of its own, named by its digits and currency. A part without its currency is named by
 * that part alone, so that parts of two answers never meet in one amount.
 */
function keyOfMoney(data: Values): string | null {
  const minor = data["minorUnits"] ?? minorOf(data["decimal"]);
  if (minor && data["currency"]) return `${String(minor)} ${String(data["currency"])}`;
  const parts = Object.entries(data).filter(([name]) => name !== "__typename");
  return parts.length > 0 ? JSON.stringify(parts.sort()) : null;
}

/** Relay's `getDataID`: the id of what has one, and the value of an amount. */
export function relayDataId(data: Values, typename: string): unknown {
  const key = typename === "Money" ? keyOfMoney(data) : null;
  return key === null ? data["id"] : `Money:${key}`;
}

/**
 * The `keys` and `resolvers` of urql's Graphcache.
 *
 * @param pagination makes a resolver: `relayPagination` of `@urql/exchange-graphcache/extras`
 */
export function graphcachePolicies<Resolver>(pagination: () => Resolver): {
  keys: Record<string, (data: Values) => string | null>;
  resolvers: Record<string, Record<string, Resolver>>;
} {
  const keys = { ...Object.fromEntries(embeddedTypes.map((name) => [name, () => null])), Money: keyOfMoney };
  const resolvers: Record<string, Record<string, Resolver>> = {};
  for (const [name, fields] of Object.entries(connections)) {
    resolvers[name] = Object.fromEntries(Object.keys(fields).map((field) => [field, pagination()]));
  }
  return { keys, resolvers };
}
