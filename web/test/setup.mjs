// What the tests of the pages share: a gateway with pages, a browser, a drive, and the pixels of a picture.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { fixAt, home, startGateway } from "../client/test/gateway.mjs";
import { startIssuer } from "./issuer.mjs";

export { home, sleep };
const axe = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

/** With it the pictures of docs/img are made anew. */
const pictures = process.env.DOORSTEP_SCREENSHOTS ? new URL("../../docs/img/", import.meta.url) : undefined;

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"],
});

export const startPages = (settings, program) => startGateway("http://127.0.0.1:1", {
  DOORSTEP_PAGES: "true", DOORSTEP_MAX_SPEED_CAR: "3000", DOORSTEP_CEILING_CAR: "3000", ...settings,
}, program);

/** Opens a page as on a phone. All that it asks for is in asked, and what goes wrong in it is a failure. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 390, height: 780 }, ...options });
  const page = await context.newPage();
  page.asked = [];
  page.on("request", (request) => page.asked.push(request));
  page.on("pageerror", (error) => page.asked.push({ url: () => `error: ${error.message}` }));
  page.on("console", (message) => /Content Security Policy/.test(message.text()) && page.asked.push({ url: () => `error: ${message.text()}` }));
  await page.goto(url);
  page.close = () => context.close();
  page.faults = () => page.asked.map((r) => r.url()).filter((u) => u.startsWith("error:"));
  return page;
}

/** Waits until the page says it, 15 s at most. */
export async function says(page, text, selector = "body") {
  await page.locator(selector).filter({ hasText: text }).first().waitFor({ timeout: 15_000 }).catch(async () => {
    assert.fail(`in vain: ${text}; the page says ${JSON.stringify(await page.locator("body").innerText())}`);
  });
}

/** Reports a place, east and north of the home, metres; a second must lie between two. */
export async function drive(gateway, s, north, east, more = {}) {
  const place = placeAt(north, east);
  await gateway.call(s.trainer, "POST", "/admin/location-tracking/journey/updates", { sessionId: s.session, ...fixAt(0), ...place, ...more });
  return place;
}

export const placeAt = (north, east) => ({
  latitude: home.latitude + north / 111_195, longitude: home.longitude + east / 111_195 / Math.cos((home.latitude * Math.PI) / 180),
});

/** A drive that was recorded, thinned to what a test has time for: north, east, heading. It ends at the door. */
export const recording = [
  [1480, -1310, 92], [1476, -1120, 91], [1473, -930, 90], [1390, -922, 176], [1205, -915, 178], [1010, -908, 178], [1004, -700, 90], [1001, -480, 92], [840, -470, 177],
  [640, -462, 178], [430, -455, 177], [425, -250, 91], [270, -240, 175], [262, -60, 92], [150, -52, 170], [45, -20, 150],
];

/** Arrives, as soon as the track is long enough to be believed. */
export async function arrive(gateway, s) {
  for (let tries = 0; ; tries++) {
    try {
      return await gateway.call(s.trainer, "POST", `/admin/sessions/${s.session}/arrived`);
    } catch (error) {
      if (tries > 20 || !/SUSPICIOUS|NO_FRESH/.test(error.message)) throw error;
      await sleep(1000);
    }
  }
}

/** Finds nothing serious that keeps people out. */
export async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  assert.deepEqual(serious.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 120))]), [], what);
}

/** Takes a picture for the documents. The drive is in a hurry; in the picture its ETA is a car's. */
export async function picture(page, name) {
  if (!pictures) return;
  await page.evaluate(() => {
    const [eta, far] = document.querySelector(".big")?.childNodes ?? [];
    const km = parseFloat(far?.textContent.match(/[\d.,]+/)?.[0].replace(",", "."));
    if (far?.textContent.endsWith("km")) eta.data = eta.data.replace(/.+/, (text) => (text.startsWith("about") ? `about ${Math.round(km * 2.4)} min` : `${Math.round(km * 2.2)}–${Math.round(km * 2.8)} min`));
  });
  await page.screenshot({ path: new URL(`${name}.png`, pictures).pathname });
}

/** The middle of the box around the pixels of exactly one colour in a screenshot, px; within so far of a point, where one is given. */
export async function middle(browser, screenshot, color, near, within = 40) {
  const shot = screenshot.toString("base64");
  const reader = await browser.newPage();
  const found = await reader.evaluate(async ([shot, color, near, within]) => {
    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${shot}`)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    canvas.drawImage(bitmap, 0, 0);
    const { data } = canvas.getImageData(0, 0, bitmap.width, bitmap.height);
    const box = { left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity };
    for (let i = 0; i < data.length; i += 4) {
      if (data[i] !== color[0] || data[i + 1] !== color[1] || data[i + 2] !== color[2]) continue;
      const [x, y] = [(i / 4) % bitmap.width, Math.floor(i / 4 / bitmap.width)];
      if (near && Math.hypot(x - near.x, y - near.y) > within) continue;
      Object.assign(box, { left: Math.min(box.left, x), right: Math.max(box.right, x), top: Math.min(box.top, y), bottom: Math.max(box.bottom, y) });
    }
    return { x: (box.left + box.right + 1) / 2, y: (box.top + box.bottom + 1) / 2, width: box.right - box.left + 1 };
  }, [shot, color, near, within]);
  await reader.close();
  return found; // not finite where there is no such pixel
}

/** All that the page holds as text: its document, its storage, its address. */
export const held = (page) => page.evaluate(async () => JSON.stringify([
  document.documentElement.outerHTML, { ...sessionStorage }, { ...localStorage }, location.href, history.state,
  (await indexedDB.databases()).map((d) => d.name), await caches.keys(),
]));

/** A browser, and a gateway with pages at which people sign in at an issuer. stop() ends all three. */
export async function startWithIssuer() {
  const issuer = await startIssuer();
  const settings = { DOORSTEP_PAGES_OIDC_ISSUER: issuer.url, DOORSTEP_PAGES_OIDC_CLIENT_ID: "pages" };
  const [browser, gateway] = await Promise.all([launch(), startPages(settings)]);
  const stop = async () => {
    await browser.close();
    await gateway.stop();
    issuer.stop();
  };
  return { browser, gateway, issuer, stop };
}
