import type { components } from "./generated/openapi.js";

/** One position that a phone reports. Only latitude and longitude are required; speed is in km/h. */
export type Fix = components["schemas"]["Position"];

/** What the browser's geolocation and expo-location give; speed in m/s. */
export interface DevicePosition {
  coords: {
    latitude: number;
    longitude: number;
    accuracy: number | null;
    speed: number | null;
    heading: number | null;
  };
  /** ms since 1970, by the phone's clock. */
  timestamp: number;
  /** expo-location, Android: the position is simulated. */
  mocked?: boolean;
}

/** Makes a fix of a device's position. */
export function fixOf({ coords, timestamp, mocked }: DevicePosition): Fix {
  const { latitude, longitude, accuracy, speed, heading } = coords;
  return {
    latitude,
    longitude,
    accuracy,
    speed: speed === null ? null : speed * 3.6, // still negative where iOS says -1 for "not known"
    heading,
    recordedAt: instant(timestamp),
    ...(mocked ? { mock: true } : {}),
  };
}

/** The instant as the API writes it; now where the number is no instant. */
export const instant = (ms: number = Date.now()): string =>
  new Date(Math.abs(ms) < 8.64e15 ? ms : Date.now()).toISOString();

/** After how many ms a fix is of no use to the gateway any more. */
const staleAfter = 300_000;

/**
 * Keeps the fixes that wait over a reload of the page: in IndexedDB where there is one, else nowhere. One queue an origin, because a
 * trainer has one journey at a time. A store that fails is as good as none.
 */
export class FixStore {
  #db: Promise<IDBDatabase> | undefined;

  constructor(readonly session: string) {}

  /** Reads what was kept of this session and is not stale. */
  async load(): Promise<Fix[]> {
    const kept = await this.#do("readonly", (s) => s.get("fixes")) as { session: string; fixes: Fix[] } | undefined;
    if (kept?.session !== this.session) return [];
    return kept.fixes.filter((f) => Date.now() - Date.parse(f.recordedAt ?? "") < staleAfter);
  }

  /** Keeps these fixes and no others. */
  save(fixes: Fix[]): void {
    void this.#do("readwrite", (s) => fixes.length ? s.put({ session: this.session, fixes }, "fixes") : s.clear());
  }

  async #do(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
    if (typeof indexedDB === "undefined") return undefined;
    try {
      this.#db ??= open();
      return await done(act((await this.#db).transaction("queue", mode).objectStore("queue")));
    } catch {
      return undefined; // a private window, a full disk
    }
  }
}

function open(): Promise<IDBDatabase> {
  const request = indexedDB.open("doorstep", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("queue");
  return done(request);
}

const done = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
