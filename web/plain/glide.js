// Where the pin is between two fixes.

/** @typedef {import("./camera.js").Place} Place */

const glideMs = 1000;
/** A pin that would cross so much in one glide appears where it is, instead: degrees, some 5 km. */
const leap = 0.05;

/** Moves from where it was to the last fix and stays there. It is never anywhere but on the line between the two. */
export class Glide {
  /** @type {Place | undefined} */ #from;
  /** @type {Place | undefined} */ #to;
  #began = 0;

  /** @param {Place} place @param {number} now ms @param {boolean} still without moving */
  moveTo(place, now, still) {
    const from = this.at(now);
    const far = !from || Math.abs(from.latitude - place.latitude) + Math.abs(from.longitude - place.longitude) > leap;
    this.#from = still || far ? place : from;
    this.#to = place;
    this.#began = now;
  }

  /** @param {number} now ms */
  at(now) {
    const [from, to] = [this.#from, this.#to];
    if (!from || !to) return undefined;
    const t = Math.max(0, Math.min(1, (now - this.#began) / glideMs));
    const part = 1 - (1 - t) ** 3; // fast at first, so that it is near the truth soon
    return {
      latitude: from.latitude + (to.latitude - from.latitude) * part,
      longitude: from.longitude + (to.longitude - from.longitude) * part,
    };
  }

  /** @param {number} now ms */
  moving(now) {
    return this.#to !== undefined && now - this.#began < glideMs && this.#from !== this.#to;
  }

  forget() {
    this.#from = this.#to = undefined;
  }
}
