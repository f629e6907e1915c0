// A student signs in, in a real browser, at an issuer of another origin, and reads the code to the trainer.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { accessible, arrive, drive, open, picture, recording, says, sleep, startWithIssuer } from "./setup.mjs";

describe("signing in", { concurrency: true }, () => {
  let browser, gateway, issuer, stop;
  before(async () => {
    ({ browser, gateway, issuer, stop } = await startWithIssuer());
  });
  after(() => stop?.());

  test("the student sees the way, the code, and then the lesson", async () => {
    const s = await gateway.book();
    issuer.person = { token: s.student };
    const page = await open(browser, `${gateway.url}/t?session=${s.session}`);
    await says(page, "Sign in to see your trainer");
    await accessible(page, "before signing in");
    await page.getByRole("button", { name: "Sign in" }).click();
    await says(page, "Not yet on the way");
    assert.equal(page.url(), `${gateway.url}/t?session=${s.session}`, "no code of the issuer stays in the address");
    await s.start();
    for (const [north, east, heading] of recording.slice(8)) {
      await drive(gateway, s, north, east, { heading });
      await sleep(1100);
    }
    await says(page, "Your trainer is almost there");
    const { otp } = await arrive(gateway, s);
    await says(page, "Read this code to your trainer");
    assert.equal(await page.locator(".code span[aria-hidden]").allInnerTexts().then((digits) => digits.join("")), otp);
    const height = await page.locator(".code span").first().evaluate((e) => parseFloat(getComputedStyle(e).fontSize));
    assert.ok(height >= 44, `the digits are ${height} px high`);
    await accessible(page, "the code");
    await picture(page, "page-code");
    await s.verify(otp);
    await says(page, "Lesson in progress");
    await s.complete();
    await says(page, "See you next time");
    assert.equal(await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }])), "[{},{}]", "the token was in memory only");
    assert.deepEqual(issuer.asked.filter((a) => a.referrer || a.cookie), [], "the issuer is told nothing that it need not know");
    assert.deepEqual(page.faults(), []);
    await page.close();
  });

  test("an answer that was not asked for signs nobody in", async () => {
    const s = await gateway.book();
    const page = await open(browser, `${gateway.url}/t?session=${s.session}&code=stolen&state=guessed`);
    await says(page, "this answer was not asked for");
    await page.close();
  });
});
