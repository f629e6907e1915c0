// What the gateway says to its pages, in their head.

/** @typedef {{ radiusMeters: number, mapStyle?: string, issuer?: string, clientId?: string, scope?: string, painted?: string }} Config */

/** @returns {Config} */
export function readConfig() {
  const meta = document.querySelector('meta[name="doorstep"]');
  return { radiusMeters: 150, ...JSON.parse(meta?.getAttribute("content") || "{}") };
}

/** Reports that a fix is on the screen, where the gateway wants to know: in a demo. @param {Config} config @returns {(fix: { timestamp: string }) => void} */
export function painted({ painted: url }) {
  return ({ timestamp }) => void (url && navigator.sendBeacon(url, timestamp));
}
