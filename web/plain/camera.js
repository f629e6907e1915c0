// What part of the world is in sight, and where a place is on the screen: Web Mercator, north up, as maps on the web have it.

/** @typedef {{ latitude: number, longitude: number }} Place degrees, WGS 84 */
/** @typedef {{ x: number, y: number }} Point */

/** The world's width at zoom 0 in px, as MapLibre counts. */
const tile = 512;
const equator = 40_075_016.686; // metres
const closest = 18;

/** A place in the square of Web Mercator: 0 to 1 eastwards and southwards. @param {Place} place @returns {Point} */
export function mercator({ latitude, longitude }) {
  const sine = Math.sin((Math.max(-85, Math.min(85, latitude)) * Math.PI) / 180);
  return { x: longitude / 360 + 0.5, y: 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI) };
}

/** The inverse of mercator. @param {Point} at @returns {Place} */
export const placeOf = ({ x, y }) => ({
  latitude: (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI,
  longitude: (x - 0.5) * 360,
});

/** Looks at the world from above. Its fields may be set at any time. */
export class Camera {
  center = { x: 0.5, y: 0.5 };
  zoom = 1;
  width = 1;
  height = 1;

  /** px per world. */
  get scale() {
    return tile * 2 ** this.zoom;
  }

  /** Where a place is on the screen, px from the left upper corner. @param {Place} place @returns {Point} */
  project(place) {
    return this.toScreen(mercator(place));
  }

  /** @param {Point} at in the square of Web Mercator @returns {Point} */
  toScreen({ x, y }) {
    return { x: (x - this.center.x) * this.scale + this.width / 2, y: (y - this.center.y) * this.scale + this.height / 2 };
  }

  /** How many px a metre is at the middle of the screen. */
  get pixelsPerMeter() {
    const { latitude } = placeOf(this.center);
    return this.scale / (equator * Math.cos((latitude * Math.PI) / 180));
  }

  /** Moves the world by so many px. @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.center = { x: this.center.x - dx / this.scale, y: this.center.y - dy / this.scale };
  }

  /** Zooms, and keeps what is at a point of the screen there. @param {number} by @param {Point} [at] */
  zoomBy(by, at = { x: this.width / 2, y: this.height / 2 }) {
    const [dx, dy] = [at.x - this.width / 2, at.y - this.height / 2];
    this.pan(-dx, -dy);
    this.zoom = Math.max(1, Math.min(closest, this.zoom + by));
    this.pan(dx, dy);
  }

  /**
   * The view in which all places are in sight, with a border around them.
   * @param {Place[]} places at least one @param {{ top: number, right: number, bottom: number, left: number }} border px @param {number} [nearest] zoom
   */
  fitting(places, border, nearest = 16) {
    const points = places.map(mercator);
    const [xs, ys] = [points.map((p) => p.x), points.map((p) => p.y)];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const width = Math.max(40, this.width - border.left - border.right);
    const height = Math.max(40, this.height - border.top - border.bottom);
    const scale = Math.min(width / Math.max(right - left, 1e-9), height / Math.max(bottom - top, 1e-9));
    const zoom = Math.max(1, Math.min(nearest, Math.log2(scale / tile)));
    const px = tile * 2 ** zoom;
    const center = { x: (left + right) / 2 + (border.right - border.left) / 2 / px, y: (top + bottom) / 2 + (border.bottom - border.top) / 2 / px };
    return { center, zoom };
  }
}

/**
 * Lets a person move the camera: drag, pinch, wheel, and the keys + - and the arrows while the element has the focus.
 * @param {HTMLElement} element @param {Camera} camera @param {() => void} moved
 */
export function movable(element, camera, moved) {
  /** @type {Map<number, Point>} */
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  };
  /** @param {{ clientX: number, clientY: number }} event */
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.target instanceof Element && event.target.closest("a, button")) return;
    fingers.set(event.pointerId, at(event));
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [now, wide] = [at(event), spread()];
    fingers.set(event.pointerId, now);
    camera.pan((now.x - before.x) / fingers.size, (now.y - before.y) / fingers.size);
    if (wide > 0) camera.zoomBy(Math.log2(Math.max(1, spread()) / wide), now);
    if (now.x !== before.x || now.y !== before.y) moved();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => fingers.delete(/** @type {PointerEvent} */ (event).pointerId));
  }
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    camera.zoomBy(-event.deltaY / 300, at(event));
    moved();
  }, { passive: false });
  element.addEventListener("keydown", (event) => {
    /** @type {Record<string, () => void>} */
    const keys = {
      "+": () => camera.zoomBy(0.5), "-": () => camera.zoomBy(-0.5), ArrowLeft: () => camera.pan(60, 0),
      ArrowRight: () => camera.pan(-60, 0), ArrowUp: () => camera.pan(0, 60), ArrowDown: () => camera.pan(0, -60),
    };
    const key = keys[event.key];
    if (!key || event.target !== element) return;
    event.preventDefault();
    key();
    moved();
  });
}
