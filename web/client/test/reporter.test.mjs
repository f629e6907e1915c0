// JourneyReporter in virtual time: what it sends, and when.
import assert from "node:assert/strict";
import { fixOf, JourneyReporter } from "@doorstep/client";
import { anything, lost, random, refusal, started, success, virtually } from "./virtual.mjs";

const stored = (nextUpdateMs = 5000) => success({ sessionId: "s", distanceMeters: 900, nextUpdateMs }, 201);
const script = (...answers) => (_, n) => answers[n] ?? stored();
const fix = (n, more = {}) => ({ latitude: n, longitude: 0, recordedAt: new Date(Date.now()).toISOString(), ...more });
const take = (answer, takes) => ({ ...answer, takes });

/** A phone that runs a reporter; end is what run threw, or null once it has ended. */
function phone(options = {}) {
  const p = { attempts: [], end: undefined, stop: new AbortController() };
  p.reporter = new JourneyReporter({ baseUrl: "http://gateway.test", session: "s", token: "t", onAttempt: (a) => p.attempts.push(a), ...options });
  p.run = () => p.reporter.run(p.stop.signal).then(() => (p.end = null), (error) => (p.end = error));
  p.run();
  return p;
}
async function drive(world, p, fixes, apart = 5000) {
  for (const n of fixes) {
    p.reporter.report(fix(n));
    await world.pass(apart);
  }
}
const numbers = (world) => world.requests.map((r) => (r.body.fixes ?? [r.body]).map((f) => f.latitude));
const times = (world) => world.requests.map((r) => Math.round(r.at / 100) / 10);

for (const [name, answers, fixes, at] of [
  ["each in its turn", [], [[0], [1], [2]], [0, 5, 10]],
  ["told to wait", [stored(8000)], [[0], [1], [2]], [0, 7.5, 12]],
  ["too soon", [stored(), refusal(429, "RATE_LIMITED", 2000)], [[0], [1], [1], [2]], [0, 5, 7, 11.5]],
  ["too soon, in no time", [refusal(429, "RATE_LIMITED", 1)], [[0], [0], [1], [2]], [0, 1, 5.5, 10]],
  ["stale, with no time", [success({ stale: true })], [[0], [1], [2]], [0, 5, 10]],
  ["the live store is away", [success({ stored: false, nextUpdateMs: 4000 }, 202)], [[0], [0], [1], [2]], [0, 4, 8.5, 13]],
  ["implausible", [refusal(400, "IMPLAUSIBLE_SPEED", 6000)], [[0], [1], [2]], [0, 6, 10.5]],
  ["malformed", [refusal(400, "INVALID_REQUEST")], [[0], [1], [2]], [0, 5, 10]],
  ["a slow answer", [take(stored(), 3000)], [[0], [1], [2]], [0, 7.5, 12]],
]) {
  virtually(`sends a fix every 5 s: ${name}`, script(...answers), async (world) => {
    const p = phone();
    await drive(world, p, [0, 1, 2]);
    assert.deepEqual([numbers(world), times(world)], [fixes, at]);
    for (const r of world.requests) assert.equal(r.body.sentAt, new Date(started + Math.floor(r.at)).toISOString(), "the time of this try");
    assert.equal(p.attempts.length, world.requests.length);
  });
}

for (const [name, failure] of Object.entries({
  "no answer": lost, "a fault": refusal(500, "INTERNAL"), overloaded: refusal(503, "OVERLOADED", 1000), "a captive portal": { status: 200, body: "<html>" },
  "another's 404": { status: 404, body: "<html>" }, "a 429 without a time": { status: 429, body: "" },
})) {
  virtually(`backs off after ${name}`, script(...Array(8).fill(failure)), async (world) => {
    const p = phone();
    p.reporter.report(fix(1));
    await world.pass(300_000);
    assert.deepEqual(numbers(world), Array(9).fill([1]), "until it is answered");
    for (let n = 1; n <= 8; n++) {
      const [pause, usual] = [world.requests[n].at - world.requests[n - 1].at, Math.min(1000 * 2 ** (n - 1), 30_000)];
      assert.ok(pause >= Math.max(1000, usual / 2) && pause <= usual * 1.5 + 3, `pause ${n}: ${pause}`);
    }
  });
}

const tagged = (nextUpdateMs) => ({ status: 204, headers: { ETag: 'W/"17"', "Next-Update-Ms": String(nextUpdateMs) } });
virtually("asks for answers without a body, and keeps their pace", script(tagged(8000), { status: 204 }, refusal(400, "IMPLAUSIBLE_SPEED", 6000), tagged(5000)), async (world) => {
  const p = phone({ minimal: true });
  await drive(world, p, [0, 1, 2, 3], 9000);
  assert.deepEqual(new Set(world.requests.map((r) => r.prefer)), new Set(["redirect, return=minimal"]));
  assert.deepEqual(p.attempts[0].receipt, { seq: 17, nextUpdateMs: 8000 });
  assert.equal(p.attempts[1].error.name, "NoAnswer", "a captive portal's");
  assert.deepEqual(numbers(world).slice(0, 3), [[0], [1], [1]], "so it is sent again");
  assert.deepEqual(p.attempts[3].receipt, { seq: 17, nextUpdateMs: 5000 });
});

virtually("sends what waited as one batch", script(lost, lost, lost), async (world) => {
  Math.random = () => 0.5;
  const p = phone();
  await drive(world, p, [0, 1, 2]);
  assert.deepEqual(numbers(world), [[0], [0], [0], [0, 1], [2]]);
  assert.deepEqual(world.requests[3].body.fixes.map((f) => f.recordedAt), [0, 5000].map((ms) => new Date(started + ms).toISOString()));
});

virtually("keeps the newest of a receiver at 1 Hz, and of a long time without network", (_, n) => (n < 100 ? lost : stored()), async (world) => {
  const p = phone({ queue: 5 });
  await drive(world, p, Array.from({ length: 120 }, (_, n) => n), 1000);
  p.stop.abort();
  const kept = numbers(world).at(-1);
  assert.equal(kept.length, 5);
  for (let n = 1; n < 4; n++) assert.ok(kept[n] - kept[n - 1] >= 4, String(kept));
});

virtually("is back at once when the network is", script(...Array(6).fill(lost)), async (world) => {
  Math.random = () => 0.99;
  const p = phone();
  p.reporter.report(fix(1));
  await world.pass(70_000);
  assert.equal(world.requests.length, 6);
  world.window.dispatchEvent(new Event("online"));
  await world.pass(10);
  assert.equal(world.requests.length, 7);
  assert.equal(p.attempts.at(-1).error, undefined);
});

for (const [status, code] of [[404, "NO_ACTIVE_JOURNEY"], [404, "SESSION_NOT_FOUND"], [403, "FORBIDDEN"], [401, "UNAUTHENTICATED"]]) {
  virtually(`stops at ${code}`, script(stored(), refusal(status, code)), async (world) => {
    const p = phone();
    await drive(world, p, [1, 2, 3]);
    assert.deepEqual([p.end.code, world.requests.length], [code, 2]);
    p.run();
    await world.pass(10_000);
    assert.deepEqual(numbers(world).slice(2), status === 401 ? [[2, 3]] : [[3]], "only after a new sign-in the queue is of use");
  });
}

virtually("asks for a token when one is refused", script(stored(), refusal(401, "UNAUTHENTICATED")), async (world) => {
  const p = phone({ token: async (refused) => (refused ? "new" : "old") });
  await drive(world, p, [1, 2]);
  assert.deepEqual(world.requests.map((r) => [r.token, r.body.latitude]), [["old", 1], ["old", 2], ["new", 2]]);
  assert.equal(p.end, undefined);
});

virtually("arrives with the newest fix, as soon as the track is believed", (r, n) =>
  r.path.endsWith("/arrived") && n < 8 ? [lost, refusal(400, "SUSPICIOUS_LOCATION", 3000)][n % 2] : r.path.endsWith("/arrived") ? success({ otp: "1234" }) : stored(), async (world) => {
  const p = phone();
  p.reporter.report(fix(1));
  await world.pass(100);
  const arrival = p.reporter.arrive(fix(2));
  await drive(world, p, [3, 4, 5, 6, 7, 8]);
  assert.deepEqual(await arrival, { otp: "1234" });
  const arrivals = world.requests.filter((r) => r.path === "/api/v1/admin/sessions/s/arrived");
  assert.ok(arrivals.length > 1);
  assert.equal(arrivals[0].body.latitude, 3, "newer than the one that was given");
  assert.ok(arrivals.at(-1).body.latitude > 3);
  assert.equal(p.end, null);
  const { length } = world.requests;
  await drive(world, p, [9]);
  assert.equal(world.requests.length, length, "nothing is sent after the arrival");
});

virtually("tells why an arrival is refused", (_, n) => [refusal(400, "NOT_WITHIN_RADIUS"), refusal(429, "OTP_LOCKED", 100)][n] ?? lost, async (world) => {
  const p = phone();
  for (const name of ["NOT_WITHIN_RADIUS", "OTP_LOCKED"]) {
    const refused = assert.rejects(p.reporter.arrive(), { name: "Refusal", code: name });
    await world.pass(2000);
    await refused;
  }
  assert.equal(world.requests[0].body, undefined, "no fix is known");
  const failed = assert.rejects(p.reporter.arrive(fix(1)), { name: "NoAnswer" });
  await world.pass(400_000);
  await failed;
  assert.equal(world.requests.length, 12);
});

virtually("keeps the queue when it is stopped, and forgets it when told to", script(lost), async (world) => {
  const p = phone();
  p.reporter.report(fix(1));
  await world.pass(10);
  p.stop.abort();
  await world.pass(10);
  assert.equal(p.end, null);
  p.stop = new AbortController();
  p.run();
  await assert.rejects(p.reporter.run(), /under way/);
  await world.pass(2000);
  assert.deepEqual(numbers(world), [[1], [1]]);
  p.reporter.report(fix(2));
  p.reporter.clear();
  await world.pass(10_000);
  assert.equal(world.requests.length, 2);
});

virtually("makes fixes of what devices say", script(), async () => {
  const coords = { latitude: 1, longitude: 2, accuracy: 5, speed: 10, heading: 90 };
  assert.deepEqual(fixOf({ coords, timestamp: started }), { latitude: 1, longitude: 2, accuracy: 5, speed: 36, heading: 90, recordedAt: "2026-03-14T09:00:00.000Z" });
  assert.equal(fixOf({ coords: { ...coords, speed: null }, timestamp: NaN, mocked: true }).speed, null);
  assert.equal(fixOf({ coords, timestamp: NaN, mocked: true }).mock, true);
});

for (let seed = 0; seed < 20; seed++) {
  const next = random(seed);
  const good = () => stored(next() * 1000).body;
  virtually(`sends once a second whatever is answered, seed ${seed}`, () => anything(next, good), async (world) => {
    Math.random = next;
    let p = phone({ token: () => "t" });
    for (let turn = 1; turn <= 300; turn++) {
      if (next() < 0.9) p.reporter.report(fix(turn, next() < 0.2 ? { recordedAt: "nonsense" } : {}));
      await world.pass(next() * 4000);
      if (next() < 0.2) world.window.dispatchEvent(new Event("online"));
      if (next() < 0.1) p.reporter.arrive(fix(turn), p.stop.signal).catch(() => {});
      assert.ok(!p.end || p.end.name === "Refusal", String(p.end));
      if (p.end !== undefined || turn % 20 === 0) {
        p.stop.abort();
        await world.pass(10_000);
        assert.notEqual(p.end, undefined, "it has ended");
        p = phone({ token: () => "t" });
      }
    }
    assert.ok(world.requests.length > 50);
    for (let n = 1; n < world.requests.length; n++) {
      const pause = world.requests[n].at - world.requests[n - 1].at;
      assert.ok(pause >= 1000 - 1e-6, `request ${n} came ${pause} ms after the one before`);
    }
  });
}
