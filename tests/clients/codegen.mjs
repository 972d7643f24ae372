// graphql-codegen's client preset over SCHEMA and operations.graphql: writes typed documents and the manifest into OUT.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { codegen } from "@graphql-codegen/core";
import { preset } from "@graphql-codegen/client-preset";
import { buildASTSchema, parse } from "graphql";

const schema = parse(await readFile(process.env.SCHEMA, "utf8"));
const location = "operations.graphql";
const rawSDL = await readFile(new URL(location, import.meta.url), "utf8");
const documents = [{ location, document: parse(rawSDL), rawSDL }];
const out = `${process.env.OUT}/`;
// docs: begin config
const config = {
  scalars: { BigInt: "string", CurrencyCode: "string", DateTime: "string" },
  enumsAsTypes: true,
  strictScalars: true,
};
// docs: end
const sections = await preset.buildGeneratesSection({
  baseOutputDir: out,
  schema,
  schemaAst: buildASTSchema(schema),
  documents,
  config,
  presetConfig: { persistedDocuments: true, fragmentMasking: false },
  plugins: [],
  pluginMap: {},
});
for (const section of sections) {
  const text = await codegen({ ...section, schema: section.schema ?? schema, documents: section.documents ?? documents });
  const path = join(section.filename);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}
console.log(JSON.stringify(sections.map(({ filename }) => filename)));
