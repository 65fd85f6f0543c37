// An operator at the console: a browser, the sign-in, and the pages of the navigation.
import { chromium } from "playwright-core";

const FLAGS = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
];

// Runs `use` with a headless browser, whose profile is new and empty.
export async function withBrowser(use) {
  const options = { executablePath: process.env.CHROMIUM, args: FLAGS, chromiumSandbox: false };
  const browser = await chromium.launch(options);
  try {
    await use(browser);
  } finally {
    await browser.close();
  }
}

// Opens a page and signs in by a click on a caller: the console leads to the issuer, which lists them.
export async function signIn(page, address, caller = "operator") {
  await page.goto(address);
  await page.getByRole("button", { name: caller, exact: true }).click();
}

// A window of its own, with an operator who is signed in.
export async function operatorPage(browser, origin, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await signIn(page, `${origin}/console`);
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  return page;
}

// The navigation.
export function navigation(page) {
  return page.getByRole("navigation", { name: "Pages" });
}

// Names and addresses of the pages in the navigation.
export function sections(page) {
  const links = navigation(page).getByRole("link");
  return links.evaluateAll((all) => all.map((link) => ({ name: link.textContent.trim(), url: link.href })));
}

// Opens the page until `shows` is true of it: the console's pages show the state of their moment.
export async function reloadUntil(page, description, shows) {
  const deadline = Date.now() + 240_000;
  while (!(await shows())) {
    if (Date.now() > deadline) {
      throw new Error(`${page.url()} does not show ${description}: ${await page.locator("main").innerText()}`);
    }
    await page.waitForTimeout(500);
    await page.reload();
  }
}
