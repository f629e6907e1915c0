// Many journeys on one ground: drawn on a canvas, those that lie close to each other as one.
import { Camera, mercator, movable, type Point } from "../plain/camera.js";
import { element } from "../plain/dom.js";
import type { RunningJourney } from "./api.js";

/** How much a journey needs a look; a word and a shape go with each. */
export type Concern = "suspicious" | "silent" | "long" | "live";
export const concerns: readonly Concern[] = ["suspicious", "silent", "long", "live"];

/** Seconds of silence, and minutes on the way, from which on a journey needs a look. */
const [silentFrom, longFrom] = [30, 45];

export function concernOf(j: RunningJourney): Concern {
  if (j.flags.length > 0) return "suspicious";
  if (j.silentSeconds >= silentFrom) return "silent";
  return Date.now() - Date.parse(j.startedAt) >= longFrom * 60_000 ? "long" : "live";
}

interface Dot {
  journey: RunningJourney;
  concern: Concern;
  at: Point; // in the square of Web Mercator
}

/** Journeys that are drawn as one. */
interface Cluster {
  x: number;
  y: number;
  dots: Dot[];
}

const cell = 64; // px; what lies in one is drawn as one
const apart = 17; // zoom from which on each journey is drawn by itself
const reach = 22; // px; how far from a mark a click may be

export class Flock {
  readonly camera = new Camera();
  readonly host = element("div", { class: "ground", tabindex: "0", role: "group", "aria-label": "Map of all journeys. Plus and minus zoom, the arrows move. The list has the same journeys." });
  onPick: ((journey: RunningJourney) => void) | undefined;
  onView: ((camera: Camera) => void) | undefined;
  /** How long the last drawing took, ms. */
  drawnIn = 0;
  picked = "";
  readonly #canvas = element("canvas", { "aria-hidden": "true" });
  #dots: Dot[] = [];
  #clusters: Cluster[] = [];
  #frame = 0;
  #fitted = false;
  #pressed: Point = { x: 0, y: 0 };

  constructor() {
    const all = element("button", { class: "fab", type: "button", "aria-label": "Show all journeys" }, "◎");
    all.onclick = () => this.fit();
    this.host.append(this.#canvas, all);
    movable(this.host, this.camera, () => this.redraw());
    this.host.addEventListener("pointerdown", (event) => (this.#pressed = { x: event.clientX, y: event.clientY }));
    this.host.addEventListener("click", (event) => {
      if (event.target !== all && Math.hypot(event.clientX - this.#pressed.x, event.clientY - this.#pressed.y) < 6) this.#click(event);
    });
    new ResizeObserver(() => this.#resized()).observe(this.host);
  }

  show(journeys: readonly RunningJourney[]): void {
    this.#dots = journeys.flatMap((journey) => (journey.location ? [{ journey, concern: concernOf(journey), at: mercator(journey.location) }] : []));
    if (!this.#fitted && this.#dots.length > 0) this.fit();
    this.redraw();
  }

  /** Moves so that all journeys are in sight, or those given. */
  fit(dots: readonly Dot[] = this.#dots): void {
    const places = dots.flatMap((d) => (d.journey.location ? [d.journey.location] : []));
    if (places.length === 0 || this.camera.width < 2) return;
    this.#fitted = true;
    Object.assign(this.camera, this.camera.fitting(places, { top: 70, right: 70, bottom: 70, left: 70 }, apart));
    this.redraw();
  }

  /** Moves to one journey. */
  goTo({ location }: RunningJourney): void {
    if (!location) return;
    Object.assign(this.camera, { center: mercator(location), zoom: Math.max(this.camera.zoom, 14) });
    this.redraw();
  }

  redraw(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const began = performance.now();
      this.#draw();
      this.drawnIn = performance.now() - began;
      this.onView?.(this.camera);
    });
  }

  #resized(): void {
    const { clientWidth, clientHeight } = this.host;
    Object.assign(this.camera, { width: clientWidth, height: clientHeight });
    Object.assign(this.#canvas, { width: clientWidth * devicePixelRatio, height: clientHeight * devicePixelRatio });
    if (!this.#fitted) this.fit();
    this.redraw();
  }

  #gather(): Cluster[] {
    const cells = new Map<number, Cluster>();
    const alone = this.camera.zoom >= apart;
    const { width, height, scale, center } = this.camera;
    // Cells lie still on the ground while the camera moves, so that no cluster changes by that.
    const [left, top] = [Math.floor((center.x * scale - width / 2) / cell) * cell, Math.floor((center.y * scale - height / 2) / cell) * cell];
    for (const [i, dot] of this.#dots.entries()) {
      const { x, y } = this.camera.toScreen(dot.at);
      if (x < -cell || y < -cell || x > width + cell || y > height + cell) continue;
      const [column, row] = [Math.floor((dot.at.x * scale - left) / cell), Math.floor((dot.at.y * scale - top) / cell)];
      // What needs a look is never hidden among what does not.
      const key = alone ? -1 - i : ((row + 2) * 4096 + column + 2) * concerns.length + concerns.indexOf(dot.concern);
      const cluster = cells.get(key);
      if (!cluster) cells.set(key, { x, y, dots: [dot] });
      else {
        cluster.x += (x - cluster.x) / (cluster.dots.length + 1);
        cluster.y += (y - cluster.y) / (cluster.dots.length + 1);
        cluster.dots.push(dot);
      }
    }
    const rank = ({ dots: [dot] }: Cluster) => (dot ? concerns.indexOf(dot.concern) : 0);
    return [...cells.values()].sort((a, b) => rank(b) - rank(a)); // the most suspicious is drawn last, on top
  }

  #draw(): void {
    const pen = this.#canvas.getContext("2d");
    if (!pen) return;
    const style = getComputedStyle(this.host);
    const color = (name: string) => style.getPropertyValue(name);
    const colors: Record<Concern, string> = { suspicious: color("--stop"), silent: color("--warn"), long: color("--soft"), live: color("--go") };
    const [card, ink] = [color("--card"), color("--ink")];
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, this.camera.width, this.camera.height);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    this.#clusters = this.#gather();
    for (const { x, y, dots } of this.#clusters) {
      const [first] = dots;
      if (dots.length === 1 && first) {
        mark(pen, x, y, first.concern, colors[first.concern], card);
        if (first.journey.sessionId === this.picked) ring(pen, x, y, 16, ink);
        continue;
      }
      const radius = 13 + Math.min(12, Math.log2(dots.length) * 1.6);
      pen.fillStyle = card;
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fill();
      ring(pen, x, y, radius, first ? colors[first.concern] : ink, 4);
      pen.fillStyle = ink;
      pen.font = "600 12px system-ui, sans-serif";
      pen.fillText(String(dots.length), x, y);
      if (dots.some((d) => d.journey.sessionId === this.picked)) ring(pen, x, y, radius + 5, ink);
    }
  }

  #click(event: MouseEvent): void {
    const box = this.host.getBoundingClientRect();
    const away = (c: Cluster) => Math.hypot(c.x - (event.clientX - box.left), c.y - (event.clientY - box.top));
    const nearest = this.#clusters.filter((c) => away(c) < reach + c.dots.length).sort((a, b) => away(a) - away(b))[0];
    const only = nearest?.dots.length === 1 ? nearest.dots[0] : undefined;
    if (only) this.onPick?.(only.journey);
    else if (nearest) this.fit(nearest.dots);
  }
}

/** One journey: a disc, a square on its corner for a silent one, a triangle for a suspicious one. */
function mark(pen: CanvasRenderingContext2D, x: number, y: number, concern: Concern, color: string, edge: string): void {
  const corners = { suspicious: [[0, -11], [10, 8], [-10, 8]], silent: [[0, -10], [10, 0], [0, 10], [-10, 0]], long: undefined, live: undefined }[concern];
  pen.beginPath();
  if (corners) for (const [dx = 0, dy = 0] of corners) pen.lineTo(x + dx, y + dy);
  else pen.arc(x, y, 8, 0, 2 * Math.PI);
  pen.closePath();
  pen.fillStyle = color;
  pen.fill();
  pen.lineWidth = 2;
  pen.strokeStyle = edge;
  pen.stroke();
}

function ring(pen: CanvasRenderingContext2D, x: number, y: number, radius: number, color: string, width = 2): void {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.lineWidth = width;
  pen.strokeStyle = color;
  pen.stroke();
}
