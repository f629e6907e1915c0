// The student's page where the pages were not built: a share link on the plain ground. The built page reads with the client instead.
import { painted, readConfig } from "./config.js";
import { dropLink, takeLink } from "./link.js";
import { StudentPage } from "./student.js";

/** @typedef {import("./student.js").View} View */

const lostAfter = 30_000; // ms
const config = readConfig();
const link = takeLink();
const page = new StudentPage(document.body, config);
page.ground.onPainted = painted(config);

let etag = "";
/** @type {any} */ let known;
let at = 0;
let failures = 0;

/** @param {unknown} problem */
function show(problem) {
  if (!known) return;
  const view = known, since = at; // the page asks for the age later, when the link may be gone
  const fixAgeMs = () => (view.location ? view.fixAgeMs + performance.now() - since : null);
  const status = view.isActive && (fixAgeMs() ?? 0) >= lostAfter ? "signal_lost" : view.phase;
  page.show({ ...view, degraded: view.degraded ?? false, problem, fixAgeMs, status }, view.home ?? null);
}

/** One read. False: the link is gone. */
async function read() {
  const answer = await fetch(`api/v1/share/live${etag && "?wait=25"}`, {
    headers: { Authorization: `Bearer ${link}`, ...(etag && { "If-None-Match": etag }) }, cache: "no-store", signal: AbortSignal.timeout(35_000),
  });
  if (answer.status === 404 && (await answer.json()).code === "LINK_GONE") return false;
  if (answer.status !== 200 && answer.status !== 304) throw new Error(`${answer.status}`);
  if (answer.status === 200) {
    known = (await answer.json()).data;
    at = performance.now();
    etag = known.degraded ? "" : answer.headers.get("ETag") ?? "";
  }
  failures = 0;
  return true;
}

async function watch() {
  setInterval(() => known?.isActive && show(failures || null), 1000);
  for (;;) {
    try {
      if (!link || !(await read())) break;
      show(null);
    } catch (error) {
      failures++;
      etag = "";
      show(error);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(1000 * 2 ** failures, 30_000) * (0.5 + Math.random())));
  }
  dropLink();
  if (known?.phase !== "arrived" && known?.phase !== "ended") page.still("gone");
  known = undefined;
}

void watch();
