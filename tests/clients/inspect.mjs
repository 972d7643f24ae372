// What breaks for clients between the schemas in OLD and NEW, as JSON: a list of {type, path, message}.
import { readFile } from "node:fs/promises";
import { CriticalityLevel, diff } from "@graphql-inspector/core";
import { buildSchema } from "graphql";

const [before, after] = await Promise.all(
  [process.env.OLD, process.env.NEW].map(async (path) => buildSchema(await readFile(path, "utf8"))),
);
const changes = await diff(before, after);
const breaks = changes.filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking);
console.log(JSON.stringify(breaks.map(({ type, path, message }) => ({ type, path, message }))));
