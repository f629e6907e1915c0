// The student's page, as it is built: with the client, a map, and signing in.
import { type JourneyView, Refusal, watchJourney } from "@doorstep/client";
import { painted, readConfig } from "../plain/config.js";
import { dropLink, takeLink } from "../plain/link.js";
import { StudentPage } from "../plain/student.js";
import { words } from "../plain/words.js";
import { Api, pause, type Session } from "./api.js";
import { Backdrop } from "./map.js";
import { SignIn } from "./signin.js";

const config = readConfig();
const baseUrl = new URL(".", location.href).href; // a proxy may have put the gateway below a path
const page = new StudentPage(document.body, config);
page.ground.onPainted = painted(config);
const map = config.mapStyle ? new Backdrop(page.ground.host, config.mapStyle) : undefined;
page.ground.onView = (camera) => (camera.zoom > 1 ? map?.follow(camera) : map?.remove());

/** Shows the journey of a share link, until it is over. */
async function byLink(link: string): Promise<void> {
  let last: JourneyView | undefined;
  try {
    for await (const view of watchJourney({ baseUrl, link })) {
      last = view;
      page.show(view, view.home);
      if (view.status === "arrived") break; // the link ends at the door
    }
  } catch (error) {
    if (last?.status !== "arrived") page.still("gone");
    if (!(error instanceof Refusal)) throw error;
  } finally {
    dropLink();
  }
}

/** Shows a session's journey to its student, with the code, until the lesson is over. */
async function bySession(session: string, signIn: SignIn): Promise<void> {
  const api = new Api(signIn.token);
  const read = () => api.call<Session>("GET", `/admin/sessions/${encodeURIComponent(session)}`);
  let stop = new AbortController();
  try {
    let home = (await read()).studentHome;
    for await (const view of watchJourney({ baseUrl, session, token: signIn.token })) {
      stop.abort();
      stop = new AbortController();
      const runs = view.status !== "arrived" && view.status !== "ended";
      home = runs ? home ?? (await read()).studentHome : null;
      if (view.status === "arrived") void atDoor(view, read, stop.signal).catch(console.warn);
      else if (view.status === "ended") page.still((await read()).status === "completed" ? "over" : "stopped");
      else page.show(view, home);
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) askToSignIn(signIn);
    else page.still(error.status === 403 ? "forbidden" : "gone");
  } finally {
    stop.abort();
  }
}

/** Shows the code until it has been typed in. The journey is over by then, so no news of it would come. */
async function atDoor(view: JourneyView, read: () => Promise<Session>, stop: AbortSignal): Promise<void> {
  page.show(view, null);
  while (!stop.aborted) {
    const session = await read().catch(() => undefined);
    if (stop.aborted) return;
    if (session?.status === "in_progress") return page.still("lesson");
    if (session?.status === "completed") return page.still("over");
    if (session) page.show(view, null, session.otp);
    await pause(3000);
  }
}

function askToSignIn(signIn: SignIn): void {
  page.still("signin");
  if (signIn.failure) page.complain(signIn.failure);
  page.offer(words.signIn, () => void signIn.leave().catch((error: unknown) => page.complain(String(error))));
}

async function begin(): Promise<void> {
  const signIn = new SignIn(config);
  await signIn.resume();
  const session = new URLSearchParams(location.search).get("session");
  const link = takeLink();
  if (!session) return link ? byLink(link) : page.still("gone");
  if (signIn.signedIn) return bySession(session, signIn);
  return signIn.possible ? askToSignIn(signIn) : page.still("gone");
}

void begin();
