// The staff's page: what runs, what needs a look, and what happened; and ten thousand journeys at once.
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { accessible, drive, open, picture, placeAt, recording, says, sleep, startWithIssuer } from "./setup.mjs";

describe("/ops", { concurrency: true }, () => {
  let browser, gateway, issuer, stop;
  before(async () => {
    ({ browser, gateway, issuer, stop } = await startWithIssuer());
    issuer.person = { token: gateway.token("admin", randomUUID()) };
  });
  after(() => stop?.());

  /** The page, signed in. prepare is called before. */
  const enter = async (prepare = () => {}, options = { viewport: { width: 1180, height: 720 } }) => {
    const page = await open(browser, "about:blank", options);
    await prepare(page);
    await page.goto(`${gateway.url}/ops`);
    await page.getByRole("button", { name: "Sign in" }).click();
    return page;
  };

  test("what runs, and one journey's story", async () => {
    const [a, b] = [await gateway.book(), await gateway.book()];
    for (const s of [a, b]) await s.start();
    for (const [north, east, heading] of recording.slice(0, 2)) {
      await drive(gateway, a, north, east, { heading });
      await drive(gateway, b, -north, east, { heading });
      await sleep(1100);
    }
    const page = await enter();
    await page.locator(`[data-session="${a.session}"]`).waitFor();
    await page.getByRole("searchbox").fill(b.trainerId);
    await page.locator(`[data-session="${a.session}"]`).waitFor({ state: "detached" });
    await page.locator(`[data-session="${b.session}"]`).click();
    await says(page, `…${b.session.slice(-4)}, as it happened`);
    await says(page, "started by the trainer, by car", ".story");
    await page.getByRole("searchbox").fill("");
    await accessible(page, "all journeys");
    await b.stop();
    await says(page, "stopped by the trainer", ".story");
    await page.locator(`.rows [data-session="${b.session}"]`).waitFor({ state: "detached" });
    await page.getByRole("searchbox").fill(b.session);
    await says(page, "scheduled", ".rows");
    assert.deepEqual(page.faults(), []);
    await page.close();
  });

  test("somebody else gets no further", async () => {
    const s = await gateway.book();
    const page = await enter((p) => p.route("**/token", (route) => route.fulfill({
      headers: { "Access-Control-Allow-Origin": "*" }, json: { access_token: s.student, token_type: "Bearer" },
    })));
    await says(page, "this is not for your role");
    await page.close();
  });

  test("ten thousand journeys", async () => {
    const random = (i, n) => createHash("sha256").update(`${i} ${n}`).digest().readUInt32LE() / 2 ** 32;
    const many = Array.from({ length: 10_000 }, (_, i) => {
      const angle = random(i, 3) * 2 * Math.PI;
      const far = 9000 * random(i, 5) ** 2;
      return {
        sessionId: uuid(i, "a"), trainerId: uuid(i, "b"), studentId: uuid(i, "c"), startedAt: new Date(Date.now() - random(i, 7) * 2_400_000).toISOString(), travelMode: "car", phase: "on_the_way",
        location: { ...placeAt(far * Math.cos(angle), far * Math.sin(angle) * 1.6), timestamp: new Date().toISOString() }, fixAgeMs: 2000, distanceMeters: 300 + 9000 * random(i, 11),
        etaSeconds: Math.round(60 + 1500 * random(i, 11)), silentSeconds: i % 400 === 7 ? 48 + (i % 70) : 3, flags: i % 3000 === 11 ? ["implausible_speed"] : [],
      };
    });
    const page = await enter((p) => p.route("**/api/v1/admin/journeys*", (route) => {
      const from = Number(new URL(route.request().url()).searchParams.get("cursor") ?? 0);
      const next = from + 200 < many.length ? String(from + 200) : null;
      return route.fulfill({ json: { success: true, message: "", data: { journeys: many.slice(from, from + 200), nextCursor: next } } });
    }));
    await says(page, "10,000 · 4 suspicious · 25 silent");
    await accessible(page, "ten thousand");
    await picture(page, "page-ops");
    // Each frame of a drag across the map; a picture is drawn in much less than the 16 ms that it has.
    const box = await page.locator(".ground").boundingBox();
    await page.evaluate(() => {
      globalThis.frames = [];
      const wait = (now) => (globalThis.frames.push(now), requestAnimationFrame(wait));
      requestAnimationFrame(wait);
    });
    await page.mouse.move(box.x + 400, box.y + 300);
    await page.mouse.down();
    for (let i = 0; i < 60; i++) await page.mouse.move(box.x + 400 - 3 * i, box.y + 300 - i);
    await page.mouse.up();
    for (let i = 0; i < 10; i++) await page.mouse.wheel(0, -60);
    const frames = await page.evaluate(() => globalThis.frames.slice(1).map((t, i) => t - globalThis.frames[i]).sort((a, b) => a - b));
    console.log(`10,000 journeys: half of ${frames.length} frames within ${frames[frames.length >> 1].toFixed(1)} ms, nine in ten within ${frames[Math.floor(frames.length * 0.9)].toFixed(1)} ms`);
    assert.ok(frames.length > 20, "it draws while it is moved");
    assert.deepEqual(page.faults(), []);
    await page.close();
  });
});

const uuid = (i, kind) => `${String((i * 2_654_435_761) % 4_294_967_296).padStart(8, "0").slice(-8)}-0000-4000-8000-${kind}${String((i * 7919) % 99_991).padStart(11, "0")}`;
