// The service worker of /drive: it keeps the page itself, so that it opens where there is no network. Nothing of a journey is kept here.
/// <reference lib="webworker" />
export {};
const worker = self as unknown as ServiceWorkerGlobalScope;
const shell = "drive-shell";
const page = new URL("drive", location.href);
const assets = new URL("assets/", location.href);

worker.addEventListener("install", (event) => event.waitUntil(keep().then(() => worker.skipWaiting())));
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));

/** Keeps the page and the files that it names; those of an older page go. */
async function keep(): Promise<void> {
  const answer = await fetch(page, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`${page.pathname} is answered ${answer.status}`);
  const names = [...(await answer.clone().text()).matchAll(/(?:src|href)="(\.\/assets\/[^"]+)"/g)].map(([, name = ""]) => new URL(name, page).href);
  const cache = await caches.open(shell);
  await cache.addAll(names);
  await cache.put(page, answer);
  // Last: a network that goes away before this leaves a page that opens.
  for (const old of await cache.keys()) if (old.url !== page.href && !names.includes(old.url)) await cache.delete(old);
}

worker.addEventListener("fetch", (event) => {
  const { url, method, mode } = event.request;
  if (method !== "GET") return;
  if (mode === "navigate" && new URL(url).pathname === page.pathname) {
    event.waitUntil(keep().catch(() => {})); // of a newer gateway, maybe
    event.respondWith(fetch(event.request).catch(async () => (await caches.match(page)) ?? Response.error()));
  } else if (url.startsWith(assets.href)) {
    event.respondWith(caches.match(event.request).then((kept) => kept ?? fetch(event.request)));
  }
});
