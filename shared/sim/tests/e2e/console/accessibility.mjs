// axe-core on every page, in both colour schemes, on a phone and on a desktop.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { operatorPage, sections } from "./operator.mjs";

const AXE = await readFile(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");
// Only the rules of colors depend on the scheme.
const RULES = { light: {}, dark: { runOnly: ["cat.color"] } };
const WIDTHS = [360, 1440];

export async function isReadable(browser, { origin, demo }) {
  // axe-core is a script, though no page needs one.
  const page = await operatorPage(browser, origin);
  const problems = [];
  report(page, problems);
  const found = await sections(page);
  const queue = found.map(({ url }) => url);
  queue.push(`${origin}/console/tenants/${demo}`, `${origin}/console/tenants/missing`, `${origin}/console/signed-out`);
  const seen = new Set(queue.map(shape));
  while (queue.length > 0) {
    const url = queue.shift();
    await page.goto(url);
    problems.push(...(await barriers(page)));
    for (const link of await links(page)) {
      if (!seen.has(shape(link))) {
        seen.add(shape(link));
        queue.push(link);
      }
    }
  }
  problems.push(...(await confirmations(page, `${origin}/console/tenants/${demo}`)));
  await page.context().close();
  // More than the navigation: the pages of single resources.
  assert.ok(seen.size > found.length + 3, [...seen].join(" "));
  assert.deepEqual([...new Set(problems)], []);
}

// Violations in the dialog that confirms an action, and on the page that asks in its place without the script.
async function confirmations(page, address) {
  const found = [];
  for (const isAllowed of [true, false]) {
    if (!isAllowed) {
      await page.route("**/confirm.js", (route) => route.abort());
    }
    await page.goto(address);
    await page.getByRole("button", { name: "Suspend", exact: true }).click();
    await page.getByRole("button", { name: "Suspend the tenant" }).waitFor();
    assert.equal(await page.getByRole("dialog").count(), isAllowed ? 1 : 0);
    found.push(...(await barriers(page)));
  }
  return found;
}

// Reports errors of scripts, and resources that the content security policy blocks.
function report(page, problems) {
  page.on("pageerror", (error) => problems.push(`${page.url()}: ${error}`));
  page.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) {
      problems.push(`${page.url()}: ${message.text()}`);
    }
  });
}

// Violations of axe-core's rules on the current page.
async function barriers(page) {
  const found = [];
  await page.evaluate(AXE);
  for (const [colorScheme, rules] of Object.entries(RULES)) {
    const options = { resultTypes: ["violations"], ...rules };
    await page.emulateMedia({ colorScheme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 800 });
      const { violations } = await page.evaluate((chosen) => axe.run(chosen), options);
      const where = `${new URL(page.url()).pathname}, ${colorScheme}, ${width} px`;
      for (const { id, nodes } of violations) {
        found.push(`${where}: ${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`)}`);
      }
    }
  }
  return found;
}

// Addresses of the console's pages that the content links to.
async function links(page) {
  const all = await page.locator("main a[href]:not([download])").evaluateAll((found) => found.map((link) => link.href));
  const { origin } = new URL(page.url());
  return all.filter((link) => {
    const url = new URL(link);
    const isPage = url.origin === origin && /^\/console(\/[^.]*)?$/.test(url.pathname);
    return isPage && !url.pathname.startsWith("/console/sign");
  });
}

// Kind of a page: all pages `/console/jobs/<id>` are of one.
function shape(link) {
  const { pathname } = new URL(link);
  const [, , section = "", ...rest] = pathname.split("/");
  return `${section}${pathname.endsWith("/missing") ? " missing" : ` ${rest.length}`}`;
}
