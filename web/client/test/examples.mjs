// Writes the programs of docs/client.md into test/generated, one file each, for tsc to hold against the client's types.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const folder = new URL("generated/", import.meta.url);
const page = readFileSync(new URL("../../../docs/client.md", import.meta.url), "utf8");
const programs = [...page.matchAll(/^```(js|ts|tsx) (\w+)\n([^]*?)^```$/gm)];
if (programs.length < 3) throw new Error("docs/client.md has no programs");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
for (const [, kind, name, text] of programs) writeFileSync(new URL(`${name}.${kind}`, folder), text);
