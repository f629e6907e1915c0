// The calls that the pages make besides those of the client.
import { type components, NoAnswer, Refusal, type TokenSource } from "@doorstep/client";

export type Session = components["schemas"]["Session"];
export type RunningJourney = components["schemas"]["RunningJourney"];
export type History = components["schemas"]["History"];

/** Makes calls as one person. */
export class Api {
  constructor(readonly token: TokenSource) {}

  /** Makes one call, and repeats it once with a new token after a 401. Throws a Refusal or a NoAnswer. */
  async call<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
    const token = await this.token();
    try {
      return await this.#once<T>(token, method, path, body);
    } catch (error) {
      if (!(error instanceof Refusal && error.status === 401)) throw error;
      return this.#once<T>(await this.token(token), method, path, body);
    }
  }

  async #once<T>(token: string, method: string, path: string, body: unknown): Promise<T> {
    const answer = await fetch(`api/v1${path}`, {
      method, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(10_000), body: JSON.stringify(body) ?? null,
      headers: { Authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    }).catch((error: unknown) => {
      throw new NoAnswer("no answer", 0, 0, error);
    });
    const said = (await answer.json().catch(() => ({}))) as { data?: T; code?: string; message?: string; retryAfterMs?: number };
    if (answer.ok && said.data !== undefined) return said.data;
    if (said.code === undefined && answer.status !== 401) throw new NoAnswer(`${answer.status}, and the answer is not the API's`, answer.status);
    throw new Refusal(answer.status, said as ConstructorParameters<typeof Refusal>[1], said.retryAfterMs ?? 0);
  }
}

/** Waits. */
export const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
