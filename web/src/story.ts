// A session's history, in words.
import { element } from "../plain/dom.js";
import type { History } from "./api.js";

type Entry = History["entries"][number];

const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const who = { trainer: "the trainer", student: "the student", admin: "an admin", system: "the service" };
const modes = { car: "by car", bike: "by bike", walk: "on foot" };

/** What happened, and whether it needs a look. */
function told({ kind, by, detail }: Entry): { text: string; tone?: "warn" | "stop" } {
  const whom = who[by.role];
  switch (kind) {
    case "booked": return { text: `booked by ${whom}` };
    case "rebooked": return { text: `changed by ${whom}: ${(detail.changed ?? []).join(", ")}` };
    case "journey_started": return { text: `started by ${whom}${detail.travelMode ? `, ${modes[detail.travelMode]}` : ""}` };
    case "journey_ended":
      return detail.reason === "arrived" ? { text: "arrived" } : { text: detail.reason === "timeout" ? "ended: it took too long" : `stopped by ${whom}`, tone: "warn" };
    case "arriving": return { text: "almost there" };
    case "suspicious": return { text: `suspicious: ${words(detail.verdict)}`, tone: "stop" };
    case "code_issued": return { text: "code made" };
    case "code_resent": return { text: `code sent again, for ${whom}` };
    case "code_wrong": return { text: `wrong code, ${detail.attemptsLeft ?? 0} tries left`, tone: "warn" };
    case "codes_unlocked": return { text: `codes unlocked by ${whom}` };
    case "lesson_started": return { text: "code right, lesson begun" };
    case "completed": return { text: `lesson over, says ${whom}` };
    case "cancelled": return { text: `cancelled by ${whom}`, tone: "warn" };
    case "no_show": return { text: `nobody there, says ${whom}`, tone: "warn" };
    case "changed": return { text: `changed in the database: ${words(detail.found)}`, tone: "warn" };
    case "reviewed": return { text: `reviewed, ${detail.rating ?? "?"} of 5` };
    case "share_link_made": return { text: `share link made by ${whom}${detail.ended ? `, ${detail.ended} ended` : ""}` };
    case "share_link_ended": return { text: `share link ended by ${whom}` };
    case "first_fix": return { text: "first fix" };
    case "silence_began": return { text: "silent from here on", tone: "warn" };
    case "silence_ended": return { text: `heard from again, after ${detail.seconds ?? 0} s` };
    case "fixes_not_stored": return { text: `not stored: ${Object.entries(detail.counts ?? {}).map(([verdict, n]) => `${n} ${words(verdict)}`).join(", ")}` };
    case "database_disagreed": return { text: "the live store was put right", tone: "warn" };
    default: return { text: words(kind) }; // of a newer gateway
  }
}

const words = (name = ""): string => name.replaceAll("_", " ");

/** The history as a list, oldest first. */
export function storyOf(history: History): HTMLElement {
  const list = element("ol", { class: "story-lines" });
  for (const entry of history.entries) {
    const { text, tone } = told(entry);
    list.append(element("li", tone ? { class: tone } : {}, element("time", { datetime: entry.at }, time.format(new Date(entry.at))), element("span", {}, text)));
    for (const event of entry.events ?? []) {
      for (const o of event.outcomes.filter((o) => o.state !== "delivered")) {
        list.append(element("li", { class: o.state === "dead_letter" ? "stop" : "" }, element("span"), element("span", {}, `${event.type ?? "an event"} to ${o.to}: ${words(o.state)}`)));
      }
    }
  }
  return list;
}
