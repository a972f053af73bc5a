// serve.mjs URL ORCHESTRATE PROJECT PICTURES: opens the live page in headless Chromium while a run waits in its stage `grpo`, filters,
// chooses by keyboard, cancels the run and sees it end without loading the page again.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { audit, browser, fits, visit } from "./chromium.mjs";

const [url, orchestrate, project, pictures] = process.argv.slice(2);
mkdirSync(pictures, { recursive: true });

/** Opens the page, with its stages on it. */
const open = (name, options, check) => visit(name, url, (asked) => asked.startsWith(url), { bypassCSP: true, ...options }, async (page) => {
  await page.getByText("live", { exact: true }).waitFor();
  await page.locator("#rows tr").first().waitFor();
  await check(page);
});
/** Waits until it says so: news come once a second. */
const says = (locator, text) => locator.filter({ hasText: text }).waitFor();
const wide = { viewport: { width: 1280, height: 1400 } };
const running = (page) => page.locator("#rows tr").filter({ has: page.locator(".status.running") });

await open("a running stage stands first, with its steps", wide, async (page) => {
  await says(page.locator("#rows tr").first(), /grpo.*running.*step/s);
  await says(page.locator("#facts"), "Statusrunning");
  await page.locator("#filter").fill("eval pending");
  await says(page.locator("#shown"), /^[1-9]\d* of \d+ stages$/);
  assert.equal(await running(page).count(), 0);
  await page.locator("#filter").fill("");
  await page.screenshot({ path: `${pictures}/serve.png` });
});

await open("curves are drawn, chosen and hidden by keyboard", wide, async (page) => {
  const drawn = page.locator("#chart polyline");
  await drawn.first().waitFor();
  const all = await drawn.count();
  await page.locator("#legend button").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction((left) => document.querySelectorAll("#chart polyline").length === left, all - 1);
  await page.keyboard.press("Enter");
  await page.waitForFunction((left) => document.querySelectorAll("#chart polyline").length === left, all);
  const metrics = await page.locator("#metric option").allTextContents();
  assert.ok(metrics.length > 1, "there are several metrics");
  for (const metric of metrics.slice(0, 3)) {
    await page.locator("#metric").selectOption(metric);
    await page.locator(`#chart svg[aria-label^="${metric} over steps"]`).waitFor();
  }
});

await open("completions are text, never markup", wide, async (page) => {
  const evals = await page.locator("#completion-stage option").filter({ hasText: "eval" }).first().getAttribute("value");
  await page.locator("#completion-stage").selectOption(evals);
  await says(page.locator("#cards"), "<script>document.title");
  assert.equal(await page.locator("#cards img, #cards script, #cards b").count(), 0);
  assert.ok(await page.locator("#cards .scores li").count());
});

await open("the dark page is as readable", { ...wide, colorScheme: "dark" }, async (page) => {
  await audit(page);
  await page.screenshot({ path: `${pictures}/serve-dark.png` });
});

await open("a phone shows everything", { viewport: { width: 390, height: 844 }, hasTouch: true }, async (page) => {
  await fits(page);
});

await open("the end of the run is told without loading the page again", wide, async (page) => {
  await audit(page);
  execFileSync(orchestrate, ["-C", project, "cancel", "latest", "--quiet"]);
  await page.getByText("interrupted", { exact: true }).first().waitFor();
  await page.waitForFunction(() => document.title.includes("interrupted"));
  const report = await page.locator("#report").getAttribute("href");
  await page.goto(new URL(report, url).href);
  assert.match(await page.title(), /orchestrate report$/);
});

await browser.close();
