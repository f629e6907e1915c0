/** The clock of all pauses and ages, in ms: monotonic, because a user can set the other one. */
export const now = (): number => performance.now();

/** No pause is longer, whatever an answer asks for: a journey takes an hour at most, and a timer overflows at 2^31 ms. */
export const longestPause = 3_600_000;

/** The least time in ms between the starts of two requests, in the long run. */
export const minGap = 1000;

/** Gives requests their turns: one in minGap, and as many as burst more at once after a rest. */
export class Pace {
  #next = -Infinity;

  constructor(readonly burst: number) {}

  /** Takes a turn and returns in how many ms it comes. */
  take(): number {
    this.#next = Math.max(this.#next + minGap, now() - this.burst * minGap);
    return Math.max(0, this.#next - now());
  }
}

/**
 * The pause in ms after a number of failures in a row: 1 s, doubled up to 30 s, times a random factor from 0.5 to 1.5, so that the
 * phones that lost one gateway do not all come back at one time.
 */
export const backOff = (failures: number): number =>
  Math.min(1000 * 2 ** (failures - 1), 30_000) * (0.5 + Math.random());

/** Waits for ms, or until one of the signals is aborted. */
export function sleep(ms: number, ...signals: (AbortSignal | undefined)[]): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      for (const s of signals) s?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(ms, longestPause));
    for (const s of signals) s?.addEventListener("abort", done);
    if (signals.some((s) => s?.aborted)) done();
  });
}

/** Wakes those who sleep on its signal, each time that it rings. */
export class WakeUp {
  #controller = new AbortController();

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  ring(): void {
    this.#controller.abort();
    this.#controller = new AbortController();
  }
}

/** Calls back at each of the events of the page, where there is a page. Returns how to stop that. */
export function listen(target: "window" | "document", event: string, callback: () => void): () => void {
  const at: Partial<EventTarget> | undefined = target === "window" ? globalThis : globalThis.document;
  at?.addEventListener?.(event, callback); // React Native has a window without events, Node has none
  return () => at?.removeEventListener?.(event, callback);
}
