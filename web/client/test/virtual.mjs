// Virtual time and a scripted gateway, in place of the globals that the client takes its clock and its network from.
import { test } from "node:test";

const real = { setTimeout, clearTimeout, setImmediate, fetch, now: performance.now, date: Date.now, random: Math.random };

/** One life of the client: its clock, its page, and the requests that it makes. Answers are given by the test. */
class World {
  at = 0;
  requests = []; // { at, method, host, path, etag, prefer, wait, token, body, aborted }
  page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  #timers = new Map();
  #last = 0;

  /** answer(request, n) says how the n-th request ends: { status, body, headers, takes (ms), lost }, or a promise of it. */
  constructor(answer) {
    this.answer = answer;
    const window = new EventTarget();
    Object.assign(globalThis, {
      // Too long a time overflows, as in browsers and Node.
      setTimeout: (callback, ms = 0) => (this.#timers.set(++this.#last, { at: this.at + (ms > 2 ** 31 - 1 ? 1 : ms), callback }), this.#last),
      clearTimeout: (id) => this.#timers.delete(id),
      fetch: (url, init) => this.#fetch(new URL(url), init),
      document: this.page,
      addEventListener: window.addEventListener.bind(window),
      removeEventListener: window.removeEventListener.bind(window),
    });
    performance.now = () => this.at;
    Date.now = () => started + this.at;
    Math.random = random(1); // with a jitter that is the same each time, a test passes always or never
    this.window = window;
  }

  end() {
    Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout, fetch: real.fetch });
    for (const name of ["document", "addEventListener", "removeEventListener"]) delete globalThis[name];
    performance.now = real.now;
    Date.now = real.date;
    Math.random = real.random;
  }

  /** Lets time pass. */
  async pass(ms) {
    for (const end = this.at + ms; ; ) {
      for (let i = 0; i < 16; i++) await new Promise((resolve) => real.setImmediate(resolve));
      const [id, next] = [...this.#timers].reduce((a, b) => (b[1].at < a[1].at ? b : a), [0, { at: Infinity }]);
      if (next.at > end) {
        this.at = end;
        return;
      }
      this.at = Math.max(this.at, next.at);
      this.#timers.delete(id);
      next.callback();
    }
  }

  show(visibilityState) {
    this.page.visibilityState = visibilityState;
    this.page.dispatchEvent(new Event("visibilitychange"));
  }

  async #fetch(url, { method, headers, body, signal }) {
    const request = {
      at: this.at, method, host: url.host, path: url.pathname, wait: url.searchParams.get("wait"), etag: headers["If-None-Match"], prefer: headers.Prefer,
      token: headers.Authorization.replace("Bearer ", ""), body: body ? JSON.parse(body) : undefined, aborted: false,
    };
    this.requests.push(request);
    const answer = await this.answer(request, this.requests.length - 1);
    await new Promise((resolve, reject) => {
      setTimeout(resolve, answer.takes ?? 1);
      signal.addEventListener("abort", () => ((request.aborted = true), reject(new Error("aborted"))));
    });
    if (answer.lost) throw new TypeError("fetch failed");
    const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body);
    return new Response([204, 304].includes(answer.status) ? null : text, answer);
  }
}

export const started = Date.parse("2026-03-14T09:00:00Z");

/** A test in virtual time: answer is what the gateway says, play(world) the rest. */
export const virtually = (name, answer, play) =>
  test(name, async () => {
    const world = new World(answer);
    try {
      await play(world);
    } finally {
      world.end();
    }
  });

export const lost = { lost: true };
export const refusal = (status, code, retryAfterMs) => ({
  status, body: { success: false, code, message: "no", requestId: "r", retryAfterMs },
});
export const success = (data, status = 200, etag) => ({
  status, body: { success: true, message: "yes", data }, headers: etag ? { ETag: etag } : {},
});

/** A repeatable random generator: numbers in [0, 1). */
export function random(seed) {
  let x = seed + 1;
  return () => {
    x = (x * 48271) % 2147483647;
    return x / 2147483647;
  };
}

/** An answer that a gateway, a proxy, or somebody who means harm could give to anything. */
export function anything(next, good) {
  const pick = (list) => list[Math.floor(next() * list.length)];
  const status = pick([200, 200, 201, 202, 204, 304, 400, 401, 408, 409, 413, 429, 429, 500, 502, 503, 503, 599]);
  const body = pick([
    good(next), good(next), "", "<html>", "null", "[]", "{}", { success: true, data: {} }, { success: true, data: 7 },
    ...[0, -1, 1, 1e300, "soon", null, 4_000_000_000, 0.5].map((retryAfterMs) => ({
      success: false, retryAfterMs, message: {}, code: pick(["RATE_LIMITED", "TOO_MANY_WAITS", "IMPLAUSIBLE_JUMP", "INTERNAL", 7, null, "NEW"]),
    })),
  ]);
  const retry = pick([undefined, "0", "1", "-5", "99999999999", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]);
  const due = pick([undefined, "0", "1", "-1", "5000", "soon", "1e300", "Infinity", "9".repeat(400)]);
  const headers = { ...(retry && { "Retry-After": retry }), ...(due && { "Next-Update-Ms": due }), ...(next() < 0.5 && { ETag: `W/"${Math.floor(next() * 9)}"` }) };
  return next() < 0.1 ? lost : { status, headers, takes: next() < 0.5 ? 0 : next() * 3000, body: status === 204 ? "" : body };
}
