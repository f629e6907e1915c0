// One command shows a trainer who drives, in a browser, until the code is typed in.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { launch, open, says } from "./setup.mjs";

test("the demo, watched by a parent and by the student", async () => {
  const demo = spawn(process.env.DOORSTEP_GATEWAY, ["demo", "--wait", "--journeys", "1", "--mode", "car", "--speed", "15", "--store", "memory"], { stdio: ["ignore", "pipe", "inherit"], env: { PATH: process.env.PATH } });
  process.on("exit", () => demo.kill("SIGKILL"));
  let out = "";
  const printed = new Promise((resolve) => demo.stdout.on("data", (text) => (out += text, /staff: .*\n/.test(out) && resolve())));
  await printed;
  const [map, student] = ["map", "student"].map((what) => new RegExp(`^${what}: (.+)$`, "m").exec(out)[1]);
  const browser = await launch();
  // The student first: the demo begins when a page is open.
  const own = await open(browser, "about:blank");
  await own.route("**/painted", (route) => route.fulfill({ status: 204 }));
  await own.goto(student);
  await own.getByRole("button", { name: "Sign in" }).click();
  await own.getByRole("link", { name: "The student of car-1" }).click();
  await says(own, "Not yet on the way");
  const page = await open(browser, map);
  await says(page, "Live · seen");
  await says(own, "Live · seen");
  await page.locator('.page:not([data-icon=""])').waitFor({ timeout: 60_000 });
  await says(page, "At the door", ".big");
  await says(own, "Read this code to your trainer");
  assert.match(await own.locator(".code").innerText(), /^(\d\s*){4}/);
  await says(own, "Lesson in progress");
  assert.deepEqual([...page.faults(), ...own.faults()], []);
  await browser.close();
  const [status] = await once(demo, "exit");
  assert.equal(status, 0, out);
  assert.match(out, /fix to pixel p50 \d+ ms, p99 \d+ ms, longest \d+ ms \(\d+ painted in a browser\)/);
  console.log(/fix to pixel.*/.exec(out)[0]);
});
