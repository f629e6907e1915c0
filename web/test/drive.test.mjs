// A trainer's browser, from the list of lessons to the end of one, with a network that goes away.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { accessible, held, open, picture, placeAt, recording, says, sleep, startWithIssuer } from "./setup.mjs";

describe("/drive", () => {
  let browser, gateway, issuer, stop;
  before(async () => {
    ({ browser, gateway, issuer, stop } = await startWithIssuer());
  });
  after(() => stop?.());

  test("a drive, to the end of the lesson", async () => {
    const s = await gateway.book();
    issuer.person = { token: s.trainer };
    const page = await open(browser, `${gateway.url}/drive`, { permissions: ["geolocation"], serviceWorkers: "allow" });
    const context = page.context();
    const go = async ([north, east]) => {
      await context.setGeolocation({ ...placeAt(north, east), accuracy: 8 });
      await sleep(1300);
    };
    const seen = () => gateway.call(s.student, "GET", `/admin/location-tracking/journey/live?sessionId=${s.session}`);
    const press = (name) => page.getByRole("button", { name, exact: true }).click();
    await press("Sign in");
    await says(page, "Which one?");
    await accessible(page, "lessons");
    await page.locator(".lessons button").click();
    await says(page, "Ready to go?");
    await accessible(page, "before the start");
    await press("Start the journey");
    for (const at of recording.slice(9, 12)) await go(at);
    await says(page, "Your student sees where you are.");
    await says(page, "Sending · 0 waiting");
    await accessible(page, "driving");
    await picture(page, "page-drive");
    const before = (await seen()).distanceMeters;
    await context.setOffline(true);
    await go(recording[12]);
    await says(page, "Your positions wait and are sent later");
    await says(page, /Offline · [1-9] waiting/);
    await go(recording[13]);
    assert.equal((await seen()).distanceMeters, before, "nothing came through");
    await context.setOffline(false);
    await says(page, "Sending · 0 waiting");
    assert.ok((await seen()).distanceMeters < before, "all that waited came through");
    await press("I have arrived");
    await says(page, "from the door. It opens within 150 m");
    for (const at of recording.slice(14)) await go(at);
    await press("I have arrived");
    await says(page, "Type in the student's code");
    await accessible(page, "at the door");
    const all = await held(page);
    for (const [north, east] of recording.slice(9)) assert.ok(!all.includes(String(placeAt(north, east).latitude).slice(0, 7)), "no place is left");
    const { otp } = await gateway.call(s.student, "GET", `/admin/sessions/${s.session}`);
    const code = page.getByLabel("The student's code");
    await code.fill(otp === "0000" ? "0001" : "0000");
    await says(page, "That is not the code");
    await code.fill(otp);
    await says(page, "Lesson in progress");
    await press("The lesson is over");
    await says(page, "This lesson is completed");
    assert.deepEqual(page.faults(), []);
    await page.close();
  });

  test("stopped; and without a network the page opens all the same", async () => {
    const s = await gateway.book();
    issuer.person = { token: s.trainer };
    const page = await open(browser, `${gateway.url}/drive?session=${s.session}`, { permissions: ["geolocation"], geolocation: { ...placeAt(900, 0), accuracy: 10 }, serviceWorkers: "allow" });
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Start the journey" }).click();
    await says(page, "Your student sees where you are.");
    const stop = page.locator(".button.quiet").filter({ hasText: /Stop the journey|Really stop/ });
    await stop.click();
    await says(page, "Really stop?");
    await stop.click();
    await says(page, "Which one?");
    const live = await gateway.call(s.student, "GET", `/admin/location-tracking/journey/live?sessionId=${s.session}`);
    assert.deepEqual([live.phase, live.location], ["ended", null]);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
    await page.context().setOffline(true);
    await page.goto(`${gateway.url}/drive`);
    await says(page, "Your drive");
    await page.close();
  });
});
