// Signing in at the operator's OpenID Connect issuer: the code flow with PKCE (RFC 7636). The token is in this page's memory alone.
import type { Config } from "../plain/config.js";

/** What the issuer says of itself, as far as it is needed. */
interface Issuer {
  authorization_endpoint: string;
  token_endpoint: string;
}

/** What outlives the way to the issuer and back. No part of it is of use to anybody later. */
interface Trip {
  state: string;
  verifier: string;
  /** The page's own query, which is shown again. */
  query: string;
}

const kept = "doorstep-signin";

/** The person at this page. */
export class SignIn {
  #access = "";
  #refresh = "";
  #issuer: Promise<Issuer> | undefined;
  #renewing: Promise<string> | undefined;
  /** Why the last try failed; empty: it did not. */
  failure = "";

  constructor(readonly config: Config) {}

  get possible(): boolean {
    return Boolean(this.config.issuer);
  }

  get signedIn(): boolean {
    return this.#access !== "";
  }

  /** The user's id and roles are the issuer's business; this is what it calls the person, for the page to show. */
  get name(): string {
    const claims = claimsOf(this.#access);
    return [claims.name, claims.email, claims.preferred_username].find((n) => typeof n === "string") as string | undefined ?? "";
  }

  /** Ends the way back from the issuer, if that is where the page comes from. Call it first. */
  async resume(): Promise<void> {
    const query = new URLSearchParams(location.search);
    const trip = JSON.parse(sessionStorage.getItem(kept) ?? "null") as Trip | null;
    sessionStorage.removeItem(kept);
    const [code, state, error] = [query.get("code"), query.get("state"), query.get("error_description") ?? query.get("error")];
    if (!state || !(code || error)) return;
    for (const name of ["code", "state", "iss", "session_state", "error", "error_description"]) query.delete(name);
    history.replaceState(null, "", location.pathname + (trip?.query ?? (query.size ? `?${query}` : "")));
    if (!trip || trip.state !== state) this.failure = "this answer was not asked for";
    else if (!code) this.failure = error ?? "";
    else await this.#exchange({ grant_type: "authorization_code", code, code_verifier: trip.verifier, redirect_uri: here() }).catch((why: unknown) => (this.failure = String(why)));
  }

  /** Leaves for the issuer. The page is loaded again when the person comes back. */
  async leave(): Promise<void> {
    const trip: Trip = { state: random(), verifier: random(), query: location.search };
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(trip.verifier));
    const to = new URL((await this.#about()).authorization_endpoint);
    const asked = {
      response_type: "code", client_id: this.config.clientId ?? "", redirect_uri: here(), scope: this.config.scope ?? "openid",
      state: trip.state, code_challenge: base64url(new Uint8Array(digest)), code_challenge_method: "S256",
    };
    for (const [name, value] of Object.entries(asked)) to.searchParams.set(name, value);
    sessionStorage.setItem(kept, JSON.stringify(trip));
    location.assign(to);
  }

  /** The client's source of tokens. It throws where the person must sign in again. */
  readonly token = async (refused?: string): Promise<string> => {
    if (refused && refused === this.#access) {
      this.#renewing ??= this.#renew().finally(() => (this.#renewing = undefined));
      return this.#renewing;
    }
    return this.#access;
  };

  async #renew(): Promise<string> {
    if (this.#refresh) await this.#exchange({ grant_type: "refresh_token", refresh_token: this.#refresh });
    return this.#access; // the old one, without a refresh token: it is refused again, and that is the end
  }

  async #exchange(form: Record<string, string>): Promise<void> {
    const answer = await fetch((await this.#about()).token_endpoint, {
      method: "POST", body: new URLSearchParams({ ...form, client_id: this.config.clientId ?? "" }), credentials: "omit", referrerPolicy: "no-referrer",
    });
    const body = (await answer.json()) as { access_token?: string; refresh_token?: string; error?: string; error_description?: string };
    if (!answer.ok || !body.access_token) throw new Error(body.error_description ?? body.error ?? `the issuer answered ${answer.status}`);
    this.#access = body.access_token;
    this.#refresh = body.refresh_token ?? this.#refresh;
  }

  async #about(): Promise<Issuer> {
    const issuer = (this.config.issuer ?? "").replace(/\/$/, "");
    this.#issuer ??= fetch(`${issuer}/.well-known/openid-configuration`, { credentials: "omit", referrerPolicy: "no-referrer" }).then((answer) => {
      if (!answer.ok) throw new Error(`the issuer answered ${answer.status}`);
      return answer.json() as Promise<Issuer>;
    });
    try {
      return await this.#issuer;
    } catch (error) {
      this.#issuer = undefined;
      throw error;
    }
  }
}

/** Where the issuer sends the person back to. It must know this address. */
const here = () => location.origin + location.pathname;

const base64url = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** The claims of a token, to show; the gateway is what checks them. */
function claimsOf(token: string): Record<string, unknown> {
  try {
    const bytes = Uint8Array.from(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  } catch {
    return {};
  }
}
