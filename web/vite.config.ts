import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** Writes each asset a second and a third time, compressed, so that the gateway need not do it. */
const compressed: Plugin = {
  name: "compressed",
  apply: "build",
  closeBundle() {
    for (const name of readdirSync("dist/assets")) {
      const text = readFileSync(`dist/assets/${name}`);
      if (!/\.(m?js|css)$/.test(name) || text.length < 1024) continue;
      writeFileSync(`dist/assets/${name}.gz`, gzipSync(text, { level: 9 }));
      writeFileSync(`dist/assets/${name}.br`, brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: text.length } }));
    }
  },
};

export default defineConfig({
  base: "./",
  plugins: [compressed],
  resolve: { alias: { "@doorstep/client": new URL("client/src/index.ts", import.meta.url).pathname } },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false, // it would inline a script of its own
    chunkSizeWarningLimit: 1500, // MapLibre, which is fetched only where there is a map
    rollupOptions: {
      input: ["t.html", "ops.html", "drive.html", "src/sw.ts"],
      output: { entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
    },
  },
});
