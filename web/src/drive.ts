// A trainer's page, on their own phone: start, drive, arrive, type in the code.
import "./drive.css";
import { Refusal } from "@doorstep/client";
import { readConfig } from "../plain/config.js";
import { element, say } from "../plain/dom.js";
import { Ground } from "../plain/ground.js";
import { ago, distance, words } from "../plain/words.js";
import { Api, type Session } from "./api.js";
import { gate, plainly } from "./gate.js";
import { Backdrop } from "./map.js";
import { SignIn } from "./signin.js";
import { Wheel } from "./wheel.js";

const config = readConfig();
const signIn = new SignIn(config);
const api = new Api(signIn.token);
const ground = new Ground(element("div", { class: "ground" }), config.radiusMeters, words);
const map = config.mapStyle ? new Backdrop(ground.host, config.mapStyle) : undefined;
ground.onView = (camera) => (camera.zoom > 1 ? map?.follow(camera) : map?.remove());

const chip = element("span");
const sheet = element("div", { class: "sheet" });
const live = element("p", { class: "unseen", role: "status" });
const page = element("div", { class: "page student", "data-tone": "still", "data-icon": "" },
  element("main", { class: "stage" }, ground.host, element("div", { class: "chip" }, element("i"), chip)), sheet, live);
let wheel: Wheel | undefined;
let timer = 0;

/** Fills the sheet, and says its head to a screen reader. */
function show(state: string, big: string, ...rest: (Node | string)[]): void {
  sheet.replaceChildren(element("h1", { class: "state" }, state), element("p", { class: "big" }, big), ...rest);
  say(live, `${state}. ${big}`);
}

function button(label: string, act: () => Promise<void>, quiet = false): HTMLButtonElement {
  const made = element("button", { class: `button${quiet ? " quiet" : ""}`, type: "button" }, label);
  made.onclick = () => {
    made.disabled = true;
    act().catch(complain).finally(() => (made.disabled = false));
  };
  return made;
}

const note = (text: string) => element("p", { class: "note", role: "status" }, text);

function complain(error: unknown): void {
  if (error instanceof Refusal && error.status === 401) return gate("Your drive", signIn, plainly(error));
  sheet.querySelector(".note")?.remove();
  sheet.append(note(doorWords(error)));
}

/** Why an arrival was refused. */
function doorWords(error: unknown): string {
  if (!(error instanceof Refusal)) return plainly(error);
  switch (error.code) {
    case "NOT_WITHIN_RADIUS": return `You are ${distance(Number(error.body.distanceMeters ?? 0))} from the door. It opens within ${config.radiusMeters} m.`;
    case "NO_FRESH_LOCATION": return "Your last position is too old. Wait until the phone has found you.";
    case "SUSPICIOUS_LOCATION": return "Your way here cannot be followed yet. Stay at the door for half a minute and try again.";
    case "OTP_WRONG": return `That is not the code. ${String(error.body.attemptsLeft ?? "A few")} tries left.`;
    case "OTP_EXPIRED": return "The code is too old. Make a new one.";
    case "OTP_LOCKED": return "Too many tries. Ask whoever arranged the lesson to unlock it.";
    default: return error.body.message ?? plainly(error);
  }
}

const lesson = (s: Session) => (s.scheduledAt ? `Lesson ${clock(s.scheduledAt)}` : "Your lesson");

const clock = (at: string | null) => (at ? new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" }).format(new Date(at)) : "no time set");

/** Lets the trainer choose a lesson, or goes on with the one that is under way. */
async function choose(): Promise<void> {
  park();
  const { sessions } = await api.call<{ sessions: Session[] }>("GET", "/trainers/me/sessions?limit=50");
  const open = sessions.filter((s) => ["scheduled", "pending_verification", "in_progress"].includes(s.status));
  const wanted = new URLSearchParams(location.search).get("session");
  const now = open.find((s) => s.sessionId === wanted) ?? open.find((s) => underWay(s) || s.status !== "scheduled");
  if (now) return enter(now);
  say(chip, "Not under way");
  const list = open.reverse().map((s) => element("li", {}, button(clock(s.scheduledAt), () => enter(s))));
  for (const [i, s] of open.entries()) list[i]?.firstElementChild?.append(element("small", {}, `…${s.sessionId.slice(-4)}`));
  show("Your lessons", open.length ? "Which one?" : "None is open", element("ul", { class: "lessons" }, ...list), button("Look again", choose, true));
}

const underWay = (s: Session) => s.status === "scheduled" && s.journeyStartedAt !== null && s.journeyEndedAt === null;

/** Shows a session in whatever state it is. */
async function enter(session: Session): Promise<void> {
  park();
  history.replaceState(null, "", `${location.pathname}?session=${session.sessionId}`);
  if (underWay(session)) return driving(session);
  switch (session.status) {
    case "scheduled": return before(session);
    case "pending_verification": return atDoor(session);
    case "in_progress":
      say(chip, "Lesson in progress");
      return show("The code was right", "Lesson in progress", button("The lesson is over", () => step(session, "complete")));
    default:
      say(chip, "Over");
      return show(`This lesson is ${session.status.replaceAll("_", " ")}`, "Nothing more to do", button("Your lessons", leave));
  }
}

const path = (s: Session, what = "") => `/admin/sessions/${s.sessionId}${what && `/${what}`}`;
const again = async (s: Session) => enter(await api.call<Session>("GET", path(s)));

/** Makes a call that changes the session, and shows what has become of it. */
async function step(session: Session, what: string, body?: unknown): Promise<void> {
  await api.call("POST", path(session, what), body);
  return again(session);
}

async function leave(): Promise<void> {
  history.replaceState(null, "", location.pathname);
  return choose();
}

/** Before the start. */
function before(session: Session): void {
  say(chip, "Not under way");
  const modes = element("fieldset", { class: "modes" }, element("legend", { class: "unseen" }, "How you travel"), ...([["car", "Car"], ["bike", "Bike"], ["walk", "On foot"]] as const).map(([mode, label]) => {
    const input = element("input", { type: "radio", name: "mode", value: mode });
    input.checked = mode === session.travelMode;
    return element("label", {}, input, label);
  }));
  const start = button("Start the journey", () => step(session, "start-journey", { travelMode: modes.querySelector<HTMLInputElement>(":checked")?.value }));
  show(lesson(session), "Ready to go?", modes, start, button("Another lesson", leave, true),
    element("p", { class: "honest" }, "From the start your student sees where you are, until you arrive or stop. Keep this page open and the screen on: a browser stops sending when the screen is locked or another app is in front."));
}

/** On the way. */
function driving(session: Session): void {
  const big = element("span", {}, "…");
  const [seen, awake] = [element("span"), element("span")];
  const said = note("");
  const arrive = button("I have arrived", async () => {
    await wheel?.arrive();
    return again(session);
  });
  let sure = false;
  const stop = button("Stop the journey", async () => {
    if (!sure) {
      sure = true;
      stop.textContent = "Really stop? Press again";
      setTimeout(() => ((sure = false), (stop.textContent = "Stop the journey")), 5000);
      return;
    }
    await api.call("POST", path(session, "stop-journey"));
    wheel?.end();
    return leave();
  }, true);
  show(lesson(session), "", element("div", { class: "facts" }, seen, awake), said, arrive, stop,
    element("p", { class: "honest" }, "A browser stops sending when the screen is locked or another app is in front. Keep this page open."));
  sheet.querySelector(".big")?.replaceChildren(big, element("small", {}, " to the door"));
  const paint = () => {
    if (!wheel) return;
    const { fix, waiting, distance: left, said: what, well, awake: on } = wheel.progress;
    const shown = fix && { latitude: fix.latitude, longitude: fix.longitude, timestamp: fix.recordedAt ?? "", ...(fix.accuracy ? { accuracy: fix.accuracy } : {}), ...(fix.heading ? { heading: fix.heading } : {}) };
    ground.show({ home: session.studentHome ?? null, fix: shown ?? null, lost: !well });
    page.dataset.tone = well ? "go" : "warn";
    say(chip, navigator.onLine ? `Sending · ${waiting} waiting` : `Offline · ${waiting} waiting`);
    say(big, left === null ? "…" : distance(left));
    say(seen, fix ? `Last fix ${ago(Date.now() - Date.parse(fix.recordedAt ?? ""))} ago, ±${Math.round(fix.accuracy ?? 0)}\u00a0m` : "No fix yet");
    say(awake, on ? "Screen stays on" : "Keep the screen on yourself");
    say(said, what);
  };
  wheel = new Wheel(session, signIn, paint, (why) => {
    park();
    if (why.status === 401) gate("Your drive", signIn, plainly(why));
    else void again(session).catch(complain);
  });
  timer = setInterval(paint, 1000);
  paint();
}

/** At the door: the student reads out the code. */
function atDoor(session: Session): void {
  say(chip, "At the door");
  const code = element("input", { class: "type-code", inputmode: "numeric", autocomplete: "one-time-code", maxlength: "4", pattern: "[0-9]{4}", "aria-label": "The student's code, four digits" });
  const verify = button("Begin the lesson", () => step(session, "verify-otp", { otp: code.value }));
  code.oninput = () => {
    code.value = code.value.replace(/\D/g, "");
    if (code.value.length === 4) verify.click();
  };
  show("You are at the door", "Type in the student's code", code, verify,
    button("Send the code to the student again", () => step(session, "resend-otp"), true), button("Nobody is there", () => step(session, "no-show"), true));
  if (session.otpState === "expired") sheet.append(button("Make a new code", () => renew(session)));
  code.focus();
}

/** Arrives again, with a fix that is taken now. */
async function renew(session: Session): Promise<void> {
  const { coords } = await new Promise<GeolocationPosition>((found, failed) => navigator.geolocation.getCurrentPosition(found, failed, { enableHighAccuracy: true, timeout: 15_000 }));
  return step(session, "arrived", { latitude: coords.latitude, longitude: coords.longitude, accuracy: coords.accuracy, recordedAt: new Date().toISOString(), sentAt: new Date().toISOString() });
}

/** Stops what belongs to a drive, and forgets its places. */
function park(): void {
  wheel?.end();
  wheel = undefined;
  clearInterval(timer);
  ground.clear();
  page.dataset.tone = "still";
}

async function begin(): Promise<void> {
  document.title = "Your drive";
  void navigator.serviceWorker?.register("sw.js", { scope: "drive" }).catch(console.warn);
  await signIn.resume();
  if (!signIn.signedIn) return gate("Your drive", signIn);
  document.body.replaceChildren(page);
  show("Your lessons", "…");
  return choose().catch(complain);
}

void begin();
