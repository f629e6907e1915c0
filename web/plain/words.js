// All that the student's page says, in each of its languages.

const english = {
  title: "Your trainer",
  live: (/** @type {string} */ ago) => `Live · seen ${ago} ago`,
  seen: (/** @type {string} */ ago) => `Seen ${ago} ago`,
  offline: (/** @type {string} */ ago) => `No connection · seen ${ago} ago`,
  noConnection: "No connection",
  waiting: "Waiting",
  connecting: "Connecting …",
  atDoor: "At the door",
  ended: "Ended",
  seconds: (/** @type {number} */ n) => `${n} s`,
  minutes: (/** @type {number} */ n) => `${n} min`,
  range: (/** @type {number} */ low, /** @type {number} */ high) => `${low}–${high} min`,
  about: (/** @type {number} */ n) => `about ${n} min`,
  soon: "1 min or less",
  away: (/** @type {string} */ distance) => `${distance} away`,
  notStarted: "Your trainer has not set out yet",
  notStartedNote: "This page shows the way as soon as it begins. You can leave it open.",
  notStartedBig: "Not yet on the way",
  onTheWay: "Your trainer is on the way",
  noPlaceBig: "On the way",
  noPlaceNote: "The first position has not come in yet.",
  almostThere: "Your trainer is almost there",
  lostNote: (/** @type {string} */ ago) => `No signal from the trainer's phone just now. The place shown is where it was ${ago} ago.`,
  lostLongNote: "No signal from the trainer's phone for some minutes. The last place is too old to be shown.",
  offlineNote: "This device has no connection just now. What you see is the last that it was told.",
  degradedNote: "The service cannot see the trainer just now. It goes on trying.",
  here: "Your trainer is here",
  hereBig: "At the door",
  codeBig: "Read this code to your trainer",
  codeNote: "Nobody else needs it.",
  code: (/** @type {string} */ digits) => `Your code: ${digits}`,
  lesson: "The lesson has begun",
  lessonBig: "Lesson in progress",
  over: "The lesson is over",
  overBig: "See you next time",
  stopped: "The journey has ended without an arrival",
  stoppedBig: "Not on the way any more",
  stoppedNote: "Ask your trainer, or whoever arranged the lesson.",
  gone: "There is nothing to see here",
  goneBig: "This link has ended",
  goneNote: "A link works for one journey. Ask whoever sent it to you for a new one.",
  signIn: "Sign in",
  signInBig: "Sign in to see your trainer",
  forbidden: "This lesson is not yours",
  forbiddenBig: "Nothing to see",
  forbiddenNote: "You are signed in as somebody else than the student of this lesson.",
  failed: "That did not work",
  map: "Map. Plus and minus zoom, the arrows move.",
  recenter: "Show the whole way again",
};

/** @type {typeof english} */
const german = {
  title: "Dein Trainer",
  live: (ago) => `Live · vor ${ago} gesehen`,
  seen: (ago) => `Vor ${ago} gesehen`,
  offline: (ago) => `Keine Verbindung · vor ${ago} gesehen`,
  noConnection: "Keine Verbindung",
  waiting: "Noch nichts",
  connecting: "Verbinde …",
  atDoor: "An der Tür",
  ended: "Zu Ende",
  seconds: (n) => `${n} s`,
  minutes: (n) => `${n} min`,
  range: (low, high) => `${low}–${high} min`,
  about: (n) => `etwa ${n} min`,
  soon: "höchstens 1 min",
  away: (distance) => `noch ${distance}`,
  notStarted: "Dein Trainer ist noch nicht losgefahren",
  notStartedNote: "Sobald es losgeht, siehst du hier den Weg. Du kannst die Seite offen lassen.",
  notStartedBig: "Noch nicht unterwegs",
  onTheWay: "Dein Trainer ist unterwegs",
  noPlaceBig: "Unterwegs",
  noPlaceNote: "Die erste Position ist noch nicht da.",
  almostThere: "Dein Trainer ist gleich da",
  lostNote: (ago) => `Das Telefon des Trainers hat gerade kein Signal. Gezeigt wird, wo es vor ${ago} war.`,
  lostLongNote: "Das Telefon des Trainers hat seit einigen Minuten kein Signal. Der letzte Ort ist zu alt, um ihn zu zeigen.",
  offlineNote: "Dieses Gerät hat gerade keine Verbindung. Du siehst, was es zuletzt erfahren hat.",
  degradedNote: "Der Dienst sieht den Trainer gerade nicht. Er versucht es weiter.",
  here: "Dein Trainer ist da",
  hereBig: "An der Tür",
  codeBig: "Lies diesen Code deinem Trainer vor",
  codeNote: "Sonst braucht ihn niemand.",
  code: (digits) => `Dein Code: ${digits}`,
  lesson: "Der Unterricht hat begonnen",
  lessonBig: "Unterricht läuft",
  over: "Der Unterricht ist vorbei",
  overBig: "Bis zum nächsten Mal",
  stopped: "Die Fahrt endete ohne Ankunft",
  stoppedBig: "Nicht mehr unterwegs",
  stoppedNote: "Frag deinen Trainer, oder wer den Unterricht vereinbart hat.",
  gone: "Hier gibt es nichts zu sehen",
  goneBig: "Dieser Link ist abgelaufen",
  goneNote: "Ein Link gilt für eine Fahrt. Bitte um einen neuen, wo du ihn her hast.",
  signIn: "Anmelden",
  signInBig: "Melde dich an, um deinen Trainer zu sehen",
  forbidden: "Das ist nicht dein Unterricht",
  forbiddenBig: "Nichts zu sehen",
  forbiddenNote: "Du bist nicht als der Schüler dieses Unterrichts angemeldet.",
  failed: "Das hat nicht geklappt",
  map: "Karte. Plus und Minus zoomen, die Pfeile bewegen sie.",
  recenter: "Wieder den ganzen Weg zeigen",
};

/** The language of the page: the first that the browser asks for and that there is. */
export const language = navigator.languages.map((l) => l.slice(0, 2)).find((l) => l === "de" || l === "en") ?? "en";

/** @typedef {typeof english} Words */

/** @type {Words} */
export const words = language === "de" ? german : english;

/** An age in ms, as in "seen … ago". @param {number} ms */
export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 100 ? words.seconds(seconds) : words.minutes(Math.round(seconds / 60));
}

/** @param {number} meters */
export function distance(meters) {
  const format = (/** @type {number} */ n, /** @type {number} */ digits) => new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(n);
  return meters < 1000 ? `${format(Math.round(meters / 10) * 10, 0)} m` : `${format(meters / 1000, 1)} km`;
}

/** A time of arrival, as a range that narrows as it gets shorter. @param {number} seconds @param {boolean} vague the signal is lost */
export function eta(seconds, vague) {
  const minutes = seconds / 60;
  if (vague) return words.about(Math.max(1, Math.round(minutes)));
  if (minutes < 1) return words.soon;
  const low = Math.max(1, Math.round(minutes * 0.9));
  return words.range(low, Math.max(low + 1, Math.round(minutes * 1.15)));
}
