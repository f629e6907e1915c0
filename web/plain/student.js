// The student's page: when will they be here, where are they, and can it be trusted. It is told what is known and shows it.
import { element, say, svg } from "./dom.js";
import { Ground } from "./ground.js";
import { ago, distance, eta, language, words } from "./words.js";

/** @typedef {import("./ground.js").Fix} Fix */
/** @typedef {import("./camera.js").Place} Place */
/**
 * What is known of a journey, as the client's views have it.
 * @typedef {object} View
 * @property {"not_started" | "on_the_way" | "arriving" | "arrived" | "ended" | "signal_lost"} status
 * @property {Fix | null} location
 * @property {number | null} distanceMeters
 * @property {number | null} etaSeconds
 * @property {() => number | null} fixAgeMs
 * @property {unknown} problem null: all is well
 * @property {boolean} degraded
 */
/** @typedef {"gone" | "over" | "stopped" | "lesson" | "forbidden" | "signin" | "connecting"} Still a state in which there is no journey to see */
/** @typedef {{ radiusMeters: number }} Config */
/** @typedef {{ tone: "go" | "warn" | "still", chip: string, state: string, big: string, small?: string, note?: string, code?: string, icon?: Icon }} Face */
/** @typedef {"clock" | "door" | "book" | "end"} Icon */

const icons = {
  clock: "M24 12v13l8 5M24 6a18 18 0 1 0 0 36 18 18 0 0 0 0-36",
  door: "M12 42V8h24v34M6 42h36M29 25v2",
  book: "M24 13c-5-4-12-4-17-2v27c5-2 12-2 17 2 5-4 12-4 17-2V11c-5-2-12-2-17 2zm0 0v27",
  end: "M24 6a18 18 0 1 0 0 36 18 18 0 0 0 0-36M16 24h16",
};

export class StudentPage {
  /** @type {View | undefined} */ #view;
  /** @type {string | undefined} */ #code;
  #said = "";
  #timer = 0;

  /** @param {HTMLElement} root @param {Config} config */
  constructor(root, config) {
    document.title = words.title;
    document.documentElement.lang = language;
    this.ground = new Ground(element("div", { class: "ground" }), config.radiusMeters, words);
    this.chip = element("span");
    this.picture = svg("svg", { viewBox: "0 0 48 48", class: "icon", "aria-hidden": "true" }, svg("path"));
    this.state = element("h1", { class: "state" });
    this.big = element("p", { class: "big" });
    this.code = element("p", { class: "code" });
    this.note = element("p", { class: "note" });
    this.action = element("button", { class: "button", type: "button", hidden: "" });
    this.live = element("p", { class: "unseen", role: "status" });
    this.page = element("div", { class: "page student" },
      element("div", { class: "stage" }, this.ground.host, element("div", { class: "chip" }, element("i"), this.chip), this.picture),
      element("div", { class: "sheet" }, this.state, this.big, this.code, this.note, this.action), this.live);
    root.replaceChildren(this.page);
    this.still("connecting");
  }

  /** Shows what is known now. home and code are null where they are not to be shown. @param {View} view @param {Place | null} home @param {string} [code] */
  show(view, home, code) {
    const runs = view.status === "on_the_way" || view.status === "arriving" || view.status === "signal_lost";
    this.#view = view;
    this.#code = code;
    if (runs) {
      this.ground.show({ home, fix: view.location, lost: view.status === "signal_lost" || view.problem !== null || view.degraded });
    } else {
      this.forget();
    }
    this.#paint();
    this.#timer ||= setInterval(() => this.#paint(), 1000);
  }

  /** Shows a state in which there is nothing more to know. @param {Still} what */
  still(what) {
    this.forget();
    this.#view = undefined;
    this.action.hidden = true;
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#wear(faceOf(what));
  }

  /** Offers one thing to do. @param {string} label @param {() => void} act */
  offer(label, act) {
    this.action.textContent = label;
    this.action.onclick = act;
    this.action.hidden = false;
  }

  /** Says why something did not work. @param {string} why */
  complain(why) {
    this.note.textContent = `${words.failed}: ${why}`;
    this.note.hidden = false;
  }

  /** Lets go of every place. */
  forget() {
    this.ground.clear();
  }

  #paint() {
    if (this.#view) this.#wear(face(this.#view, this.#code));
  }

  /** @param {Face} f */
  #wear(f) {
    this.page.dataset.tone = f.tone;
    this.page.dataset.icon = f.icon ?? "";
    this.picture.firstElementChild?.setAttribute("d", f.icon ? icons[f.icon] : "");
    say(this.chip, f.chip);
    say(this.state, f.state);
    const small = f.small ? ` · ${f.small}` : "";
    if (this.big.textContent !== f.big + small) this.big.replaceChildren(f.big, ...(small ? [element("small", {}, small)] : []));
    if (this.code.dataset.code !== f.code) this.#spell(f.code);
    say(this.note, f.note ?? "");
    this.note.hidden = !f.note;
    this.#announce(f);
  }

  /** @param {string} [code] */
  #spell(code) {
    this.code.hidden = !code;
    this.code.replaceChildren(...[...(code ?? "")].map((digit) => element("span", { "aria-hidden": "true" }, digit)));
    if (code) {
      this.code.dataset.code = code;
      this.code.append(element("span", { class: "unseen" }, words.code([...code].join(" "))));
    } else {
      delete this.code.dataset.code;
    }
  }

  /** Tells a screen reader each state once. @param {Face} f */
  #announce(f) {
    const key = f.state + f.tone + (f.code ?? "");
    if (key === this.#said) return;
    this.#said = key;
    this.live.textContent = [f.state, f.big, f.small, f.code && words.code([...f.code].join(" ")), f.note].filter(Boolean).join(". ");
  }
}

/** How a view of a journey looks. @param {View} view @param {string} [code] @returns {Face} */
function face(view, code) {
  const age = view.fixAgeMs();
  const seen = age === null ? "" : ago(age);
  switch (view.status) {
    case "not_started":
      return { tone: "still", icon: "clock", chip: view.problem ? words.noConnection : words.waiting, state: words.notStarted, big: words.notStartedBig, note: words.notStartedNote };
    case "arrived":
      return { tone: "go", icon: "door", chip: words.atDoor, state: words.here, big: code ? words.codeBig : words.hereBig, ...(code ? { code, note: words.codeNote } : {}) };
    case "ended":
      return faceOf("stopped");
  }
  const lost = view.status === "signal_lost";
  const blind = view.problem !== null || view.degraded;
  const state = view.status === "arriving" ? words.almostThere : words.onTheWay;
  const far = view.distanceMeters === null ? undefined : distance(view.distanceMeters);
  const note = view.problem ? words.offlineNote : view.degraded ? words.degradedNote : lost ? (seen ? words.lostNote(seen) : words.lostLongNote) : undefined;
  const tone = lost || blind ? "warn" : "go";
  const chip = !seen ? (view.problem ? words.noConnection : words.waiting) : view.problem ? words.offline(seen) : lost || blind ? words.seen(seen) : words.live(seen);
  if (view.etaSeconds !== null && view.location) {
    return { tone, chip, state, big: eta(view.etaSeconds, lost || blind), ...(far ? { small: far } : {}), ...(note ? { note } : {}) };
  }
  return { tone, chip, state, big: far ? words.away(far) : words.noPlaceBig, ...(note || far ? { note: note ?? "" } : { note: words.noPlaceNote }) };
}

/** How a state without a journey looks. @param {Still} what @returns {Face} */
function faceOf(what) {
  /** @type {Record<Still, Face>} */
  const faces = {
    connecting: { tone: "still", chip: words.connecting, state: words.title, big: "…" },
    gone: { tone: "still", icon: "end", chip: words.ended, state: words.gone, big: words.goneBig, note: words.goneNote },
    stopped: { tone: "still", icon: "end", chip: words.ended, state: words.stopped, big: words.stoppedBig, note: words.stoppedNote },
    lesson: { tone: "go", icon: "book", chip: words.lessonBig, state: words.lesson, big: words.lessonBig },
    over: { tone: "still", icon: "end", chip: words.ended, state: words.over, big: words.overBig },
    forbidden: { tone: "still", icon: "end", chip: words.ended, state: words.forbidden, big: words.forbiddenBig, note: words.forbiddenNote },
    signin: { tone: "still", icon: "door", chip: words.waiting, state: words.title, big: words.signInBig },
  };
  return faces[what];
}
