// watchJourney in virtual time: what it asks, when, and what it yields.
import assert from "node:assert/strict";
import { watchJourney } from "@doorstep/client";
import { anything, lost, random, refusal, started, success, virtually } from "./virtual.mjs";

const place = { latitude: 48.2, longitude: 16.37, timestamp: "2026-03-14T09:00:00.000Z" };
const live = (version, phase, fixAgeMs = null, more = {}) => success({
  sessionId: "s", trainerId: "t", phase, isActive: phase === "on_the_way" || phase === "arriving", location: fixAgeMs === null ? null : place,
  fixAgeMs, lastUpdate: null, distanceMeters: fixAgeMs === null ? null : 900, etaSeconds: fixAgeMs === null ? null : 60, ...more,
}, 200, more.degraded ? undefined : `W/"${version}"`);
const nothing = { status: 304, takes: 25_000 };
const silence = { status: 200, takes: 1e9 };
const script = (...answers) => (_, n) => answers[n] ?? nothing;

/** Starts to watch and collects what comes; error is what it threw, or null once it has ended. */
function watch(options = {}) {
  const seen = { views: [], at: [], error: undefined };
  (async () => {
    for await (const view of watchJourney({ baseUrl: "http://gateway.test", session: "s", token: "token", ...options })) {
      seen.views.push(view);
      seen.at.push(performance.now());
    }
  })().then(() => (seen.error = null), (error) => (seen.error = error));
  return seen;
}
const statuses = (seen) => seen.views.map((v) => v.status);
const gap = (world, n) => world.requests[n].at - world.requests[n - 1].at;

virtually("watches from before the start to the end", script(
  live(1, "not_started"), nothing, live(2, "on_the_way"), live(3, "on_the_way", 200), live(4, "arriving", 100), live(5, "arrived"), nothing, live(6, "ended"),
), async (world) => {
  const seen = watch();
  await world.pass(120_000);
  assert.deepEqual(statuses(seen), ["not_started", "on_the_way", "on_the_way", "arriving", "arrived", "ended"]);
  assert.equal(seen.error, null);
  assert.deepEqual(world.requests.map((r) => [r.etag, r.wait]), [
    [undefined, null], ['W/"1"', "25"], ['W/"1"', "25"], ['W/"2"', "25"], ['W/"3"', "25"], ['W/"4"', "25"], ['W/"5"', "25"], ['W/"5"', "25"],
  ]);
  const [onTheWay, end] = [seen.views[2], seen.views[5]];
  assert.deepEqual([onTheWay.location, onTheWay.distanceMeters, onTheWay.etaSeconds], [place, 900, 60]);
  assert.deepEqual([end.location, end.distanceMeters, end.etaSeconds, end.fixAgeMs()], [null, null, null, null]);
});

virtually("watches by a share link, to its end", script(
  live(1, "on_the_way", 100, { home: { latitude: 48.2, longitude: 16.3 } }), live(2, "arrived"), refusal(404, "LINK_GONE"),
), async (world) => {
  const seen = watch({ session: undefined, link: "a-token" });
  await world.pass(10_000);
  assert.deepEqual(seen.views.map((v) => [v.status, v.home]), [["on_the_way", { latitude: 48.2, longitude: 16.3 }], ["arrived", null]]);
  assert.equal(seen.error.code, "LINK_GONE");
  assert.deepEqual(world.requests.map((r) => [r.path, r.wait, r.token]), [null, "25", "25"].map((wait) => ["/api/v1/share/live", wait, "a-token"]));
});

const elsewhere = (url) => ({ status: 409, body: { success: false, code: "WRONG_REGION", message: "no", requestId: "r", region: "us", url } });

virtually("calls the region of the session, and the first gateway while that is away", script(
  elsewhere("http://us.test/base/"), live(1, "on_the_way", 100), lost, live(1, "on_the_way", null, { degraded: true }), live(1, "on_the_way", 100), live(2, "on_the_way", 100),
), async (world) => {
  const seen = watch();
  await world.pass(100_000);
  assert.deepEqual(world.requests.slice(0, 4).map((r) => [r.host, r.path.replace(/api.*/, "api"), r.prefer]), [
    ["gateway.test", "/api", "redirect"], ["us.test", "/base/api", undefined], ["us.test", "/base/api", "redirect"], ["gateway.test", "/api", undefined],
  ]);
  assert.ok(world.requests.slice(4).some((r) => r.host === "us.test"), "half a minute later it is tried again");
  assert.equal(seen.error, undefined);
});

virtually("is answered while two regions each say that the session is the other's", (request) =>
  request.prefer ? elsewhere(request.host === "us.test" ? "http://gateway.test" : "http://us.test") : live(1, "ended"), async (world) => {
  const seen = watch();
  await world.pass(10_000);
  assert.equal(seen.error, null);
  assert.deepEqual(world.requests.map((r) => [r.host, r.prefer]), [["gateway.test", "redirect"], ["us.test", undefined]]);
});

virtually("sends its token to no other kind of URL", script(
  elsewhere("ftp://us.test"), elsewhere("http://us.test"), live(1, "ended"), live(1, "ended"),
), async (world) => {
  const [odd, downgrade] = [watch(), watch({ baseUrl: "https://gateway.test" })];
  await world.pass(10_000);
  assert.deepEqual([odd, downgrade].map((seen) => seen.error), [null, null], "the first gateway forwards the call");
  assert.deepEqual(world.requests.map((r) => [r.host, r.prefer]), ["redirect", "redirect", undefined, undefined].map((prefer) => ["gateway.test", prefer]));
});

virtually("says that the signal is lost, while a poll waits", script(
  live(1, "on_the_way", 12_000), nothing, nothing, live(2, "on_the_way", 500), nothing, nothing, live(3, "on_the_way"), live(4, "on_the_way", 100),
), async (world) => {
  const seen = watch();
  await world.pass(10_000);
  assert.equal(Math.round(seen.views[0].fixAgeMs() / 100), 220, "it counts on");
  Date.now = () => started - 1e9;
  await world.pass(290_000);
  assert.deepEqual(statuses(seen), ["on_the_way", "signal_lost", "on_the_way", "signal_lost", "signal_lost", "on_the_way", "signal_lost"]);
  assert.equal(Math.round(seen.at[1] / 100), 180);
  assert.deepEqual(seen.views.map((v) => v.location), [place, place, place, place, null, place, place], "the server takes the place away");
});

virtually("repeats what failed, and says so once", script(
  live(1, "on_the_way", 100), lost, lost, lost, lost, lost, lost, lost, live(1, "on_the_way", 100), nothing,
), async (world) => {
  const seen = watch();
  await world.pass(200_000);
  const problems = seen.views.map((v) => v.problem?.name ?? null);
  assert.deepEqual(problems.filter((p, i) => p !== problems[i - 1]), [null, "NoAnswer", null]);
  for (let n = 2; n <= 8; n++) {
    const usual = Math.min(1000 * 2 ** (n - 2), 30_000);
    assert.ok(gap(world, n) >= usual / 2 && gap(world, n) <= usual * 1.5 + 2, `pause ${n}: ${gap(world, n)}`);
    assert.deepEqual([world.requests[n].etag, world.requests[n].wait], [undefined, null], "in full, for a true age");
  }
});

virtually("gives up a request that nobody answers", script(silence, live(1, "on_the_way"), silence, live(1, "on_the_way")), async (world) => {
  watch();
  await world.pass(60_000);
  assert.equal(world.requests[0].aborted, true);
  assert.ok(gap(world, 1) >= 10_000 && gap(world, 1) < 12_000);
  assert.ok(gap(world, 3) >= 35_000 && gap(world, 3) < 37_000);
});

virtually("comes back when it is told to", script(
  refusal(503, "OVERLOADED", 9000), { status: 502, body: "<html>", headers: { "Retry-After": "7" } },
  { status: 503, body: "", headers: { "Retry-After": new Date(started + 30_000).toUTCString() } }, refusal(429, "RATE_LIMITED", 4000), live(1, "ended"),
), async (world) => {
  const seen = watch();
  await world.pass(8000);
  world.window.dispatchEvent(new Event("online"));
  await world.pass(100_000);
  assert.ok(gap(world, 1) >= 9000 && gap(world, 1) <= 10_001);
  assert.ok(gap(world, 2) >= 7000 && gap(world, 2) <= 8001);
  assert.ok(world.requests[3].at >= 30_000 && world.requests[3].at <= 31_001);
  assert.ok(gap(world, 4) >= 4000);
  assert.deepEqual(statuses(seen), ["ended"]);
});

virtually("lets another tab be", script(live(1, "on_the_way", 0), refusal(429, "TOO_MANY_WAITS", 5000), live(2, "on_the_way", 0)), async (world) => {
  const seen = watch();
  await world.pass(20_000);
  assert.ok(gap(world, 2) >= 5000 && gap(world, 2) <= 7001, "when its wait is taken for the displaced one");
  assert.deepEqual([world.requests[2].etag, world.requests[2].wait], ['W/"1"', "25"]);
  assert.ok(seen.views.every((v) => v.problem === null));
});

for (const [status, code] of [[403, "FORBIDDEN"], [404, "SESSION_NOT_FOUND"], [400, "INVALID_REQUEST"], [401, "UNAUTHENTICATED"]]) {
  virtually(`ends with ${code}`, script(refusal(status, code)), async (world) => {
    const seen = watch();
    await world.pass(60_000);
    assert.deepEqual([seen.error.name, seen.error.status, seen.error.code, seen.error.requestId], ["Refusal", status, code, "r"]);
    assert.equal(world.requests.length, 1);
  });
}

virtually("renews a token once", script(live(1, "on_the_way"), refusal(401, "UNAUTHENTICATED"), live(2, "on_the_way"), { status: 401, body: "" }, { status: 401, body: "" }), async (world) => {
  const asked = [];
  const seen = watch({ token: (refused) => (asked.push(refused), refused ? `${refused}+` : "old") });
  await world.pass(60_000);
  assert.deepEqual(asked, [undefined, undefined, "old", undefined, "old"]);
  assert.deepEqual(world.requests.map((r) => r.token), ["old", "old", "old+", "old", "old+"]);
  assert.deepEqual([seen.views.length, seen.error.status], [2, 401]);
});

virtually("repeats when no token can be had", script(live(1, "ended")), async (world) => {
  let calls = 0;
  const seen = watch({ token: () => { if (calls++ === 0) throw new Error("the network"); return "t"; } });
  await world.pass(10_000);
  assert.deepEqual([calls, statuses(seen)], [2, ["ended"]]);
});

virtually("rests while the page is hidden", script(live(1, "on_the_way", 100), nothing, live(1, "on_the_way", 4000), { lost: true, takes: 2000 }, live(2, "on_the_way", 0)), async (world) => {
  const seen = watch();
  await world.pass(5000);
  world.show("hidden");
  await world.pass(3_600_000);
  assert.deepEqual([world.requests.length, world.requests[1].aborted], [2, true]);
  world.show("visible");
  await world.pass(10);
  assert.equal(world.requests[2].at, 3_605_000, "at once");
  assert.deepEqual([world.requests[2].etag, seen.views.at(-1).problem], [undefined, null], "for a true age");
  Math.random = () => 0.9;
  await world.pass(2100);
  world.window.dispatchEvent(new Event("online"));
  await world.pass(10);
  assert.equal(world.requests.length, 6, "the network is back, so the pause is over");
});

virtually("keeps the place while the live store is away", script(
  live(1, "on_the_way", 5000), live(1, "on_the_way", null, { degraded: true }), live(1, "on_the_way", null, { degraded: true }), live(2, "arrived", null, { degraded: true }), live(3, "ended"),
), async (world) => {
  const seen = watch();
  await world.pass(20_000);
  assert.deepEqual(seen.views.map((v) => [v.status, v.location, v.degraded, v.distanceMeters]), [
    ["on_the_way", place, false, 900], ["on_the_way", place, true, 900], ["arrived", null, true, null], ["ended", null, false, null],
  ]);
  assert.deepEqual(world.requests.slice(2).map((r) => r.etag), [undefined, undefined, undefined]);
});

virtually("ends when it is told to", script(live(1, "on_the_way")), async (world) => {
  const stop = new AbortController();
  const seen = watch({ signal: stop.signal });
  await world.pass(5000);
  stop.abort();
  await world.pass(10);
  assert.deepEqual([seen.error, world.requests[1].aborted], [null, true]);
  const views = watchJourney({ baseUrl: "http://gateway.test", session: "s", token: "t", signal: stop.signal });
  assert.equal((await views.next()).done, true, "and asks nothing when it is aborted already");
  assert.equal(world.requests.length, 2);
});

virtually("refuses wrong options", script(), async () => {
  for (const wrong of [{ baseUrl: "gateway.test" }, { baseUrl: "https://a:b@gateway.test" }, { baseUrl: "https://gateway.test/x?y" }, { waitSeconds: 31 }, { waitSeconds: 0.5 }]) {
    assert.throws(() => watchJourney({ baseUrl: "http://gateway.test", session: "s", token: "t", ...wrong }), new RegExp(`TypeError: ${Object.keys(wrong)[0]} must`));
  }
});

for (let seed = 0; seed < 20; seed++) {
  const next = random(seed);
  const phases = ["not_started", "on_the_way", "arriving", "arrived"];
  const good = () => live(Math.floor(next() * 1e6), phases[Math.floor(next() * 4)], next() < 0.5 ? 1 : 29_999).body;
  virtually(`asks once a second whatever is answered, seed ${seed}`, () => anything(next, good), async (world) => {
    Math.random = next;
    let stop = new AbortController();
    let seen = watch({ signal: stop.signal });
    for (let turn = 1; turn <= 300; turn++) {
      await world.pass(next() * 5000);
      if (next() < 0.2) world.show(next() < 0.3 ? "hidden" : "visible");
      if (next() < 0.2) world.window.dispatchEvent(new Event("online"));
      assert.ok(!seen.error || seen.error.name === "Refusal", String(seen.error));
      if (seen.error || turn % 20 === 0) { // it may have been told to come back in an hour
        stop.abort();
        await world.pass(10_000);
        assert.notEqual(seen.error, undefined, "it has ended");
        stop = new AbortController();
        seen = watch({ signal: stop.signal });
      }
    }
    assert.ok(world.requests.length > 20);
    for (let n = 4; n < world.requests.length; n++) {
      const span = world.requests[n].at - world.requests[n - 4].at;
      assert.ok(span >= 1000 - 1e-6, `five requests within ${span} ms, from ${n - 4} on`);
    }
    for (let n = 20; n < world.requests.length; n++) {
      assert.ok(world.requests[n].at - world.requests[n - 20].at >= 17_000 - 1e-6, "and one a second in the long run");
    }
  });
}
