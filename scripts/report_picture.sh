#!/usr/bin/env bash
# report_picture.sh REPORT.html PICTURE.png [SECTION]: the top of a report as a picture, or one figure of a section (`ratings`), for
# README. Needs what `just test-browser` needs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
where=$("$here/browser.sh")
eval "export $(tr '\n' ' ' <<< "$where")"
node --input-type=commonjs - "$(realpath "$1")" "$2" "${3:-}" <<'END'
const { chromium } = require(`${process.env.NODE_PATH}/playwright-core`);
const [report, picture, section] = process.argv.slice(2);
(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 1560 }, colorScheme: "light" });
  await page.goto(`file://${report}`);
  const part = section && page.locator(`#${section} figure`).first();
  await (part || page).screenshot({ path: picture });
  await browser.close();
})();
END
