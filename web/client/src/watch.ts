import { Caller, type Gateway, NoAnswer, Refusal, temporary } from "./call.js";
import type { components } from "./generated/openapi.js";
import { backOff, listen, now, Pace, sleep, WakeUp } from "./pace.js";

type Live = Omit<components["schemas"]["Live"], "sessionId" | "trainerId"> & { home?: Home | null };

/** Where the trainer was: degrees, metres, km/h, and degrees clockwise from north. */
export type Location = NonNullable<components["schemas"]["Location"]>;

/** The server's phase, or that the fix of a running journey is 30 s old. */
export type Status = Live["phase"] | "signal_lost";

/** What a student sees of a journey. */
export interface JourneyView {
  status: Status;
  /** The last known place. Null before the first fix, after 300 s without one, and from the end of the journey on. */
  location: Location | null;
  /** From the location to the home, metres. */
  distanceMeters: number | null;
  /** Seconds to the home, when the answer came. Null: unknown. */
  etaSeconds: number | null;
  /** How old the fix is now, in ms. It counts on: call it whenever you show it. Null without a location. */
  fixAgeMs(): number | null;
  /** Why nothing newer can be known at present: the last read failed. Null: all is well. */
  problem: Refusal | NoAnswer | null;
  /** The live store is away: the location is the last one that was known. */
  degraded: boolean;
  /** Where the journey leads, while it runs. Known with a link alone; else it is the session's `studentHome`. */
  home: Home | null;
}

/** The student's home: degrees. */
export type Home = components["schemas"]["Place"];

/** The options of watchJourney: a user's session, or the token of a share link. */
export type WatchOptions = WatchSettings & ((Gateway & { /** The session's id. */ session: string; link?: undefined }) | Shared);

/** A share link's gateway and token. */
export interface Shared {
  /** As in Gateway. */
  baseUrl: string;
  /** What stands after the # of the link. */
  link: string;
}

/** What is the same for both. */
export interface WatchSettings {
  /** Ends the sequence, without an error. */
  signal?: AbortSignal;
  /** How long one poll waits for news, 1 to 30 s. Default: 25, under the 30 s at which networks close a silent connection. */
  waitSeconds?: number;
}

/** The age in ms from which on a fix means that the signal is lost. */
const lostAfter = 30_000;

/** What one read has brought; empty: nothing new. */
interface Read {
  live?: Live;
  error?: Refusal | NoAnswer;
}

/** An answer, and when it came. */
interface Known {
  live: Live;
  at: number;
}

/**
 * Watches one journey by long polls and yields each change: a new fix, another status, the loss of the network and its return.
 *
 * While the page is hidden nothing is asked; when it is shown again the gateway is asked at once. Failed reads are repeated: after
 * what Retry-After says, else after 1 s, doubled up to 30 s, with a random part, or as soon as the browser is online again. There is
 * at most one request a second, in the long run.
 *
 * The sequence ends after `ended`, and when the signal is aborted. Break out of the loop to end it earlier, for example at `arrived`.
 * It throws a Refusal that no repeat mends: 401 with a new token, too, 403, 404 (of a link: code LINK_GONE). A wrong option throws a TypeError at once.
 */
export function watchJourney(options: WatchOptions): AsyncGenerator<JourneyView, void, undefined> {
  return views(new Reader(options), options.signal);
}

async function* views(reader: Reader, signal: AbortSignal | undefined): AsyncGenerator<JourneyView, void, undefined> {
  let known: Known | undefined;
  let shown: JourneyView | undefined;
  let reading: Promise<Read> | undefined;
  const close = () => reader.close();
  reader.open();
  signal?.addEventListener("abort", close);
  try {
    while (!signal?.aborted) {
      reading ??= reader.read(); // it goes on while a lost signal is yielded
      const rest = new AbortController();
      const read = await Promise.race([reading, sleep(untilLost(known), rest.signal)]);
      rest.abort();
      if (read) reading = undefined;
      if (read?.error && !temporary(read.error)) throw read.error;
      known = read?.live ? { live: kept(read.live, known), at: read.live.degraded && known ? known.at : now() } : known;
      const problem = (read ? read.error : shown?.problem) ?? null;
      if (signal?.aborted || !known) continue;
      const view = viewOf(known, shown, problem);
      if ((read?.live && !read.live.degraded) || differ(view, shown)) yield view;
      shown = view;
      if (view.status === "ended") return;
    }
  } finally {
    signal?.removeEventListener("abort", close);
    close();
  }
}

/** A degraded answer has no place: while the journey runs, the last one stays. */
function kept(live: Live, known: Known | undefined): Live {
  if (!live.degraded || !live.isActive || !known) return live;
  const { location, fixAgeMs, distanceMeters } = known.live;
  return { ...live, location, fixAgeMs, distanceMeters };
}

const age = ({ live, at }: Known): number | null =>
  live.location && live.fixAgeMs !== null ? live.fixAgeMs + now() - at : null;

/** In how many ms the signal will be lost; never less than a moment, so that a clock's rounding does no harm. */
function untilLost(known: Known | undefined): number {
  const old = known ? age(known) : null;
  return old === null || old >= lostAfter ? Infinity : lostAfter - old + 1;
}

function viewOf(known: Known, before: JourneyView | undefined, problem: JourneyView["problem"]): JourneyView {
  const { phase, isActive, location, distanceMeters, etaSeconds, degraded = false } = known.live;
  // A running journey without a place that had one has been silent for long.
  const lost = location ? age(known)! >= lostAfter : before !== undefined && (before.location !== null || before.status === "signal_lost");
  const status = isActive && lost ? "signal_lost" : phase;
  const { home = null } = known.live;
  return { status, location, distanceMeters, etaSeconds, degraded, problem, home, fixAgeMs: () => age(known) };
}

const differ = (a: JourneyView, b: JourneyView | undefined): boolean =>
  a.status !== b?.status || a.degraded !== b.degraded || (a.problem === null) !== (b.problem === null);

/** Makes one read after the other, while the page is shown. */
class Reader {
  readonly #caller: Caller;
  readonly #path: string;
  readonly #query: string[];
  readonly #wait: number;
  /** The version that is known. Empty: the next read is answered at once and in full, so with an age that is right. */
  #etag = "";
  #failures = 0;
  /** Pauses in ms before the next read: what the gateway asked for, and what a change of the page cuts short. */
  #ordered = 0;
  #backOff = 0;
  readonly #closed = new AbortController();
  readonly #change = new WakeUp(); // the page is hidden, shown, offline or online again
  #unlisten: (() => void)[] = [];

  constructor(o: WatchOptions) {
    this.#wait = o.waitSeconds ?? 25;
    if (!Number.isInteger(this.#wait) || this.#wait < 1 || this.#wait > 30) {
      throw new TypeError("waitSeconds must be a whole number from 1 to 30");
    }
    const gateway = o.link === undefined ? o : { baseUrl: o.baseUrl, token: o.link };
    this.#caller = new Caller(gateway, new Pace(3)); // a fix and the phases that it changes come at once
    this.#path = o.link === undefined ? "/admin/location-tracking/journey/live" : "/share/live";
    this.#query = o.link === undefined ? [`sessionId=${encodeURIComponent(o.session)}`] : [];
  }

  open(): void {
    const changed = () => this.#change.ring();
    this.#unlisten = [
      listen("document", "visibilitychange", changed),
      listen("window", "online", changed),
      listen("window", "offline", changed), // a new read says at once that the network is away; an old one might wait for long
    ];
  }

  /** Ends the read that is under way; it and all later ones bring nothing. */
  close(): void {
    this.#closed.abort();
    this.#change.ring();
    for (const unlisten of this.#unlisten) unlisten();
  }

  /** Waits for its turn, and reads. Never rejects. */
  async read(): Promise<Read> {
    for (;;) {
      await sleep(this.#ordered, this.#closed.signal);
      await sleep(this.#backOff, this.#change.signal, this.#closed.signal);
      while (globalThis.document?.visibilityState === "hidden" && !this.#closed.signal.aborted) {
        await sleep(Infinity, this.#change.signal);
      }
      if (this.#closed.signal.aborted) return {};
      this.#ordered = this.#backOff = 0;
      const { signal } = this.#change;
      try {
        const live = await this.#poll(signal);
        return live ? { live } : {};
      } catch (error) {
        if (!signal.aborted) return this.#failed(error as Refusal | NoAnswer);
        this.#etag = "";
      }
    }
  }

  async #poll(signal: AbortSignal): Promise<Live | undefined> {
    const wait = this.#etag ? this.#wait : 0;
    const query = wait ? [...this.#query, `wait=${wait}`] : this.#query;
    const answer = await this.#caller.call({
      method: "GET",
      path: query.length > 0 ? `${this.#path}?${query.join("&")}` : this.#path,
      etag: this.#etag,
      timeoutMs: (wait + 10) * 1000,
      signal,
    });
    if (answer.status === 304) {
      this.#failures = 0;
      return undefined;
    }
    const live = answer.data as Live;
    this.#etag = live.degraded ? "" : answer.etag;
    this.#failures = live.degraded ? this.#failures + 1 : 0;
    this.#backOff = live.degraded ? backOff(this.#failures) : 0;
    return live;
  }

  #failed(error: Refusal | NoAnswer): Read {
    if (error instanceof Refusal && error.code === "TOO_MANY_WAITS") {
      // Another tab has taken the place. A wait that begins 5 to 10 s later gets one of its own.
      this.#ordered = error.retryAfterMs + Math.random() * 2000;
      return {};
    }
    this.#etag = "";
    this.#failures++;
    this.#ordered = error.retryAfterMs && error.retryAfterMs + Math.random() * 1000;
    this.#backOff = Math.max(0, backOff(this.#failures) - this.#ordered);
    return { error };
  }
}
