import { Caller, type Gateway, NoAnswer, Refusal, temporary } from "./call.js";
import { type Fix, FixStore, instant } from "./fixes.js";
import type { operations } from "./generated/openapi.js";
import { backOff, listen, Pace, sleep, WakeUp } from "./pace.js";

type Data<Call extends keyof operations, Status extends keyof operations[Call]["responses"]> =
  operations[Call]["responses"][Status] extends { content: { "application/json": { data: infer D } } } ? D : never;

/** The answer without a body to fixes that are all stored. seq is the version of the live location; 0 where it was lost on the way. */
export interface MinimalReceipt {
  seq: number;
  nextUpdateMs: number;
}

/** The answer to fixes that were not refused: of one fix, or of the newest of a batch with the counts of all. */
export type Receipt = Data<"updateLocation", 200> | Data<"updateLocation", 201> | Data<"updateLocation", 202> | MinimalReceipt;

/** The answer to an arrival. otp is absent where the operator keeps it from the trainer. */
export type Arrival = Data<"arrive", 200>;

/** One request with fixes, and what came of it. */
export interface Attempt {
  /** Oldest first. */
  fixes: readonly Fix[];
  /** Undefined where there is an error. */
  receipt: Receipt | undefined;
  error: Refusal | NoAnswer | undefined;
}

/** The options of a JourneyReporter. */
export interface ReporterOptions extends Gateway {
  /** The session's id. */
  session: string;
  /** How many fixes wait at most; then the oldest gives way. Default: 60, what the gateway takes of 5 minutes. At most 500. */
  queue?: number;
  /** Asks for answers without a body, a third as long: the receipt of stored fixes is a MinimalReceipt. From another origin only of a
   * gateway that allows the header. */
  minimal?: boolean;
  /** Called after each request with fixes. */
  onAttempt?: (attempt: Attempt) => void;
}

/** How much before nextUpdateMs the next fix leaves, ms: the gateway tolerates 1 s, and each round trip would push all later fixes back. */
const early = 500;
/** When the next fix leaves where a refusal does not say, ms. */
const usualInterval = 5000;
/** The least time between two fixes of which the gateway takes both, ms. */
const spacing = 4000;
/** How often an arrival is tried. */
const arrivalTries = 10;

interface Queued {
  fix: Fix;
  tried: boolean;
}

/**
 * The sending half of a trainer's phone on one journey. report() puts a fix into the queue, run() sends what is there, one fix or all
 * that waited as a batch, with the time of each try as sentAt.
 *
 * - The next request leaves when the gateway says (nextUpdateMs, Retry-After); never two within a second, arrivals included.
 * - Fixes are sent again where there was no answer and after 202, 408, 429 and 5xx, until they are answered or newer ones have taken
 *   their place. What was answered otherwise is done: stored, stale, too vague, implausible or malformed.
 * - A fix that waits gives way to the next one where the gateway would not take both. So a receiver may report every second.
 * - The queue outlives a reload of the page, in IndexedDB where there is one. It is gone with the journey.
 *
 * The constructor throws a TypeError for a wrong option.
 */
export class JourneyReporter {
  readonly #o: ReporterOptions;
  readonly #caller: Caller;
  readonly #store: FixStore;
  #queue: Queued[] = []; // oldest first
  #newest: Fix | undefined; // of all that were reported
  #sent: Fix | undefined; // the newest that was sent
  #running = false;
  #loaded = false; // what an earlier life of the page has kept is in the queue
  readonly #limit: number;
  readonly #over = new AbortController(); // aborted by the arrival
  readonly #news = new WakeUp(); // the queue has a new fix
  readonly #online = new WakeUp();

  constructor(options: ReporterOptions) {
    this.#o = options;
    this.#caller = new Caller(options, new Pace(0));
    this.#store = new FixStore(options.session);
    this.#limit = Math.min(Math.max(options.queue ?? 60, 1), 500);
  }

  /** How many fixes wait, those under way included. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Queues a fix. One without recordedAt was taken now. */
  report(fix: Fix): void {
    if (this.#over.signal.aborted) return;
    this.#add({ ...fix, recordedAt: fix.recordedAt ?? instant() });
    this.#save();
    this.#news.ring();
  }

  /**
   * Sends the fixes of the queue. It ends after an arrival by arrive(), and when the signal is aborted; then the queue is kept and run
   * may be called again. It throws a Refusal after which no fix can succeed: code NO_ACTIVE_JOURNEY where the journey is over, another
   * 404, 403, or 401 with a new token, too. The queue is emptied then, but kept after a 401. Only one run at a time.
   */
  async run(signal?: AbortSignal): Promise<void> {
    if (this.#running) throw new Error("run is under way");
    this.#running = true;
    const unlisten = listen("window", "online", () => this.#online.ring());
    try {
      if (!this.#loaded) await this.#load();
      await this.#send(signal);
    } finally {
      unlisten();
      this.#running = false;
    }
  }

  /**
   * Ends the journey at the student's door. fix is where the phone is now; without it, and where a newer one was reported, the newest
   * that was reported. Call it while run() runs: a journey needs some fixes to be believed. It is repeated as long as that, or the
   * network, is the reason. Throws a Refusal (code NOT_WITHIN_RADIUS, with body.distanceMeters, …), or a NoAnswer when the signal is
   * aborted or ten tries have failed.
   */
  async arrive(fix?: Fix, signal?: AbortSignal): Promise<Arrival> {
    const given = fix && { ...fix, recordedAt: fix.recordedAt ?? instant() };
    for (let failures = 1; ; failures++) {
      try {
        const { data } = await this.#caller.call({
          method: "POST",
          path: `/admin/sessions/${encodeURIComponent(this.#o.session)}/arrived`,
          body: () => {
            const at = newer(given, this.#newest);
            return at && { ...at, sentAt: instant() };
          },
          timeoutMs: 10_000,
          signal,
        });
        this.clear();
        this.#over.abort();
        return data as Arrival;
      } catch (thrown) {
        const error = thrown as Refusal | NoAnswer;
        if (!temporary(error) || failures === arrivalTries || signal?.aborted) throw error;
        await sleep(Math.max(error.retryAfterMs, backOff(failures)), signal);
      }
    }
  }

  /** Forgets all fixes, in memory and on disk: for a journey that ended otherwise than by arrive(). */
  clear(): void {
    this.#queue = [];
    this.#newest = this.#sent = undefined;
    this.#store.save([]);
  }

  /** Puts the fixes of an earlier life of the page before those that were reported since. */
  async #load(): Promise<void> {
    const kept = await this.#store.load();
    const reported = this.#queue;
    this.#queue = [];
    for (const fix of [...kept, ...reported.map((q) => q.fix)]) this.#add(fix);
    this.#loaded = true;
    this.#save();
  }

  /** Sends until there is a reason to end, which is returned or thrown. */
  async #send(signal: AbortSignal | undefined): Promise<void> {
    const over = this.#over.signal;
    let failures = 0;
    while (!signal?.aborted && !over.aborted) {
      if (this.#queue.length === 0) {
        await sleep(Infinity, this.#news.signal, signal, over);
        continue;
      }
      const sending = [...this.#queue];
      for (const q of sending) q.tried = true;
      this.#sent = sending.at(-1)!.fix;
      const attempt = await this.#try(sending.map((q) => q.fix), signal);
      if (over.aborted || signal?.aborted) return;
      failures = attempt.error && temporary(attempt.error) ? failures + 1 : 0;
      const step = nextStep(attempt, failures);
      if (step.over && attempt.error?.status !== 401) this.clear();
      if (!step.again) {
        this.#queue = this.#queue.filter((q) => !sending.includes(q));
        this.#save();
      }
      this.#o.onAttempt?.(attempt);
      if (step.over) throw attempt.error;
      await sleep(step.pause, signal, over);
      await sleep(step.backOff, signal, over, this.#online.signal);
    }
  }

  async #try(fixes: Fix[], signal: AbortSignal | undefined): Promise<Attempt> {
    const { session: sessionId } = this.#o;
    try {
      const answer = await this.#caller.call({
        method: "POST",
        path: "/admin/location-tracking/journey/updates",
        body: () => ({ sessionId, sentAt: instant(), ...(fixes.length === 1 ? fixes[0] : { fixes }) }),
        minimal: this.#o.minimal,
        timeoutMs: 10_000,
        signal,
      });
      return { fixes, receipt: answer.data as Receipt, error: undefined };
    } catch (error) {
      return { fixes, receipt: undefined, error: error as Refusal | NoAnswer };
    }
  }

  /** Puts a fix at the end of the queue, and takes off what gives way to it. */
  #add(fix: Fix): void {
    const waiting = this.#queue.at(-1);
    const before = this.#queue.at(-2)?.fix ?? this.#sent;
    if (waiting && !waiting.tried && before && !(Math.abs(takenAt(waiting.fix) - takenAt(before)) >= spacing)) this.#queue.pop();
    this.#queue.push({ fix, tried: false });
    if (this.#queue.length > this.#limit) this.#queue.shift();
    this.#newest = newer(this.#newest, fix);
  }

  #save(): void {
    if (this.#loaded) this.#store.save(this.#queue.map((q) => q.fix));
  }
}

const takenAt = (fix: Fix): number => Date.parse(fix.recordedAt ?? "");

const newer = (a: Fix | undefined, b: Fix | undefined): Fix | undefined => (!a || (b && !(takenAt(b) < takenAt(a))) ? b : a);

/** What follows an attempt; pauses in ms. */
interface Step {
  pause: number;
  /** Comes after pause, and ends when the browser is online again. */
  backOff: number;
  /** The fixes are not done. */
  again: boolean;
  /** No fix can succeed. */
  over: boolean;
}

/** Decides after an attempt; failures counts the temporary ones in a row, this one included. */
function nextStep({ receipt, error }: Attempt, failures: number): Step {
  const step: Step = { pause: 0, backOff: 0, again: false, over: false };
  if (!error) {
    const next = Number(receipt?.nextUpdateMs) || usualInterval;
    const away = receipt !== undefined && "stored" in receipt; // 202: the live store is away
    return { ...step, pause: away ? next : next - early, again: away };
  }
  const pause = error.retryAfterMs;
  if (temporary(error)) {
    const told = error instanceof Refusal && error.code === "RATE_LIMITED" && pause > 0;
    return { ...step, pause, backOff: told ? 0 : Math.max(0, backOff(failures) - pause), again: true };
  }
  return [401, 403, 404].includes(error.status)
    ? { ...step, again: true, over: true }
    : { ...step, pause: pause || usualInterval };
}
