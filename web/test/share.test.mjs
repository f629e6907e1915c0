// A share link on a phone: a recorded drive, from the start to the door, and every other way in which it can end.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startMap } from "./issuer.mjs";
import { accessible, arrive, drive, held, home, launch, middle, open, picture, placeAt, recording, says, sleep, startPages } from "./setup.mjs";

const go = [0x0b, 0x7a, 0x53]; // the pin's ring, and nothing else as far away from the fence
const [magenta, cyan] = [[255, 0, 255], [0, 255, 255]];
const dots = [{ color: "#ff00ff", ...placeAt(1300, -500) }, { color: "#00ffff", ...placeAt(300, -800) }];

describe("a share link", { concurrency: true }, () => {
  let browser, gateway, brief, mapped, map;
  before(async () => {
    map = await startMap(home, dots);
    [browser, gateway, brief, mapped] = await Promise.all([
      launch(), startPages(), startPages({ DOORSTEP_JOURNEY_TTL: "15s" }), startPages({ DOORSTEP_MAP_STYLE_URL: `${map.url}/style.json` }),
    ]);
  });
  after(async () => {
    await browser?.close();
    await Promise.all([gateway, brief, mapped].map((g) => g?.stop()));
    map?.stop();
  });

  const share = async (at, s) => at.call(s.student, "POST", `/students/sessions/${s.session}/share-links`);
  /** A journey that has begun, and its link. */
  const begin = async (at = gateway) => {
    const s = await at.book();
    const { url, linkId } = await share(at, s);
    await s.start();
    return { s, url, linkId };
  };
  /** Nothing of a place is left: of one written in degrees, its first digits. */
  const holdsNoPlace = async (page, what) => {
    const all = await held(page);
    for (const { latitude, longitude } of [home, ...recording.map(([north, east]) => placeAt(north, east))]) {
      for (const degrees of [latitude, longitude]) assert.ok(!all.includes(String(degrees).slice(0, 6)), `${what}: ${degrees} in ${all}`);
    }
    assert.equal(await page.locator("svg .pin:not(.away), svg .house:not(.away), .map canvas").count(), 0, what);
  };

  test("a drive from the start to the door, in two browsers", async () => {
    const s = await gateway.book();
    const { url } = await share(gateway, s);
    const [phone, dark] = await Promise.all([
      open(browser, url), open(browser, url, { viewport: { width: 320, height: 568 }, colorScheme: "dark", locale: "de-DE", reducedMotion: "reduce" }),
    ]);
    await Promise.all([says(phone, "Not yet on the way"), says(dark, "Noch nicht unterwegs")]);
    assert.equal(phone.url(), `${gateway.url}/t`, "the address has no token any more");
    await accessible(phone, "not started");
    await picture(phone, "page-not-started");
    await s.start();
    for (const [i, [north, east, heading]] of recording.entries()) {
      await drive(gateway, s, north, east, { heading });
      await sleep(i === 5 ? 2600 : 1050);
      if (i === 0) await says(phone, /Live · seen [0-9] s ago/);
      if (i === 5) {
        await near(phone, north, east);
        await accessible(phone, "on the way");
        await accessible(dark, "on the way, dark");
        await picture(phone, "page-on-the-way");
        await picture(dark, "page-dark-320");
        assert.ok(!(await held(phone)).includes(s.session), "no id");
      }
    }
    await Promise.all([says(phone, "Your trainer is almost there"), says(dark, "gleich da")]);
    assert.equal(await dark.evaluate(() => document.documentElement.scrollWidth), 320, "nothing is wider than 320 px");
    const token = JSON.parse(await phone.evaluate(() => JSON.stringify(sessionStorage.getItem("doorstep-link"))));
    const { otp } = await arrive(gateway, s);
    await Promise.all([says(phone, "At the door"), says(dark, "An der Tür")]);
    await sleep(1000);
    for (const page of [phone, dark]) {
      await holdsNoPlace(page, "at the door");
      assert.ok(!(await page.locator("body").innerText()).includes(otp), "no code on a share link");
      assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    }
    const again = await fetch(`${gateway.url}/api/v1/share/live`, { headers: { Authorization: `Bearer ${token}` } });
    assert.deepEqual([again.status, (await again.json()).code], [404, "LINK_GONE"]);
    await accessible(phone, "at the door");
    await picture(phone, "page-at-the-door");
    await phone.reload();
    await says(phone, "This link has ended");
    await holdsNoPlace(phone, "loaded again");
    for (const page of [phone, dark]) assert.deepEqual(page.faults(), []);
    await Promise.all([phone.close(), dark.close()]);
  });

  /** The pin is drawn where the trainer is: by the picture's own scale and house, within 3 px. */
  const near = async (page, north, east) => {
    const { house, scale, meters } = await page.evaluate(() => {
      const middle = (box) => ({ x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 });
      const scale = document.querySelector(".scale");
      return {
        house: middle(document.querySelector(".fence").getBoundingClientRect()), scale: scale.getBoundingClientRect().width,
        meters: parseFloat(scale.textContent) * (scale.textContent.includes("km") ? 1000 : 1),
      };
    });
    const truth = { x: house.x + (east * scale) / meters, y: house.y - (north * scale) / meters };
    const pin = await middle(browser, await page.screenshot(), go, truth);
    assert.ok(Math.abs(pin.width - 35) <= 2, `the ring is ${pin.width} px wide`);
    assert.ok(Math.hypot(pin.x - truth.x, pin.y - truth.y) < 3, `the pin is at ${JSON.stringify(pin)}, the trainer at ${JSON.stringify(truth)}`);
  };

  test("on a map", async () => {
    const { s, url } = await begin(mapped);
    const page = await open(browser, url);
    for (const [north, east, heading] of recording.slice(0, 5)) {
      await drive(mapped, s, north, east, { heading });
      await sleep(1050);
    }
    await page.locator(".mapped").waitFor();
    const [north, east] = recording[4];
    const part = { x: (east - -500) / (-800 - -500), y: (north - 1300) / (300 - 1300) };
    let pin, truth, off = Infinity;
    for (let tries = 0; !(off < 3) && tries < 20; tries++) { // a map is drawn later than what lies on it
      await sleep(300);
      const shot = await page.screenshot();
      const [a, b] = [await middle(browser, shot, magenta), await middle(browser, shot, cyan)];
      truth = { x: a.x + (b.x - a.x) * part.x, y: a.y + (b.y - a.y) * part.y };
      pin = await middle(browser, shot, go, truth);
      off = Math.hypot(pin.x - truth.x, pin.y - truth.y);
    }
    assert.ok(off < 3, `the pin is at ${JSON.stringify(pin)}, the trainer at ${JSON.stringify(truth)}`);
    await picture(page, "page-map");
    await accessible(page, "on a map");
    assert.deepEqual(map.asked.filter((a) => a.referrer || a.cookie), []);
    const hosts = new Set(page.asked.map((r) => new URL(r.url()).origin));
    assert.deepEqual([...hosts].sort(), ["null", mapped.url, map.url].filter((o) => hosts.has(o)).sort(), "nobody else is asked");
    await s.stop();
    await says(page, "Not on the way any more");
    await sleep(1000);
    await holdsNoPlace(page, "after the end, with a map");
    assert.deepEqual(page.faults(), []);
    await page.close();
  });

  test("a map that cannot be had does not matter", async () => {
    const { s, url } = await begin(mapped);
    await drive(mapped, s, ...recording[0]);
    const page = await open(browser, "about:blank");
    await page.route("**/style.json", (route) => route.abort());
    await page.goto(url);
    await page.locator(".pin:not(.away)").waitFor();
    assert.equal(await page.locator(".ranges").isVisible(), true);
    await page.close();
  });

  test("offline and back, and the signal lost", async () => {
    const { s, url } = await begin();
    await drive(gateway, s, ...recording[0]);
    const page = await open(browser, url);
    await page.locator(".pin:not(.away)").waitFor();
    await page.context().setOffline(true);
    await says(page, "This device has no connection just now");
    await says(page, /No connection · seen \d+ s ago/);
    await page.context().setOffline(false);
    await sleep(1050);
    await drive(gateway, s, ...recording[1]);
    await says(page, "Live · seen");
    await sleep(1050);
    assert.equal(await page.locator('.page[data-tone="go"]').count(), 1);
    // The same fixes, as if the phone had sent nothing for 40 s.
    await page.route("**/share/live*", async (route) => {
      const response = await route.fetch();
      const json = response.status() === 200 ? await response.json() : undefined;
      if (json) json.data.fixAgeMs += 40_000;
      await route.fulfill(json ? { response, json } : { response });
    });
    for (const [north, east] of recording.slice(2, 4)) { // the first only ends the wait that is under way
      await drive(gateway, s, north, east);
      await sleep(1050);
    }
    await says(page, /^Seen \d+ s ago$/, ".chip");
    await says(page, "No signal from the trainer's phone just now");
    await accessible(page, "signal lost");
    await picture(page, "page-signal-lost");
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.close();
  });

  test("where the pages were not built: the plain page", async () => {
    const plain = await startPages({}, process.env.DOORSTEP_PLAIN_GATEWAY);
    const { s, url } = await begin(plain);
    await drive(plain, s, ...recording[14]);
    const page = await open(browser, url);
    await page.locator(".pin:not(.away)").waitFor();
    await sleep(1050);
    await drive(plain, s, ...recording[15]);
    await says(page, "Your trainer is almost there");
    await accessible(page, "plain");
    await sleep(1600); // the page asks again within 1.5 s; a link that has ended before that says no more than that
    await arrive(plain, s);
    await says(page, "At the door");
    await sleep(1000);
    await holdsNoPlace(page, "plain, at the door");
    await page.reload();
    await says(page, "This link has ended");
    assert.deepEqual(page.faults(), []);
    await page.close();
    await plain.stop();
  });

  test("revoked", async () => {
    const { s, url, linkId } = await begin();
    await drive(gateway, s, ...recording[0]);
    const page = await open(browser, url);
    await page.locator(".pin:not(.away)").waitFor();
    const answer = await fetch(`${gateway.url}/api/v1/students/sessions/${s.session}/share-links/${linkId}`, { method: "DELETE", headers: { Authorization: `Bearer ${s.student}` } });
    assert.equal(answer.status, 204);
    await page.locator('.page[data-icon="end"]').waitFor({ timeout: 10_000 });
    await sleep(1000);
    await holdsNoPlace(page, "revoked");
    await page.close();
  });

  test("timed out", async () => {
    const { s, url } = await begin(brief);
    await drive(brief, s, ...recording[0]);
    const page = await open(browser, url);
    await page.locator(".pin:not(.away)").waitFor();
    await page.locator('.page[data-icon="end"]').waitFor({ timeout: 30_000 });
    await holdsNoPlace(page, "timed out");
    await page.close();
  });

  test("never was one", async () => {
    for (const token of ["", "#aaaaaaaaaaaaaaaaaaaaaaaaaa", "#<script>"]) {
      const page = await open(browser, `${gateway.url}/t${token}`);
      await says(page, "This link has ended");
      await page.close();
    }
  });

  test("the page is small, and keeps itself to itself", async () => {
    const page = await open(browser, `${gateway.url}/t`);
    const sizes = await Promise.all(page.asked.filter((r) => r.url().startsWith("http")).map(async (r) => (await r.sizes()).responseBodySize));
    const size = sizes.reduce((a, b) => a + b, 0);
    assert.ok(size < 50_000, `the first view takes ${size} bytes`);
    console.log(`first view: ${size} bytes in ${sizes.length} requests`);
    for (const path of ["/t", new URL(await page.locator("script").first().getAttribute("src"), page.url()).pathname]) {
      const { headers } = await fetch(gateway.url + path);
      const policy = headers.get("content-security-policy");
      assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';.*frame-ancestors 'none'/);
      assert.doesNotMatch(policy, /unsafe|\*/);
      assert.deepEqual(["referrer-policy", "x-content-type-options", "x-frame-options"].map((name) => headers.get(name)), ["no-referrer", "nosniff", "DENY"]);
      assert.equal(headers.get("cache-control"), path === "/t" ? "no-cache" : "public, max-age=31536000, immutable");
    }
    await page.close();
  });
});
