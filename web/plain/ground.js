// The ground that a journey is drawn on: the home with its fence, the way so far, and the pin. It needs no map; where there is one, it lies
// under the drawing.
import { Camera, movable } from "./camera.js";
import { element, set, svg } from "./dom.js";
import { Glide } from "./glide.js";

/** @typedef {import("./camera.js").Place} Place */
/** @typedef {Place & { accuracy?: number, heading?: number, timestamp: string }} Fix */
/** @typedef {{ home: Place | null, fix: Fix | null, lost: boolean }} Scene */

const border = { top: 84, right: 40, bottom: 72, left: 40 };
const longestTrail = 720; // fixes; an hour of them
const rings = [250, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000]; // metres
const widestScale = 110; // px

/** Draws into its host. Call clear() when the journey is over: then it knows no place any more. */
export class Ground {
  camera = new Camera();
  /** Is called when the camera has moved, with it. @type {((camera: Camera) => void) | undefined} */
  onView;
  /** Is called when a fix has been painted. @type {((fix: Fix) => void) | undefined} */
  onPainted;
  #glide = new Glide();
  /** @type {Scene} */ #scene = { home: null, fix: null, lost: false };
  /** @type {Fix[]} */ #trail = [];
  /** @type {{ center: { x: number, y: number }, zoom: number } | undefined} */ #goal;
  #held = false; // a person has moved the camera
  #frame = 0;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  /** @param {HTMLElement} host @param {number} radiusMeters @param {{ recenter: string, map: string }} words */
  constructor(host, radiusMeters, words) {
    this.host = host;
    this.radiusMeters = radiusMeters;
    this.rings = rings.map((meters) => ({ meters, circle: svg("circle", { class: "range" }), label: svg("text", { class: "range-label" }) }));
    this.fence = svg("circle", { class: "fence" });
    this.house = svg("path", { class: "house", d: "M-9 10V-1h-5L0-14 14-1h-5v11z" });
    this.trail = svg("polyline", { class: "trail" });
    this.accuracy = svg("circle", { class: "accuracy" });
    this.arrow = svg("path", { class: "arrow", d: "M0-9l6.5 16L0 3l-6.5 4z" });
    this.pin = svg("g", { class: "pin" }, svg("circle", { r: 16 }), this.arrow);
    this.drawing = svg("svg", { "aria-hidden": "true" }, svg("g", { class: "ranges" }, ...this.rings.flatMap((r) => [r.circle, r.label])),
      this.fence, this.house, this.trail, this.accuracy, this.pin);
    this.scale = element("div", { class: "scale", "aria-hidden": "true" });
    this.recenter = element("button", { class: "fab", type: "button", "aria-label": words.recenter, hidden: "" }, "◎");
    this.recenter.addEventListener("click", () => this.#follow());
    set(host, { tabindex: 0, role: "group", "aria-label": words.map });
    host.append(this.drawing, this.scale, this.recenter);
    movable(host, this.camera, () => this.#moved());
    new ResizeObserver(() => this.#resized()).observe(host);
    this.#resized();
  }

  /** @param {Scene} scene */
  show(scene) {
    const { fix } = scene;
    const before = this.#scene.fix;
    this.#scene = scene;
    if (fix && fix.timestamp !== before?.timestamp) {
      this.#trail.push(fix);
      if (this.#trail.length > longestTrail) this.#trail.shift();
      this.#glide.moveTo(fix, performance.now(), this.#calm.matches);
      requestAnimationFrame(() => requestAnimationFrame(() => this.onPainted?.(fix))); // the second comes after the first is painted
    }
    if (!fix) this.#glide.forget();
    if (!this.#held) this.#aim();
    this.#redraw();
  }

  /** Forgets all places, and takes them off the screen. */
  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#scene = { home: null, fix: null, lost: false };
    this.#trail = [];
    this.#glide.forget();
    this.#goal = undefined;
    Object.assign(this.camera, { center: { x: 0.5, y: 0.5 }, zoom: 1 });
    this.#held = false;
    this.#draw();
  }

  #resized() {
    this.camera.width = this.host.clientWidth;
    this.camera.height = this.host.clientHeight;
    this.#aim(true);
    this.#redraw();
  }

  #moved() {
    this.#held = true;
    this.#goal = undefined;
    this.recenter.hidden = false;
    this.#redraw();
  }

  #follow() {
    this.#held = false;
    this.recenter.hidden = true;
    this.#aim();
    this.#redraw();
  }

  /** Says where the camera should go. @param {boolean} [now] at once */
  #aim(now = false) {
    const { home, fix } = this.#scene;
    const places = [...(home ? around(home, this.radiusMeters) : []), ...(fix ? [fix] : [])];
    if (places.length === 0 || this.#held) return;
    const first = this.camera.zoom === 1;
    this.#goal = this.camera.fitting(places, border);
    if (first || now || this.#calm.matches) Object.assign(this.camera, this.#goal);
  }

  #redraw() {
    this.#frame ||= requestAnimationFrame((now) => {
      this.#frame = 0;
      const travels = this.#travel();
      this.#draw(now);
      if (travels || this.#glide.moving(now)) this.#redraw();
    });
  }

  /** Moves the camera a part of its way. */
  #travel() {
    const goal = this.#goal;
    if (!goal) return false;
    const { center, zoom } = this.camera;
    const left = Math.hypot(goal.center.x - center.x, goal.center.y - center.y) * this.camera.scale + Math.abs(goal.zoom - zoom) * 100;
    const part = left < 0.5 ? 1 : 0.12;
    this.camera.center = { x: center.x + (goal.center.x - center.x) * part, y: center.y + (goal.center.y - center.y) * part };
    this.camera.zoom = zoom + (goal.zoom - zoom) * part;
    if (part === 1) this.#goal = undefined;
    return part < 1;
  }

  #draw(now = performance.now()) {
    const { home, fix, lost } = this.#scene;
    const { camera } = this;
    const at = this.#glide.at(now);
    const meter = camera.pixelsPerMeter;
    this.#drawHome(home ? camera.project(home) : null, meter);
    set(this.trail, { points: [...this.#trail.slice(0, -1), ...(at ? [at] : [])].map((p) => point(camera.project(p))).join(" ") });
    const on = at && fix ? camera.project(at) : null;
    for (const part of [this.accuracy, this.pin]) show(part, on !== null);
    if (on) {
      set(this.accuracy, { cx: on.x, cy: on.y, r: Math.min((fix?.accuracy ?? 0) * meter, 2000) });
      set(this.pin, { transform: `translate(${on.x} ${on.y})`, "data-lost": String(lost) });
      show(this.arrow, !lost && fix?.heading !== undefined);
      set(this.arrow, { transform: `rotate(${fix?.heading ?? 0})` });
    } else {
      this.pin.removeAttribute("transform");
      for (const name of ["cx", "cy", "r"]) this.accuracy.removeAttribute(name);
    }
    this.host.classList.toggle("lost", lost);
    this.#drawScale(home || fix ? meter : 0);
    this.onView?.(camera);
  }

  /** @param {{ x: number, y: number } | null} at @param {number} meter px */
  #drawHome(at, meter) {
    for (const part of [this.fence, this.house]) show(part, at !== null);
    set(this.house, { transform: at ? `translate(${at.x} ${at.y})` : "" });
    set(this.fence, { cx: at?.x ?? 0, cy: at?.y ?? 0, r: this.radiusMeters * meter });
    for (const { meters, circle, label } of this.rings) {
      const r = meters * meter;
      const seen = at !== null && meters > this.radiusMeters && r > 70 && r < 4 * Math.max(this.camera.width, this.camera.height);
      for (const part of [circle, label]) show(part, seen);
      set(circle, { cx: at?.x ?? 0, cy: at?.y ?? 0, r });
      set(label, { x: at?.x ?? 0, y: (at?.y ?? 0) - r - 4 });
      label.textContent = seen ? metric(meters) : "";
    }
  }

  /** @param {number} meter px; 0: no scale */
  #drawScale(meter) {
    this.scale.hidden = meter === 0;
    let meters = 1;
    for (const next of [2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6]) {
      if (next * meter <= widestScale) meters = next;
    }
    this.scale.style.width = `${meters * meter}px`;
    this.scale.textContent = meter === 0 ? "" : metric(meters);
  }
}

/** Two corners of the square around a place. @param {Place} place @param {number} meters @returns {Place[]} */
function around({ latitude, longitude }, meters) {
  const north = meters / 111_195;
  const east = north / Math.cos((latitude * Math.PI) / 180);
  return [{ latitude: latitude - north, longitude: longitude - east }, { latitude: latitude + north, longitude: longitude + east }];
}

/** @param {{ x: number, y: number }} p */
const point = ({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`;

/** @param {SVGElement} part @param {boolean} seen */
const show = (part, seen) => part.classList.toggle("away", !seen);

/** @param {number} meters */
const metric = (meters) => (meters < 1000 ? `${meters} m` : `${meters / 1000} km`);
