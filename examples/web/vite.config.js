// `vite build` writes wallet.js and wallet.css, gzipped, to where the package serves them from; `vite` is for development,
// and passes requests on to a wallet at WALLET (by default `wallet-gql demo` at http://127.0.0.1:8000).
import { mkdir, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = process.env.OUT ?? at("../../src/wallet_gql/transports/web/wallet/built");
const target = process.env.WALLET ?? "http://127.0.0.1:8000";

/** Writes each file gzipped, instead of as it is. */
const gzipped = {
  name: "gzipped",
  apply: "build",
  enforce: "post",
  async generateBundle(_options, bundle) {
    await rm(out, { recursive: true, force: true });
    await mkdir(out, { recursive: true });
    for (const [name, file] of Object.entries(bundle)) {
      await writeFile(`${out}/${name}.gz`, gzipSync(file.code ?? file.source, { level: 9 }));
      delete bundle[name];
    }
  },
};

export default defineConfig({
  plugins: [gzipped],
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  resolve: {
    alias: { "wallet-gql-client": at("../../clients/typescript/src/index.ts") },
    dedupe: ["preact"],
  },
  build: {
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    rollupOptions: {
      input: at("src/main.tsx"),
      output: { entryFileNames: "wallet.js", assetFileNames: "wallet[extname]", inlineDynamicImports: true },
    },
  },
  server: { proxy: { "/graphql": { target, ws: true, changeOrigin: false } } },
});
