// The page of the staff: all that runs on one map, what needs a look on top, and what happened to one session.
import "./ops.css";
import { Refusal } from "@doorstep/client";
import { readConfig } from "../plain/config.js";
import { element, say } from "../plain/dom.js";
import { distance, eta } from "../plain/words.js";
import { Api, type History, pause, type RunningJourney, type Session } from "./api.js";
import { type Concern, concernOf, concerns, Flock } from "./flock.js";
import { gate, plainly } from "./gate.js";
import { Backdrop } from "./map.js";
import { SignIn } from "./signin.js";
import { storyOf } from "./story.js";

const pollEvery = 5000; // ms, and never more than half of the time is spent on asking
const rowsShown = 200;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const config = readConfig();
const signIn = new SignIn(config);
const api = new Api(signIn.token);
const flock = new Flock();
const counts = element("p", { class: "counts" });
const trouble = element("p", { class: "note", role: "status", hidden: "" });
const find = element("input", { type: "search", placeholder: "Trainer, student or session id", "aria-label": "Find by trainer, student or session id", autocomplete: "off", spellcheck: "false" });
const rows = element("ul", { class: "rows" });
const story = element("section", { class: "story", hidden: "", "aria-label": "What happened" });
let journeys: RunningJourney[] = [];
let picked = "";

/** Reads all pages of call 17. */
async function readAll(): Promise<RunningJourney[]> {
  const all: RunningJourney[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const page: { journeys: RunningJourney[]; nextCursor: string | null } = await api.call("GET", `/admin/journeys?limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    all.push(...page.journeys);
    cursor = page.nextCursor;
  }
  return all;
}

async function poll(): Promise<void> {
  for (;;) {
    const began = performance.now();
    try {
      if (document.visibilityState === "visible") {
        journeys = await readAll();
        flock.show(journeys);
        list();
        if (picked) await tell(picked);
      }
      trouble.hidden = true;
    } catch (error) {
      if (error instanceof Refusal && (error.status === 401 || error.status === 403)) return gate("All journeys", signIn, plainly(error));
      trouble.textContent = plainly(error);
      trouble.hidden = false;
    }
    await pause(Math.max(pollEvery, performance.now() - began));
  }
}

const short = (id: string) => `…${id.slice(-4)}`;

const label: Record<Concern, (j: RunningJourney) => string> = {
  suspicious: () => "suspicious",
  silent: (j) => `silent for ${j.silentSeconds < 120 ? `${j.silentSeconds} s` : `${Math.round(j.silentSeconds / 60)} min`}`,
  long: (j) => `under way for ${Math.round((Date.now() - Date.parse(j.startedAt)) / 60_000)} min`,
  live: () => "live",
};

/** Shows the journeys that are looked for, those that need a look first. */
function list(): void {
  const by = new Map(concerns.map((c) => [c, [] as RunningJourney[]]));
  for (const j of journeys) by.get(concernOf(j))?.push(j);
  const n = (c: Concern) => by.get(c)?.length ?? 0;
  const number = new Intl.NumberFormat("en");
  say(counts, [number.format(journeys.length), n("suspicious") && `${number.format(n("suspicious"))} suspicious`, n("silent") && `${number.format(n("silent"))} silent`, n("long") && `${number.format(n("long"))} long under way`].filter(Boolean).join(" · "));
  const sought = find.value.trim().toLowerCase();
  const hits = concerns.flatMap((c) => by.get(c) ?? []).filter((j) => !sought || [j.sessionId, j.trainerId, j.studentId].some((id) => id.includes(sought)));
  const had = rows.querySelector<HTMLElement>(":focus")?.dataset.session;
  rows.replaceChildren(...hits.slice(0, rowsShown).map(rowOf));
  if (had) rows.querySelector<HTMLElement>(`[data-session="${had}"]`)?.focus();
  if (hits.length > rowsShown) rows.append(element("li", { class: "more" }, `and ${number.format(hits.length - rowsShown)} more; the map has them all`));
  if (hits.length === 0) rows.append(element("li", { class: "more" }, sought ? "No journey that runs has this id." : "No journey runs."));
  if (hits.length === 0 && uuid.test(sought)) void others(sought);
}

function rowOf(j: RunningJourney): HTMLElement {
  const concern = concernOf(j);
  const far = [j.flags.join(", ").replaceAll("_", " "), j.distanceMeters === null ? "no place yet" : distance(j.distanceMeters), j.etaSeconds === null ? "" : eta(j.etaSeconds, concern === "silent")].filter(Boolean).join(" · ");
  const row = element("button", { type: "button", class: `row ${concern}`, "data-session": j.sessionId, "aria-pressed": String(j.sessionId === picked) },
    element("i"), element("span", {}, short(j.sessionId), element("small", {}, far)), element("b", {}, label[concern](j)));
  row.onclick = () => pick(j);
  return element("li", {}, row);
}

/** Finds sessions that do not run. */
async function others(id: string): Promise<void> {
  const none = () => undefined;
  const one = await api.call<Session>("GET", `/admin/sessions/${id}`).catch(none);
  const of = async (party: string) => (await api.call<{ sessions: Session[] }>("GET", `/admin/sessions?${party}=${id}&limit=20`).catch(none))?.sessions ?? [];
  const found = one ? [one] : [...(await of("trainerId")), ...(await of("studentId"))];
  if (find.value.trim().toLowerCase() !== id || found.length === 0) return;
  rows.replaceChildren(...found.map((s) => {
    const when = s.scheduledAt ?? s.createdAt;
    const row = element("button", { type: "button", class: "row", "data-session": s.sessionId }, element("i"),
      element("span", {}, short(s.sessionId), element("small", {}, when ? new Date(when).toLocaleString() : "")), element("b", {}, s.status.replaceAll("_", " ")));
    row.onclick = () => void tell(s.sessionId);
    return element("li", {}, row);
  }));
}

function pick(j: RunningJourney): void {
  flock.goTo(j);
  void tell(j.sessionId);
  list();
}

/** Shows what happened to a session, and goes on doing so. */
async function tell(session: string): Promise<void> {
  picked = flock.picked = session;
  flock.redraw();
  const history = await api.call<History>("GET", `/admin/sessions/${session}/history?limit=200`).catch((error: unknown) => plainly(error));
  if (picked !== session) return;
  const j = journeys.find((r) => r.sessionId === session);
  const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
  close.onclick = () => {
    picked = flock.picked = "";
    story.hidden = true;
    flock.redraw();
    list();
  };
  const ids = element("p", { class: "ids" }, ...[["session", session], ["trainer", j?.trainerId], ["student", j?.studentId]].flatMap(([what, id]) => (id ? [copier(what ?? "", id)] : [])));
  const at = story.scrollTop;
  story.replaceChildren(element("h2", {}, `${short(session)}, as it happened`), close, ids, typeof history === "string" ? element("p", { class: "note" }, history) : storyOf(history));
  story.hidden = false;
  story.scrollTop = at;
}

function copier(what: string, id: string): HTMLElement {
  const button = element("button", { type: "button", title: `Copy ${id}` }, `${what} ${short(id)}`);
  button.onclick = () => navigator.clipboard.writeText(id).then(() => (button.textContent = `${what} copied`), () => (button.textContent = id));
  return button;
}

async function begin(): Promise<void> {
  document.title = "All journeys";
  await signIn.resume();
  if (!signIn.signedIn) return gate("All journeys", signIn);
  const map = config.mapStyle ? new Backdrop(flock.host, config.mapStyle) : undefined;
  flock.onView = (camera) => camera.zoom > 1 && map?.follow(camera);
  flock.onPick = pick;
  find.oninput = list;
  document.body.replaceChildren(element("div", { class: "ops" },
    element("aside", { class: "side" }, element("header", {}, element("h1", {}, "Running now"), counts, find, trouble), rows),
    element("main", { class: "stage" }, flock.host, story)));
  return poll();
}

void begin();
