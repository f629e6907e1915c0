// The map under the drawing, where the operator has chosen a style and it can be had. It only shows: the drawing on it is the ground's.
import type { Map } from "maplibre-gl";
import { type Camera, placeOf } from "../plain/camera.js";

const patience = 10_000; // ms

/** A map that goes where the camera goes. */
export class Backdrop {
  #map: Map | undefined;
  #camera: Camera | undefined; // undefined: nothing is shown, or has been asked for
  #failed = false;
  readonly #host = document.createElement("div");

  /** Puts the map under what is in the element. Nothing is shown before the style has come, nor when it cannot be had. */
  constructor(readonly over: HTMLElement, readonly style: string) {
    this.#host.className = "map";
  }

  /** Shows the camera's view. The map is fetched at the first call. */
  readonly follow = (camera: Camera): void => {
    if (this.#failed) return;
    const first = !this.#camera;
    this.#camera = camera;
    if (first) {
      this.#fetch().catch((error: unknown) => {
        console.warn("no map:", error);
        this.#failed = true;
        this.remove();
      });
    }
    this.#go();
  };

  /** Takes the map away, with every place that it knows. */
  remove(): void {
    this.#map?.remove();
    this.#map = this.#camera = undefined;
    this.#host.remove();
    this.over.classList.remove("mapped");
  }

  async #fetch(): Promise<void> {
    const answer = await fetch(this.style, { signal: AbortSignal.timeout(patience), referrerPolicy: "no-referrer", credentials: "omit" });
    if (!answer.ok) throw new Error(`the style is answered ${answer.status}`);
    const [style, { load }] = await Promise.all([answer.json(), import("./maplibre.js")]);
    if (!this.#camera || this.#map) return; // it was taken away meanwhile
    this.over.prepend(this.#host);
    const map = this.#map = load(this.#host, style, this.style);
    this.#go();
    await new Promise<void>((shown, failed) => {
      const late = setTimeout(() => failed(new Error("it was not drawn in time")), patience);
      map.once("remove", () => (clearTimeout(late), shown()));
      map.once("render", () => (clearTimeout(late), shown()));
    });
    if (this.#map === map) this.over.classList.add("mapped");
  }

  #go(): void {
    if (!this.#map || !this.#camera) return;
    const { latitude, longitude } = placeOf(this.#camera.center);
    this.#map.jumpTo({ center: [longitude, latitude], zoom: this.#camera.zoom });
  }
}
