// What the programs of both clients do with an answer. Each client's own types must fit these.
import type { Expected } from "./expected";

interface Refused {
  code: string;
  message: string;
  retryAfterMs?: number;
}

export const failure = ({ code, message }: Refused): Error => new Error(`${code}: ${message}`);

/** After how many milliseconds another fix may be sent; throws where another would be refused, too. */
export function afterRefusal(error: Refused): number {
  switch (error.code) {
    case "RATE_LIMITED":
    case "IMPLAUSIBLE_JUMP":
    case "IMPLAUSIBLE_SPEED":
      return error.retryAfterMs ?? 5000;
    default:
      throw failure(error);
  }
}

/** Prints what became of a fix and returns after how many milliseconds to send the next. */
export function reported(receipt: Expected["judged"] | Expected["stored"] | Expected["unstored"] | undefined): number {
  if (receipt === undefined) {
    throw new Error("no body: only a caller that asks for none is answered so");
  }
  if ("stored" in receipt) {
    console.log("accepted, not stored");
  } else if ("stale" in receipt) {
    console.log(`not newer than version ${receipt.seq}`);
  } else if (receipt.distanceMeters === null) {
    console.log(`not stored: ${receipt.ignored ?? "unknown reason"}`);
  } else {
    console.log(`stored, ${receipt.distanceMeters.toFixed()} m to go`);
  }
  return receipt.nextUpdateMs;
}

/** Waits until a refused poll may be sent again; throws where that would not help. */
export async function beforePoll(error: Refused): Promise<void> {
  if (error.code !== "TOO_MANY_WAITS" && error.code !== "RATE_LIMITED") {
    throw failure(error);
  }
  await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs));
}

/** Prints where the trainer is and returns whether the journey goes on. */
export function shown({ location, isActive, etaSeconds }: Expected["live"]): boolean {
  if (location !== null) {
    console.log(`${location.latitude.toFixed(5)}, ${location.longitude.toFixed(5)}, ${etaSeconds ?? "?"} s to go`);
  }
  return isActive;
}
