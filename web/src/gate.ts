// What stands before the pages of people with a login.
import { Refusal } from "@doorstep/client";
import { element } from "../plain/dom.js";
import type { SignIn } from "./signin.js";

/** Shows why somebody does not get in, and how they may. Nothing comes after it but a page that is loaded anew. */
export function gate(title: string, signIn: SignIn, why = signIn.failure): void {
  const note = element("p", { class: "note", role: "status" }, why);
  note.hidden = !why;
  const button = element("button", { class: "button", type: "button" }, "Sign in");
  button.onclick = () => signIn.leave().catch((error: unknown) => {
    note.textContent = `That did not work: ${String(error)}`;
    note.hidden = false;
  });
  const all = [element("h1", { class: "big" }, title), note, signIn.possible ? button : element("p", { class: "note" }, "Signing in is not set up: see DOORSTEP_PAGES_OIDC_ISSUER.")];
  document.body.replaceChildren(element("main", { class: "gate" }, ...all));
}

/** What a refusal means to the person at the page. */
export function plainly(error: unknown): string {
  if (!(error instanceof Refusal)) return "No connection. Trying again.";
  if (error.status === 401) return "Your sign-in has ended.";
  if (error.status === 403) return "You are signed in, but this is not for your role.";
  return error.body.message ?? `The service said ${error.status}.`;
}
