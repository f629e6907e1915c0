import type { components } from "./generated/openapi.js";
import { longestPause, now, type Pace, sleep } from "./pace.js";

type Schemas = components["schemas"];

/** Why a call was refused. A newer gateway may have codes that are not listed here. */
export type Code = Schemas["Code"];

/**
 * Gives the bearer token of the next request. It is called for each request, so it should keep the token and renew it in time. With
 * refused it is called after that token was answered 401: it must get a new one. A rejection counts as a lost network.
 */
export type TokenSource = (refused?: string) => string | Promise<string>;

/** Which gateway to call, and as whom. */
export interface Gateway {
  /** The gateway's public URL: https://gateway.example, or with the path before /api. */
  baseUrl: string;
  /** The user's token, or what gives it. A text is never renewed. */
  token: string | TokenSource;
}

/** A refusal by the gateway. The message never has a token or a position. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  /** Why; undefined where a 401 was not answered by the gateway itself. */
  readonly code: Code | undefined;
  /** To quote to the operator. */
  readonly requestId: string | undefined;

  /** retryAfterMs is 0 where the gateway did not say when to come back; body is the rest of what it said. */
  constructor(readonly status: number, readonly body: Partial<Schemas["Failure"]>, readonly retryAfterMs: number) {
    super(`${status} ${body.code ?? ""}: ${body.message ?? ""} (request ${body.requestId ?? "unknown"})`);
    this.code = body.code;
    this.requestId = body.requestId;
  }
}

/** NoAnswer: the network, a time-out, the token source, or an answer that is not a gateway's, such as a proxy's 502. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";

  /** status is 0 where nothing at all was answered, retryAfterMs where nobody said when to come back. */
  constructor(message: string, readonly status = 0, readonly retryAfterMs = 0, cause?: unknown) {
    super(message, { cause });
  }
}

/** Whether the same call may succeed later: no answer, 408, 429 or 5xx, or an arrival that needs more of a track. */
export function temporary(error: Refusal | NoAnswer): boolean {
  if (error instanceof NoAnswer) return true;
  if (error.code === "OTP_LOCKED") return false; // 429: only another code helps
  if (error.code === "SUSPICIOUS_LOCATION" || error.code === "NO_FRESH_LOCATION") return error.retryAfterMs > 0;
  return error.status === 408 || error.status === 429 || error.status >= 500;
}

export interface Request {
  method: "GET" | "POST";
  /** Below /api/v1, with its query. */
  path: string;
  /** Makes the body, when the request leaves. */
  body?: () => unknown;
  etag?: string;
  /** Asks for an answer without a body. */
  minimal?: boolean | undefined;
  /** How long one try may take, its wait for the pace not counted. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export interface Answer {
  status: number;
  etag: string;
  /** The answer's field data; its type is that of the call in openapi.yaml. Without a body: what the headers say of fixes. */
  data: any;
}

/** How long a region that did not answer is left alone, in ms: the first gateway then forwards the calls, or says what it can. */
const awayFor = 30_000;

/** Makes requests to one gateway, at its pace. Where the session belongs to another region, they go there. */
export class Caller {
  readonly #base: string;
  #home = ""; // where the session's region is called; empty: it is not another one, as far as is known
  #awayUntil = 0;
  readonly #token: TokenSource;
  readonly #renews: boolean;
  readonly #pace: Pace;

  constructor({ baseUrl, token }: Gateway, pace: Pace) {
    if (!/^https?:\/\/[^/?#@]+(\/[^?#@]*)?$/.test(baseUrl)) {
      throw new TypeError("baseUrl must be http://host or https://host, without user or query");
    }
    this.#base = baseUrl.replace(/\/$/, "") + "/api/v1";
    this.#renews = typeof token === "function";
    this.#token = typeof token === "function" ? token : () => token;
    this.#pace = pace;
  }

  /** Makes one call, and repeats it once with a new token after a 401. Throws a Refusal or a NoAnswer. */
  async call(request: Request): Promise<Answer> {
    const used: { token?: string } = {};
    try {
      return await this.#atHome(request, used);
    } catch (error) {
      if (!(error instanceof Refusal && error.status === 401 && this.#renews)) throw error;
      return this.#atHome(request, used);
    }
  }

  async #atHome(request: Request, used: { token?: string }): Promise<Answer> {
    const { signal } = request;
    const home = this.#home && now() >= this.#awayUntil ? this.#home : "";
    const direct = !this.#home || home !== "";
    try {
      return await this.#once(request, used, home || this.#base, direct);
    } catch (error) {
      if (direct && error instanceof Refusal && error.code === "WRONG_REGION") {
        // Not asked for the URL again: where it cannot be called, or two regions each say that the session is the other's, as just
        // after its booking was moved, the call is to be forwarded.
        return this.#once(request, used, this.#moves(error.body.url) ? this.#home : this.#base, false);
      }
      if (home && error instanceof NoAnswer && !signal?.aborted) this.#awayUntil = now() + awayFor;
      throw error;
    }
  }

  /** Notes where the session is called. The token goes there: only over https, or over http where the gateway is reached so, too. */
  #moves(url: unknown): boolean {
    if (typeof url !== "string" || !/^https?:\/\/[^/?#@]+(\/[^?#@]*)?$/.test(url)) return false;
    if (!url.startsWith("https:") && !this.#base.startsWith("http:")) return false;
    this.#home = url.replace(/\/$/, "") + "/api/v1";
    return true;
  }

  async #once(r: Request, used: { token?: string }, base: string, direct: boolean): Promise<Answer> {
    await sleep(this.#pace.take(), r.signal);
    const stop = new AbortController();
    const abort = () => stop.abort();
    const timer = setTimeout(abort, r.timeoutMs);
    r.signal?.addEventListener("abort", abort);
    if (r.signal?.aborted) abort();
    try {
      return await Promise.race([this.#fetch(r, used, stop.signal, base, direct), aborted(stop.signal)]);
    } catch (error) {
      throw error instanceof Refusal || error instanceof NoAnswer ? error : new NoAnswer("no answer", 0, 0, error);
    } finally {
      clearTimeout(timer);
      r.signal?.removeEventListener("abort", abort);
    }
  }

  async #fetch(r: Request, used: { token?: string }, signal: AbortSignal, base: string, direct: boolean): Promise<Answer> {
    used.token = await this.#token(used.token);
    if (signal.aborted) throw new NoAnswer("no token in time");
    const headers: Record<string, string> = { Authorization: `Bearer ${used.token}` };
    if (r.etag) headers["If-None-Match"] = r.etag;
    if (direct) headers["Prefer"] = "redirect"; // tell where the session's region is called, instead of forwarding
    if (r.body) headers["Content-Type"] = "application/json";
    if (r.minimal) headers["Prefer"] = direct ? "redirect, return=minimal" : "return=minimal";
    const response = await fetch(base + r.path, {
      method: r.method,
      headers,
      body: JSON.stringify(r.body?.()) ?? null,
      cache: "no-store", // a browser's cache would turn a 304 into a 200 with an old place
      credentials: "omit",
      redirect: "error", // a gateway never redirects; a fix must not go elsewhere
      signal,
    });
    return read(response.status, response.headers, await response.text());
  }
}

/** Rejects when the signal is aborted. */
const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    const abort = () => reject(new Error("aborted, or not answered in time"));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
  });

function read(status: number, headers: Headers, text: string): Answer {
  const etag = headers.get("ETag") ?? "";
  if (status === 304) return { status, etag, data: undefined };
  const nextUpdateMs = Number.parseInt(headers.get("Next-Update-Ms") ?? "", 10); // a captive portal answers 204, too, but without it
  if (status === 204 && nextUpdateMs > 0) return { status, etag, data: { seq: Number(/\d+/.exec(etag)?.[0] ?? 0), nextUpdateMs } };
  let body: { success?: unknown; data?: unknown } & Partial<Schemas["Failure"]> = {};
  try {
    body = Object(JSON.parse(text));
  } catch {
    // not a gateway's
  }
  if (status < 300 && body.data instanceof Object) return { status, etag, data: body.data };
  const pause = retryAfter(headers.get("Retry-After"), body.retryAfterMs);
  // The gateway's refusals have a code. What a proxy or a hotel's network says instead proves nothing, but for a 401.
  if (status === 401 || (status >= 400 && typeof body.code === "string")) throw new Refusal(status, body, pause);
  throw new NoAnswer(`${status}, and the answer is not the API's`, status, pause);
}

/** Reads when to come back, in ms: the answer's own number, or the header, which is whole seconds or a date; 0: not said. */
function retryAfter(header: string | null, ms: unknown): number {
  const said = typeof ms === "number" && ms > 0 ? ms : Number(header) * 1000 || Date.parse(header ?? "") - Date.now();
  return said > 0 ? Math.min(said, longestPause) : 0;
}
