// MapLibre GL JS, in a chunk of its own: it is many times as large as the page.
import { AttributionControl, Map, setWorkerUrl, type StyleSpecification } from "maplibre-gl";
import "maplibre-gl/dist/maplibre-gl.css";
import worker from "maplibre-gl/dist/maplibre-gl-worker.mjs?url";

setWorkerUrl(new URL(worker, import.meta.url).href);

/** Makes a map that a person cannot move: the drawing over it is moved, and takes it along. */
export function load(container: HTMLElement, style: StyleSpecification, from: string): Map {
  const map = new Map({
    container, style, interactive: false, attributionControl: false, fadeDuration: 0, renderWorldCopies: true,
    transformRequest: (url) => ({ url: new URL(url, from).href, referrerPolicy: "no-referrer" }),
  });
  return map.addControl(new AttributionControl({ compact: true }), "bottom-right");
}
