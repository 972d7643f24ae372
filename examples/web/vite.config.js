// `vite build` writes wallet.js and wallet.css, gzipped, to where the package serves them from; `vite` is for development,
// and passes requests on to a wallet at WALLET (by default `wallet-gql demo` at http://127.0.0.1:8000).
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = process.env.OUT ?? at("../../src/wallet_gql/transports/web/wallet/built");
const target = process.env.WALLET ?? "http://127.0.0.1:8000";

/** Of all that the built files are made of, so that a test sees without npm whether they are old. */
async function hashOfSources() {
  const names = ["package-lock.json", "vite.config.js"];
  for (const folder of ["src", "../../clients/typescript/src"])
    for (const entry of await readdir(at(folder), { recursive: true, withFileTypes: true }))
      if (entry.isFile()) names.push(`${folder}/${relative(at(folder), `${entry.parentPath}/${entry.name}`)}`);
  const hash = createHash("sha256");
  for (const name of names.sort()) hash.update(`${name}\0`).update(await readFile(at(name))).update("\0");
  return hash.digest("hex");
}

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
    await copyFile(at("node_modules/preact/LICENSE"), `${out}/LICENSE.preact`); // its code is in wallet.js
    await writeFile(`${out}/sources.sha256`, await hashOfSources());
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
  // docs: begin proxy
  server: { proxy: { "/graphql": { target, ws: true, changeOrigin: false } } },
  // docs: end
});
