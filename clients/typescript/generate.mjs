// Makes src/documents.ts, the typed documents, of ../../schema.graphql and src/documents.graphql.
// With --check it writes nothing, and fails if the file is not what it would write.
import { readFile, writeFile } from "node:fs/promises";
import { codegen } from "@graphql-codegen/core";
import { preset } from "@graphql-codegen/client-preset";
import { buildASTSchema, parse } from "graphql";

const at = (path) => new URL(path, import.meta.url);
const schema = parse(await readFile(at("../../schema.graphql"), "utf8"));
const location = "documents.graphql";
const rawSDL = await readFile(at(`src/${location}`), "utf8");
const documents = [{ location, document: parse(rawSDL), rawSDL }];
const sections = await preset.buildGeneratesSection({
  baseOutputDir: "src/",
  schema,
  schemaAst: buildASTSchema(schema),
  documents,
  config: {
    scalars: { ID: "string", BigInt: "string", CurrencyCode: "string", DateTime: "string" },
    strictScalars: true,
    enumsAsTypes: true,
    onlyOperationTypes: true,
    documentMode: "string",
    useTypeImports: true,
    pureMagicComment: true, // so that a bundler drops what a page does not use
  },
  presetConfig: { fragmentMasking: false },
  plugins: [],
  pluginMap: {},
});
const section = sections.find(({ filename }) => filename.endsWith("graphql.ts"));
const generated = await codegen({ ...section, schema, documents: section.documents ?? documents });
// Its one import is a type of a package that users of ours would have to install.
const own = "export interface DocumentTypeDecoration<Result, Variables> {\n  __apiType?: (variables: Variables) => Result;\n}";
const text = generated.replace(/^import type .*typed-document-node.*$/m, own);
if (/^import /m.test(text)) throw new Error("codegen imports something else now");

if (!process.argv.includes("--check")) await writeFile(at("src/documents.ts"), text);
else if ((await readFile(at("src/documents.ts"), "utf8")) !== text) {
  console.error("src/documents.ts is old: run npm run generate");
  process.exitCode = 1;
}
