// What graphql-eslint says of the schema in SCHEMA, as JSON: a list of {rule, line, message}.
import { parser, plugin, rules } from "./lint-rules.mjs";
import { dirname } from "node:path";
import { ESLint } from "eslint";

const eslint = new ESLint({
  cwd: dirname(process.env.SCHEMA),
  overrideConfigFile: true,
  overrideConfig: [
    {
      files: ["**/*.graphql"],
      plugins: { "@graphql-eslint": plugin },
      languageOptions: { parser, parserOptions: { graphQLConfig: { schema: process.env.SCHEMA } } },
      rules,
    },
  ],
});
const [result] = await eslint.lintFiles([process.env.SCHEMA]);
const shown = result.messages.map(({ ruleId, line, message, fatal }) => ({ rule: fatal ? "fatal" : ruleId, line, message }));
console.log(JSON.stringify(shown));
