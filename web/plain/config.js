// What the gateway says to its pages, in their head.

/** @typedef {{ radiusMeters: number, mapStyle?: string, issuer?: string, clientId?: string, scope?: string, painted?: string }} Config */

/** @returns {Config} */
export function readConfig() {
  const meta = document.querySelector('meta[name="doorstep"]');
  return { radiusMeters: 150, ...JSON.parse(meta?.getAttribute("content") || "{}") };
}

/** Reports that the page is open, and then each fix that is on the screen, where somebody wants to know: in a demo. @param {Config} config @returns {(fix: { timestamp: string }) => void} */
export function painted({ painted: url }) {
  if (url) navigator.sendBeacon(url, "");
  return ({ timestamp }) => void (url && navigator.sendBeacon(url, timestamp));
}
