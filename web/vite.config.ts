import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
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

/** Writes the licences of what is in the pages besides our own: they ask for it. */
const licenses: Plugin = {
  name: "licenses",
  apply: "build",
  generateBundle() {
    const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8")) as { packages: Record<string, { dev?: boolean; version?: string }> };
    const shipped = Object.entries(packages).filter(([folder, { dev }]) => folder && !dev && existsSync(folder));
    const texts = shipped.map(([folder, { version }]) => {
      const file = readdirSync(folder).find((name) => /^(licen[cs]e|copying)/i.test(name));
      return `${folder.replace("node_modules/", "")} ${version}\n\n${file ? readFileSync(`${folder}/${file}`, "utf8") : `${(JSON.parse(readFileSync(`${folder}/package.json`, "utf8")) as { license: string }).license}\n`}`;
    });
    this.emitFile({ type: "asset", name: "licenses.txt", source: texts.join(`\n${"-".repeat(80)}\n\n`) });
  },
};

export default defineConfig({
  base: "./",
  plugins: [licenses, compressed],
  resolve: { alias: { "@doorstep/client": new URL("client/src/index.ts", import.meta.url).pathname } },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false }, // the polyfill would be a script in the page
    chunkSizeWarningLimit: 1500, // MapLibre, which is fetched only where there is a map
    rollupOptions: {
      input: ["t.html", "ops.html", "drive.html", "src/sw.ts"],
      output: { entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
    },
  },
});
