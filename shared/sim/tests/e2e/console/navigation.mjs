// The sign-in, and the navigation without script: each page is reached by its link, and is no wider than the window.
import assert from "node:assert/strict";

import { navigation, operatorPage, sections } from "./operator.mjs";

const WINDOWS = [
  { width: 360, height: 740 },
  { width: 1440, height: 900 },
];

// A new browser that opens the printed address is signed in by its first click, on a page of the issuer.
export async function signsInWithOneClick(browser, { origin, printed }) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(printed);
  assert.notEqual(new URL(page.url()).origin, new URL(origin).origin);
  await page.getByRole("button", { name: "operator", exact: true }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  assert.equal(page.url(), printed);
  await context.close();
}

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

// An open page keeps itself up to date, and stays usable.
export async function keepsPagesUpToDate(browser, world) {
  await Promise.all([keepsTheFocus(browser, world), announcesChanges(browser, world)]);
}

// While a page keeps itself up to date, the focus stays on the button of its row, although the rows get another order and
// their buttons have one text.
async function keepsTheFocus(browser, { origin }) {
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

// The live region says the sentence of a page that changed while it was open.
async function announcesChanges(browser, { origin }) {
  const page = await operatorPage(browser, origin);
  const sentence = "7 jobs waiting, 500 discarded.";
  await page.route(`${origin}/console`, async (route) => {
    const response = await route.fetch();
    const text = await response.text();
    const body = text.replace(/(<p class="sentence">)[^<]*/, `$1${sentence}`);
    await route.fulfill({ response, body });
  });
  const region = page.locator("#live");
  assert.equal(await region.textContent(), "");
  await page.waitForFunction((said) => document.getElementById("live").textContent === said, sentence);
  assert.equal(await page.locator(".sentence").textContent(), sentence);
  await page.context().close();
}

// A destructive action is confirmed in a dialog by keyboard, and without script on a page of its own.
export async function asksBeforeItPauses(browser, { origin, service }) {
  const page = await operatorPage(browser, origin);
  await page.goto(`${origin}/console/queues`);
  const posted = [];
  page.on("request", (request) => {
    if (request.method() === "POST") {
      posted.push(request.url());
    }
  });
  const pause = page.getByRole("button", { name: "Pause dns", exact: true });
  const dialog = page.getByRole("dialog", { name: "Pause the queue: dns?" });
  await pause.press("Enter");
  await dialog.waitFor();
  assert.equal(await focusedText(page), "Keep as it is");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.equal(await focusedText(page), "Pause dns");
  assert.deepEqual(posted, []);

  await pause.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await focusedText(page), "Pause the queue");
  await page.keyboard.press("Enter");
  await page.getByText("The queue is paused.").waitFor();
  assert.equal(posted.length, 1);
  await page.context().close();

  const plain = await operatorPage(browser, origin, { javaScriptEnabled: false });
  await plain.goto(`${origin}/console/queues`);
  await plain.getByRole("button", { name: "Resume dns", exact: true }).click();
  await plain.getByRole("button", { name: "Pause dns", exact: true }).click();
  await plain.getByRole("heading", { level: 1, name: "Confirmation" }).waitFor();
  const { items } = await service.api("GET", "/queues");
  assert.ok(!items.find(({ name }) => name === "dns").paused);
  await plain.getByRole("button", { name: "Pause the queue", exact: true }).click();
  await plain.getByText("The queue is paused.").waitFor();
  await plain.getByRole("button", { name: "Resume dns", exact: true }).click();
  await plain.context().close();
}

function focusedText(page) {
  return page.evaluate(() => document.activeElement.textContent.trim());
}

function widths(page) {
  return page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
}
