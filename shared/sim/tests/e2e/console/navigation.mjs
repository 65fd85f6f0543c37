// The navigation without script: each page is reached by its link, and is no wider than the window.
import assert from "node:assert/strict";

import { navigation, operatorPage, sections } from "./operator.mjs";

const WINDOWS = [
  { width: 360, height: 740 },
  { width: 1440, height: 900 },
];

export async function worksWithoutScript(browser, { origin }) {
  const page = await operatorPage(browser, origin, { javaScriptEnabled: false });
  const pages = await sections(page);
  assert.ok(pages.length >= 8, JSON.stringify(pages));
  for (const viewport of WINDOWS) {
    await page.setViewportSize(viewport);
    for (const { name } of pages) {
      await navigation(page).getByRole("link", { name, exact: true }).click();
      await page.getByRole("heading", { level: 1 }).waitFor();
      const current = navigation(page).locator("[aria-current=page]");
      assert.equal((await current.innerText()).trim(), name);
      const [content, window] = await widths(page);
      assert.ok(content <= window, `${name} is ${content} wide in a window of ${window}`);
    }
  }
  await page.context().close();
}

function widths(page) {
  return page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
}
