// The recommended rules for schemas and for Relay, and some more; where one of them is bent, the reason stands here.
import graphqlPlugin from "@graphql-eslint/eslint-plugin";

export const plugin = graphqlPlugin;
export const parser = graphqlPlugin.parser;

export const rules = {
  ...graphqlPlugin.configs["flat/schema-recommended"].rules,
  ...graphqlPlugin.configs["flat/schema-relay"].rules,
  // Amounts, results, errors and edges are values; what has an identity implements Node, which has the id.
  "@graphql-eslint/strict-id-in-types": "off",
  // Histories are paged one way, newest first: there is no `last` and no `before` to get wrong.
  "@graphql-eslint/relay-arguments": ["error", { includeBoth: false }],
  // Short lists that are no connections are lists; an entry is found by its account and sequence, not by an id.
  "@graphql-eslint/relay-edge-types": [
    "error",
    { withEdgeSuffix: true, shouldImplementNode: false, listTypeCanWrapOnlyEdgeType: false },
  ],
  "@graphql-eslint/require-nullable-fields-with-oneof": "error",
  "@graphql-eslint/require-description": [
    "error",
    { types: true, FieldDefinition: true, InputValueDefinition: true, EnumValueDefinition: true },
  ],
  "@graphql-eslint/require-deprecation-reason": "error",
  "@graphql-eslint/input-name": ["error", { checkInputType: true, caseSensitiveInputType: false }],
  "@graphql-eslint/no-scalar-result-type-on-mutation": "error",
};
