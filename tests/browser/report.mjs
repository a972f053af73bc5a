// report.mjs PAGE PICTURES: opens a report in headless Chromium as people do (by mouse, by keyboard, in the dark, on a phone,
// on paper) and fails on the first thing that is not as it should be. The page is that of project.sh.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { audit, browser, fits, visit } from "./chromium.mjs";

const [page_file, pictures] = process.argv.slice(2);
const url = pathToFileURL(resolve(page_file)).href;
mkdirSync(pictures, { recursive: true });

const open = (name, options, check) => visit(name, url, (asked) => asked === url, options, check);
const visible = (page, selector) => page.locator(selector).filter({ visible: true }).count();
const wide = { viewport: { width: 1280, height: 900 } };

await open("every section is there, and no text is markup", wide, async (page) => {
  assert.equal(await page.title(), "grid · orchestrate report");
  for (const id of ["problems", "summary", "scores", "curves", "behaviour", "probes", "completions", "stages", "cost", "recipes"]) {
    assert.ok(await page.locator(`section#${id} h2`).isVisible(), id);
  }
  assert.equal(await page.locator("section img, section iframe").count(), 0);
  await page.locator("#search").fill("hacked");
  assert.match(await page.locator("#matches").textContent(), /^1 of 12 /);
  assert.match(await page.locator("#answers").textContent(), /<script>document\.title = 'hacked'<\/script>/);
  assert.equal(await page.title(), "grid · orchestrate report");
  await fits(page);
});

await open("filters and comparison work by keyboard", wide, async (page) => {
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the report");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => location.hash), "#main");
  await page.locator("#search").focus();
  await page.keyboard.type("question 7");
  assert.match(await page.locator("#matches").textContent(), /^1 of 12 /);
  assert.equal(await visible(page, "#answers .card"), 3);
  assert.match(await page.locator("#asked").textContent(), /Question 7: which bone/);
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Delete");
  assert.equal(await page.locator("#matches").textContent(), "12 questions");

  // the next controls, in the order in which they stand
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
  const order = [];
  for (let i = 0; i < 6; i += 1) {
    await page.keyboard.press("Tab");
    order.push(await focused());
  }
  assert.deepEqual(order, ["rightness", "seed", "sft", "rouge", "plain", "previous"]);
  const before = await page.locator("#asked").textContent();
  await page.keyboard.press("Enter"); // question 7 is still the one that is shown
  assert.notEqual(await page.locator("#asked").textContent(), before);
  assert.match(await page.locator("#asked").textContent(), /Question 6: which bone/);

  const rouge = page.locator("#answer-arms button", { hasText: "rouge" });
  await rouge.focus();
  await page.keyboard.press("Space");
  assert.equal(await rouge.getAttribute("aria-pressed"), "false");
  assert.equal(await visible(page, "#answers .card"), 2);
  await page.keyboard.press("Space");
  await page.locator("#rightness").selectOption("some-wrong");
  const wrong = Number((await page.locator("#matches").textContent()).split(" ")[0]);
  assert.ok(wrong >= 1 && wrong <= 12);
  assert.ok((await page.locator("#answers .right-mark.wrong").count()) >= 1);
  await page.locator("#rightness").selectOption("all-right");
  assert.equal(await page.locator("#answers .right-mark.wrong").count(), 0);
});

await open("curves change by metric and arms can be put away", wide, async (page) => {
  assert.equal(await visible(page, "figure.curve"), 1);
  // the arms' rewards are sums of different components, so the page begins with one that both have
  assert.match(await page.locator("figure.curve").filter({ visible: true }).textContent(), /reward\/correctness/);
  await page.locator("#metric").selectOption({ label: "grpo/kl" });
  const figure = page.locator("figure.curve").filter({ visible: true });
  assert.match(await figure.locator("figcaption").textContent(), /grpo\/kl/);
  assert.equal(await figure.locator("g[data-arm]").count(), 2); // sft has none
  await page.locator("#curve-arms button", { hasText: "plain" }).click();
  assert.equal(await figure.locator("g[data-arm][display=none]").count(), 1);
  await figure.locator("summary").click();
  assert.ok(await figure.locator("table").isVisible());
});

const luminance = (page) =>
  page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number).reduce((a, b) => a + b));
for (const colorScheme of ["light", "dark"]) {
  await open(`the ${colorScheme} theme is that of the system, and the button turns it`, { ...wide, colorScheme }, async (page) => {
    const before = await luminance(page);
    assert.equal(before > 382, colorScheme === "light");
    await audit(page);
    await page.screenshot({ path: `${pictures}/${colorScheme}.png`, fullPage: true });
    await page.locator("#theme").click();
    assert.equal((await luminance(page)) > 382, colorScheme === "dark");
  });
}

await open("it fits a phone", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 }, async (page) => {
  await fits(page);
  await page.screenshot({ path: `${pictures}/phone.png`, fullPage: true });
});

await open("it prints on white paper, without controls", { ...wide, colorScheme: "dark" }, async (page) => {
  await page.pdf({ path: `${pictures}/report.pdf`, format: "A4" });
  await page.emulateMedia({ media: "print" });
  assert.equal(await visible(page, "nav, .controls, #theme"), 0);
});

await open("without its script the tables are there", { ...wide, javaScriptEnabled: false }, async (page) => {
  assert.equal(await visible(page, "figure.curve"), 1);
  assert.ok(await page.locator("noscript p").isVisible());
});

await browser.close();
