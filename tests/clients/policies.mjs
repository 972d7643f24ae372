// The policies of clients/typescript over the whole schema: every object type is written into the caches of Apollo and
// urql, and every amount that a query leads to is asked for in parts, in every order, of those two and of Relay's store.
import { spawnSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ApolloClient, ApolloLink, InMemoryCache, gql } from "@apollo/client";
import { relayStylePagination } from "@apollo/client/utilities";
import { Client, subscriptionExchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { relayPagination } from "@urql/exchange-graphcache/extras";
import { buildSchema, execute, getNamedType, getNullableType, introspectionFromSchema, isAbstractType } from "graphql";
import { isEnumType, isInputObjectType, isLeafType, isListType, isNonNullType, isObjectType, parse, print } from "graphql";
import relay from "relay-runtime";
import { Observable } from "rxjs";
import { report } from "./lib.mjs";

const wallet = await import(process.env.CLIENT);
const schema = buildSchema(await readFile(process.env.SCHEMA, "utf8"));
const warned = [];
console.warn = console.error = (...words) => warned.push(words.join(" "));

// ---------------------------------------------------------------- a wallet that answers anything

const AMOUNTS = [
  { minorUnits: "12345", decimal: "123.45", currency: "EUR" },
  { minorUnits: "678", decimal: "678", currency: "JPY" },
];
const LEAVES = { BigInt: "7", Int: 7, Boolean: true, DateTime: "2026-01-02T03:04:05Z", CurrencyCode: "EUR", String: "text" };
let amount = AMOUNTS[0];

function valueOf(type, key) {
  if (isListType(type)) return [0, 1].map((place) => valueOf(getNullableType(type.ofType), `${key}.${place}`));
  if (type.name === "Money") return amount;
  if (type.name === "ID") return key;
  if (isEnumType(type)) return type.getValues()[0].value;
  return isLeafType(type) ? LEAVES[type.name] : { key };
}

const fieldResolver = (source, _args, _wanted, { fieldName, parentType, returnType }) =>
  source?.[fieldName] ?? valueOf(getNullableType(returnType), `${source?.key ?? ""}/${parentType.name}.${fieldName}`);
const typeResolver = (_value, wanted, _info, type) => {
  const names = schema.getPossibleTypes(type).map(({ name }) => name);
  return wanted.find((name) => names.includes(name)) ?? names[0];
};
const answer = (document, wanted) => execute({ schema, document, contextValue: wanted, fieldResolver, typeResolver });

// ---------------------------------------------------------------- documents, made of the schema

const fieldsOf = (type) => Object.values(type.getFields());
const idOf = (type) => (isObjectType(type) && type.getFields().id ? "id" : "");

function literal(type) {
  if (isNonNullType(type)) return literal(type.ofType);
  if (isListType(type)) return `[${literal(type.ofType)}]`;
  if (isEnumType(type)) return type.getValues()[0].name;
  if (!isInputObjectType(type)) return JSON.stringify(LEAVES[type.name] ?? "text");
  const given = type.isOneOf ? fieldsOf(type).slice(0, 1) : fieldsOf(type).filter(isRequired);
  return `{${given.map((field) => `${field.name}: ${literal(field.type)}`)}}`;
}
const isRequired = ({ type, defaultValue }) => isNonNullType(type) && defaultValue === undefined;

function called({ name, args, type }) {
  const given = args.filter(isRequired).map((one) => `${one.name}: ${literal(one.type)}`);
  if (getNamedType(type).name.endsWith("Connection")) given.push("first: 2"); // the wallet wants one of first and last
  return given.length > 0 ? `${name}(${given})` : name;
}

/** For each object type that a root leads to: what asks for something of it on the shortest way, and what is passed. */
function waysFrom(root) {
  const ways = new Map();
  const open = [[root, { ask: (inner) => `{ ${inner} }`, passed: [] }]];
  for (const [type, { ask, passed }] of open)
    for (const field of fieldsOf(type)) {
      const kind = getNamedType(field.type);
      const kinds = isAbstractType(kind) ? schema.getPossibleTypes(kind) : [kind].filter(isObjectType);
      for (const one of kinds.filter(({ name }) => !ways.has(name))) {
        const next = (inner) => ask(`${idOf(type)} ${called(field)} { __typename ... on ${one.name} { ${idOf(one)} ${inner} } }`);
        ways.set(one.name, { ask: next, passed: [...passed, one.name] });
        open.push([one, ways.get(one.name)]);
      }
    }
  return ways;
}

/** All leaves of a type, and those of what it leads to at once. */
const wholeOf = (type, isInner = false) =>
  fieldsOf(type)
    .map((field) => {
      const kind = getNamedType(field.type);
      if (isLeafType(kind)) return called(field);
      return isInner ? "" : `${called(field)} { __typename ${isObjectType(kind) ? wholeOf(kind, true) : ""} }`;
    })
    .join(" ");

const ROOTS = { query: schema.getQueryType(), mutation: schema.getMutationType(), subscription: schema.getSubscriptionType() };
const documents = Object.entries(ROOTS).flatMap(([kind, root]) =>
  [...waysFrom(root)].map(([name, { ask, passed }]) => ({ kind, name, passed, text: `${kind} ${ask(wholeOf(schema.getType(name)))}` })),
);

const PARTS = ["decimal", "minorUnits", "decimal currency", "minorUnits decimal currency"];
const places = [...waysFrom(ROOTS.query)].flatMap(([name, { ask, passed }]) =>
  fieldsOf(schema.getType(name))
    .filter((field) => getNamedType(field.type).name === "Money")
    .map((field) => ({
      type: name,
      field: field.name,
      passed,
      texts: PARTS.map((part, n) => `query App${name}${field.name}${n}Query ${ask(`${called(field)} { ${part} }`)}`),
    })),
);

// ---------------------------------------------------------------- caches

// docs: begin apollo
const apolloCache = new InMemoryCache({
  possibleTypes: wallet.possibleTypes,
  typePolicies: wallet.apolloTypePolicies(relayStylePagination),
});
// docs: end
const link = new ApolloLink(
  (asked) =>
    new Observable((sink) => {
      sink.next(answer(asked.query, asked.getContext().wanted));
      sink.complete();
    }),
);
const apollo = new ApolloClient({ cache: apolloCache, link });
const urql = new Client({
  url: "http://wallet.invalid",
  exchanges: [
    // docs: begin urql
    cacheExchange({
      schema: introspectionFromSchema(schema),
      ...wallet.graphcachePolicies(relayPagination),
    }),
    // docs: end
    subscriptionExchange({
      enableAllOperations: true,
      forwardSubscription: ({ query }, { context }) => ({
        subscribe: (sink) => {
          sink.next(answer(parse(query), context.wanted));
          sink.complete();
          return { unsubscribe() {} };
        },
      }),
    }),
  ],
});

async function relayQueries() {
  const folder = process.env.OUT;
  const made = join(folder, "src", "__generated__");
  await mkdir(made, { recursive: true });
  const texts = places.flatMap(({ texts }) => texts).map((text) => `export const ${text.split(" ")[1]} = graphql\`${text}\`;`);
  await writeFile(join(folder, "src", "App.js"), `import { graphql } from "relay-runtime";\n${texts.join("\n")}\n`);
  await writeFile(join(folder, "package.json"), '{"type": "module"}');
  await writeFile(join(folder, "schema.graphql"), await readFile(process.env.SCHEMA));
  const config = { src: "./src", schema: "./schema.graphql", language: "javascript", artifactDirectory: "./src/__generated__" };
  await writeFile(join(folder, "relay.config.json"), JSON.stringify({ ...config, eagerEsModules: true }));
  const done = spawnSync(process.execPath, [process.env.RELAY_COMPILER], { cwd: folder, encoding: "utf8" });
  if (done.status !== 0) throw new Error(done.stdout + done.stderr);
  const load = async (text) => (await import(pathToFileURL(join(made, `${text.split(" ")[1]}.graphql.js`)))).default;
  return Object.fromEntries(await Promise.all(places.flatMap(({ texts }) => texts).map(async (text) => [text, await load(text)])));
}
const queries = await relayQueries();
const fetchFunction = () => null;
// docs: begin relay
const environment = new relay.Environment({
  network: relay.Network.create(fetchFunction),
  store: new relay.Store(new relay.RecordSource()),
  getDataID: wallet.relayDataId,
});
// docs: end
const operation = (text) => relay.createOperationDescriptor(queries[text], {});
const complete = { requestPolicy: "cache-only" };
const CACHES = {
  apollo: {
    write: (text, wanted) => apollo.query({ query: gql(text), fetchPolicy: "network-only", context: { wanted } }),
    read: (text) => apolloCache.readQuery({ query: gql(text) }),
  },
  urql: {
    write: (text, wanted) => urql.query(text, {}, { requestPolicy: "network-only", wanted }).toPromise(),
    read: async (text) => (await urql.query(text, {}, complete).toPromise()).data,
  },
  relay: {
    write: (text, wanted) => environment.commitPayload(operation(text), answer(parse(queries[text].params.text), wanted).data),
    read: (text) => (environment.check(operation(text)).status === "available" ? environment.lookup(operation(text).fragment).data : null),
  },
};

// ---------------------------------------------------------------- every type, every amount

async function take({ kind, passed, text }) {
  const context = { wanted: passed };
  if (kind === "query") await apollo.query({ query: gql(text), fetchPolicy: "network-only", context });
  else if (kind === "mutation") await apollo.mutate({ mutation: gql(text), context });
  else await new Promise((resolve, reject) => apollo.subscribe({ query: gql(text), context }).subscribe({ complete: resolve, error: reject }));
  const done = await urql[kind](text, {}, { requestPolicy: "network-only", ...context }).toPromise();
  if (done.error) throw done.error;
}
for (amount of AMOUNTS) for (const one of documents) await take(one);

/** The amounts in an answer. */
const amountsIn = (value) =>
  value === null || typeof value !== "object" ? [] : "decimal" in value || "minorUnits" in value ? [value] : Object.values(value).flatMap(amountsIn);
const isOne = (read, whole) => Object.entries(whole).every(([name, value]) => read[name] === undefined || read[name] === value);

const mixed = [];
const lost = [];
let turn = 0;
for (const { type, field, passed, texts } of places)
  for (const first of texts)
    for (const second of texts)
      for (const [name, { write, read }] of Object.entries(CACHES)) {
        for (const text of [first, second]) {
          amount = AMOUNTS[(turn += 1) % AMOUNTS.length];
          await write(text, passed);
        }
        const found = amountsIn(await read(second));
        if (found.length === 0 || !found.every((one) => isOne(one, amount))) lost.push([name, type, field, first, second].join(" "));
        for (const text of texts)
          if (!amountsIn(await read(text)).every((one) => AMOUNTS.some((whole) => isOne(one, whole)))) mixed.push([name, type, field, first, second].join(" "));
      }

report({ warned: warned.slice(0, 9), mixed: mixed.slice(0, 9), lost: lost.slice(0, 9), types: [...new Set(documents.map(({ name }) => name))].sort(), places: places.map(({ type, field }) => `${type}.${field}`) });
