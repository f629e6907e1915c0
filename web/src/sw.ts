// The service worker of /drive: it keeps the page itself, so that it opens where there is no network. Nothing of a journey is kept here.
/// <reference lib="webworker" />
export {};
const worker = self as unknown as ServiceWorkerGlobalScope;
const shell = "drive-shell";

worker.addEventListener("install", (event) => event.waitUntil(keep().then(() => worker.skipWaiting())));
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));

/** Keeps the page and the files that it names; those of an older page go. */
async function keep(): Promise<void> {
  const page = await fetch("/drive", { cache: "no-cache" });
  if (!page.ok) throw new Error(`/drive is answered ${page.status}`);
  const names = [...(await page.clone().text()).matchAll(/(?:src|href)="\.?(\/?assets\/[^"]+)"/g)].map(([, name = ""]) => new URL(name, page.url).href);
  const cache = await caches.open(shell);
  for (const old of await cache.keys()) if (!names.includes(old.url)) await cache.delete(old);
  await cache.addAll(names);
  await cache.put("/drive", page);
}

worker.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (origin !== location.origin || event.request.method !== "GET") return;
  if (event.request.mode === "navigate" && pathname === "/drive") {
    event.respondWith(fetch(event.request).then((page) => (void keep(), page)).catch(async () => (await caches.match("/drive")) ?? Response.error()));
  } else if (pathname.startsWith("/assets/")) {
    event.respondWith(caches.match(event.request).then((kept) => kept ?? fetch(event.request)));
  }
});
