// The student's page, as it is built: with the client, a map, and signing in.
import { Refusal, watchJourney } from "@doorstep/client";
import { painted, readConfig } from "../plain/config.js";
import { dropLink, takeLink } from "../plain/link.js";
import { StudentPage } from "../plain/student.js";
import { Backdrop } from "./map.js";

const config = readConfig();
const page = new StudentPage(document.body, config);
const baseUrl = location.origin;
page.ground.onPainted = painted(config);
const map = config.mapStyle ? new Backdrop(page.ground.host, config.mapStyle) : undefined;

/** Shows the journey of a share link, until it is over. */
async function byLink(link: string): Promise<void> {
  let last: string | undefined;
  try {
    for await (const view of watchJourney({ baseUrl, link })) {
      last = view.status;
      page.show(view, view.home);
      if (last === "arrived") break; // the link ends at the door
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    page.still("gone");
  }
  dropLink();
  map?.remove();
}

const link = takeLink();
if (map) page.ground.onView = (camera) => camera.zoom > 1 && map.follow(camera);
if (link) void byLink(link);
else page.still("gone");
