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

// While a page keeps itself up to date, the focus stays on the button of its row, although the rows get another order and
// their buttons have one text.
export async function keepsTheFocus(browser, { origin }) {
  const page = await operatorPage(browser, origin);
  await page.goto(`${origin}/console/schedules`);
  await page.route(`${origin}/console/schedules`, async (route) => {
    const response = await route.fetch();
    const text = await response.text();
    const reversed = (_, rows) => `<tbody>${rows.split(/(?=<tr>)/).reverse().join("")}</tbody>`;
    await route.fulfill({ response, body: text.replace(/<tbody>([\s\S]*?)<\/tbody>/, reversed) });
  });
  const button = page.getByRole("button", { name: "Dry run", exact: true }).first();
  const action = await button.evaluate((focused) => {
    focused.focus();
    return focused.form.action;
  });
  const isReversed = (first) => document.querySelector("main button[name=dry_run]").form.action !== first;
  await page.waitForFunction(isReversed, action);
  assert.equal(await page.evaluate(() => document.activeElement.form?.action), action);
  await page.context().close();
}

function widths(page) {
  return page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
}
