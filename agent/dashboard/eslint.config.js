import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist", "node_modules", "src/api/schema.d.ts"] },
  ...tseslint.configs.strict,
  {
    rules: {
      eqeqeq: "error",
      "no-console": ["error", { allow: ["error"] }],
      "no-eval": "error",
      "no-implied-eval": "error",
      // Whatever an agent sends is text, never markup.
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "insert text as text" },
        { property: "outerHTML", message: "insert text as text" },
        { property: "insertAdjacentHTML", message: "insert text as text" },
        { object: "document", property: "write", message: "insert text as text" },
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']",
          message: "insert text as text",
        },
        { selector: "Property[key.name='dangerouslySetInnerHTML']", message: "insert text as text" },
      ],
    },
  },
  { files: ["e2e/**", "mock/**"], rules: { "no-console": "off", "@typescript-eslint/no-explicit-any": "off" } },
);
