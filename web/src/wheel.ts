// A trainer's phone at work: it watches the position, sends it, and keeps the screen on. It knows no page.
import { type Attempt, type Fix, fixOf, JourneyReporter, NoAnswer, Refusal } from "@doorstep/client";
import type { Session } from "./api.js";
import type { SignIn } from "./signin.js";

/** What there is to show of a drive. */
export interface Progress {
  /** The newest position of the phone. */
  fix: Fix | undefined;
  waiting: number;
  /** To the door, metres; null where the phone or the home is not known. */
  distance: number | null;
  /** What the service, or the phone, said last; in plain words. */
  said: string;
  /** All is well: the last fix was taken. */
  well: boolean;
  awake: boolean;
}

export class Wheel {
  readonly progress: Progress = { fix: undefined, waiting: 0, distance: null, said: "Looking for your position …", well: false, awake: false };
  readonly #home: Session["studentHome"] | undefined;
  readonly #reporter: JourneyReporter;
  readonly #stop = new AbortController();
  #lock: WakeLockSentinel | undefined;

  /** changed is called after each change of progress, over when the journey has ended by itself. */
  constructor({ sessionId: session, studentHome }: Session, signIn: SignIn, readonly changed: () => void, over: (why: Refusal) => void) {
    this.#home = studentHome ?? undefined;
    this.#reporter = new JourneyReporter({ baseUrl: new URL(".", location.href).href, session, token: signIn.token, minimal: true, onAttempt: (a) => this.#heard(a) });
    this.#reporter.run(this.#stop.signal).catch((error: unknown) => {
      if (error instanceof Refusal) over(error);
    });
    const watch = navigator.geolocation.watchPosition(
      (position) => this.#at(fixOf(position)),
      (error) => this.#say(error.code === error.PERMISSION_DENIED
        ? "This page may not know your position. Allow it in the browser's settings, and load the page again." : "The phone does not know where it is. Outside it knows better.", false),
      { enableHighAccuracy: true, maximumAge: 0 },
    );
    const { signal } = this.#stop;
    signal.addEventListener("abort", () => navigator.geolocation.clearWatch(watch));
    document.addEventListener("visibilitychange", () => void this.#stayAwake(), { signal });
    void this.#stayAwake();
  }

  /** Ends the journey at the door. */
  async arrive(): Promise<void> {
    await this.#reporter.arrive(this.progress.fix);
    this.end();
  }

  /** Stops watching, and forgets all places. */
  end(): void {
    this.#stop.abort();
    this.#reporter.clear();
    this.progress.fix = undefined;
    void this.#lock?.release();
  }

  #at(fix: Fix): void {
    this.progress.fix = fix;
    this.progress.distance = this.#home ? metersBetween(fix, this.#home) : null;
    this.#reporter.report(fix);
    this.progress.waiting = this.#reporter.waiting;
    this.changed();
  }

  #heard({ receipt, error }: Attempt): void {
    this.progress.waiting = this.#reporter.waiting;
    this.#say(...(error ? refused(error) : taken(receipt)));
  }

  #say(what: string, well: boolean): void {
    Object.assign(this.progress, { said: what, well });
    this.changed();
  }

  /** A browser lets go of the lock when the page is hidden. */
  async #stayAwake(): Promise<void> {
    if (document.visibilityState !== "visible" || this.#stop.signal.aborted) return;
    this.#lock = await navigator.wakeLock?.request("screen").catch(() => undefined);
    this.progress.awake = this.#lock !== undefined;
    this.#lock?.addEventListener("release", () => (this.progress.awake = false));
    if (this.#stop.signal.aborted) void this.#lock?.release();
    this.changed();
  }
}

interface Place {
  latitude: number;
  longitude: number;
}

/** The distance of two places that are near each other: on a map that is true at the second one. */
function metersBetween(a: Place, b: Place): number {
  const degree = 111_195; // metres, of a circle around the earth
  return degree * Math.hypot(a.latitude - b.latitude, (a.longitude - b.longitude) * Math.cos(b.latitude * Math.PI / 180));
}

/** What an answer to a fix means. */
function taken(receipt: Attempt["receipt"]): [string, boolean] {
  if (!receipt) return ["", false];
  if ("stored" in receipt) return ["The service keeps your position back for a moment; it is sent again.", false];
  const ignored = "ignored" in receipt ? receipt.ignored : undefined;
  switch (ignored) {
    case undefined: return ["Your student sees where you are.", true];
    case "low_accuracy": return ["Your position is too vague to be shown. Under the open sky it gets better.", false];
    case "no_position": return ["The phone gave no position.", false];
    default: return ["Your student sees where you are.", true]; // too soon, or from before the start: the next one counts
  }
}

const refusals: Record<string, string> = {
  IMPLAUSIBLE_SPEED: "Refused: faster than your way of travelling can be. It is put right by the next positions.",
  IMPLAUSIBLE_JUMP: "Refused: too far from the last position. It is put right by the next positions.",
  RATE_LIMITED: "Sent too soon; the next one waits a moment.",
};

function refused(error: Refusal | NoAnswer): [string, boolean] {
  if (error instanceof NoAnswer) return ["No connection. Your positions wait and are sent later.", false];
  return [refusals[error.code ?? ""] ?? error.body.message ?? "The service refused a position.", false];
}
