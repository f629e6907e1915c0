// A student and a phone with a real gateway, over a network that cuts, delays and reorders: in Node and in Chromium.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { phone, watch } from "./drive.mjs";
import { fixAt, home, startGateway, startProxy } from "./gateway.mjs";

const page = `<!doctype html><title>test</title><script type="importmap">{"imports":{"@doorstep/client":"/dist/index.js"}}</script>
<script type="module">Object.assign(window, await import("/test/drive.mjs")); window.ready = true;</script>`;
const site = createServer(async (request, response) => {
  const text = request.url === "/" ? page : await readFile(new URL(`..${request.url}`, import.meta.url)).catch(() => "");
  response.writeHead(200, { "Content-Type": request.url === "/" ? "text/html" : "text/javascript" }).end(text);
});
let gateway, browser, origin;

/** Both kinds of client: watch and phone tell into a list; the phone takes fixes. */
const node = async () => ({
  watch: async (options, told) => void watch(options, (t) => told.push(t)),
  phone: async (options, told) => phone(options, (t) => told.push(t)),
  kept: async () => undefined,
  close: async () => {},
});
async function inChromium() {
  const context = await browser.newContext();
  const tab = await context.newPage();
  const lists = [];
  await tab.exposeFunction("told", (list, t) => void lists[list].push(t));
  const open = async () => {
    await tab.goto(origin);
    await tab.waitForFunction("window.ready");
  };
  await open();
  const begin = (kind) => async (options, told) => {
    const list = lists.push(told) - 1;
    await tab.evaluate(([kind, options, list]) => void (window[`run${list}`] = window[kind](options, (t) => window.told(list, t))), [kind, options, list]);
    return {
      report: (fix) => tab.evaluate(([list, fix]) => window[`run${list}`].report(fix), [list, fix]),
      arrive: (fix) => tab.evaluate(([list, fix]) => window[`run${list}`].arrive(fix), [list, fix]),
    };
  };
  const kept = () => tab.evaluate(() => new Promise((resolve) => {
    const request = indexedDB.open("doorstep", 1);
    request.onsuccess = () => {
      const all = request.result.transaction("queue").objectStore("queue").getAll();
      all.onsuccess = () => resolve(all.result[0]?.fixes);
    };
  }));
  return { tab, context, open, watch: begin("watch"), phone: begin("phone"), kept, close: () => context.close() };
}

/** Waits until the condition holds, 20 s at most. */
async function until(condition, what) {
  for (const end = Date.now() + 20_000; !condition(); await sleep(20)) assert.ok(Date.now() < end, `in vain: ${what()}`);
}
const saw = (seen, what) => until(() => seen.some(what), () => JSON.stringify(seen.slice(-3)));
const north = (view) => Math.round((view.location.latitude - home.latitude) * 111_195);

describe("with a real gateway", { concurrency: true }, () => {
  before(async () => {
    site.listen(0, "127.0.0.1");
    await once(site, "listening");
    origin = `http://127.0.0.1:${site.address().port}`;
    gateway = await startGateway(origin);
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"],
    });
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
    site.close();
  });

  for (const [name, client] of [["Node", node], ["Chromium", inChromium]]) {
    test(`${name}: a journey over a bad network, to the end of the lesson`, async () => {
      const [c, s, proxy] = [await client(), await gateway.book(), await startProxy(gateway.address)];
      const [seen, sent] = [[], []];
      await c.watch({ baseUrl: proxy.url, session: s.session, token: s.student }, seen);
      await saw(seen, (v) => v.status === "not_started");
      await s.start();
      await saw(seen, (v) => v.status === "on_the_way" && v.location === null);
      proxy.delay = 100;
      const p = await c.phone({ baseUrl: proxy.url, session: s.session, token: s.trainer, minimal: true }, sent);
      for (const [meters, spoil] of [
        [1200, () => {}], [1100, () => proxy.cut()], [1000, () => (proxy.loseAnswers = 1)], [900, () => proxy.cut()],
        [800, () => (proxy.late = 2, proxy.cut())], [700, () => {}], [600, () => {}],
        [500, async () => (proxy.refuse = true, proxy.cut(), await sleep(2500), (proxy.refuse = false))], [300, () => {}], [100, () => {}],
      ]) {
        await p.report(fixAt(meters));
        await spoil();
        await saw(seen, (v) => v.location && north(v) === meters);
        await sleep(1000);
      }
      await saw(seen, (v) => v.status === "arriving");
      const { otp } = await p.arrive(fixAt(20));
      await saw(seen, (v) => v.status === "arrived" && v.location === null && v.distanceMeters === null && v.fixAgeMs === null);
      await saw(sent, (t) => t.end === null);
      assert.equal(await c.kept(), undefined, "no fix stays on the disk");
      await s.verify(otp);
      await s.complete();
      await saw(seen, (v) => v.end === null);
      assert.equal(seen.at(-2).status, "ended");
      const way = seen.filter((v) => v.location).map(north);
      assert.deepEqual(way, [...way].sort((a, b) => b - a), "never backwards, whatever came late");
      assert.ok(sent.some((t) => t.receipt?.seq > 0 && t.receipt.nextUpdateMs >= 1000 && !("ttl" in t.receipt)), "stored, without a body, from another origin");
      assert.ok(seen.some((v) => v.problem) && sent.some((t) => t.error === "NoAnswer"), "the network was bad");
      assert.ok(proxy.connections < 60, `${proxy.connections} connections`);
      proxy.stop();
      await c.close();
    });

    test(`${name}: refusals`, async () => {
      const [c, s, other] = [await client(), await gateway.book(), await gateway.book()];
      const [foreign, expired, sent] = [[], [], []];
      await c.watch({ baseUrl: gateway.url, session: s.session, token: other.student }, foreign);
      await c.watch({ baseUrl: gateway.url, session: s.session, token: s.expired }, expired);
      const p = await c.phone({ baseUrl: gateway.url, session: s.session, token: s.trainer }, sent);
      await p.report(fixAt(900));
      await saw(sent, (t) => t.end === "NO_ACTIVE_JOURNEY");
      await saw(foreign, (t) => t.end === "FORBIDDEN");
      await saw(expired, (t) => t.end === "UNAUTHENTICATED");
      await assert.rejects(p.arrive(), /NO_ACTIVE_JOURNEY/);
      await c.close();
    });
  }

  test("Chromium: hidden and shown, offline and back", async () => {
    const [c, s, seen] = [await inChromium(), await gateway.book(), []];
    await s.start();
    await s.fix(900);
    await c.watch({ baseUrl: gateway.url, session: s.session, token: s.student }, seen);
    await saw(seen, (v) => v.location);
    const show = (state) => c.tab.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
    await show("hidden");
    await sleep(1000);
    await s.fix(800);
    await sleep(1000);
    assert.equal(north(seen.at(-1)), 900, "a hidden page asks nothing");
    await show("visible");
    await saw(seen, (v) => v.location && north(v) === 800);
    await c.context.setOffline(true);
    await saw(seen, (v) => v.problem === "NoAnswer");
    await c.context.setOffline(false);
    await until(() => seen.at(-1).problem === null, () => "online");
    await s.stop();
    await saw(seen, (v) => v.end === null);
    assert.deepEqual([seen.at(-2).status, seen.at(-2).location], ["ended", null]);
    await c.close();
  });

  test("Chromium: fixes outlive a reload of the page", async () => {
    const [c, s, proxy, sent] = [await inChromium(), await gateway.book(), await startProxy(gateway.address), []];
    await s.start();
    proxy.refuse = true;
    const options = { baseUrl: proxy.url, session: s.session, token: s.trainer };
    const p = await c.phone(options, sent);
    await p.report(fixAt(900));
    await sleep(4100);
    await p.report(fixAt(700));
    await saw(sent, (t) => t.error === "NoAnswer" && t.fixes.length === 2);
    assert.equal((await c.kept()).length, 2);
    await c.open();
    proxy.refuse = false;
    await c.phone(options, sent);
    await saw(sent, (t) => t.receipt?.counts?.stored === 2);
    await sleep(100);
    assert.equal(await c.kept(), undefined);
    proxy.stop();
    await c.close();
  });

  test("Node: six tabs of one student all see the journey, and do not fight", async () => {
    const [s, proxy] = [await gateway.book(), await startProxy(gateway.address)];
    await s.start();
    await s.fix(900);
    const [tabs, stop] = [Array.from({ length: 6 }, () => []), new AbortController()];
    for (const seen of tabs) void watch({ baseUrl: proxy.url, session: s.session, token: s.student, signal: stop.signal }, (t) => seen.push(t));
    await sleep(12_000);
    const before = proxy.requests;
    await sleep(5000);
    assert.equal(proxy.requests, before, "each has a place of its own");
    await s.fix(800);
    for (const seen of tabs) await saw(seen, (v) => v.location && north(v) === 800);
    stop.abort();
    proxy.stop();
  });
});
