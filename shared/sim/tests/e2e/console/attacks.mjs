// Attacks from a browser: forged forms, frames, redirects, sessions of others, and stored markup; each is refused.
import assert from "node:assert/strict";
import { createServer } from "node:http";

import { operatorPage, signIn } from "./operator.mjs";

const SESSION = "dezky_console";

export async function refusesAttacks(browser, world) {
  const attacker = await Attacker.start();
  try {
    const attacks = [
      formOfAnotherSite,
      frameOfAnotherPage,
      redirectToAnotherSite,
      plantedSession,
      stolenCookie,
      revokedOperator,
      storedMarkup,
    ];
    for (const attack of attacks) {
      await attack(browser, world, attacker);
    }
  } finally {
    attacker.server.close();
  }
}

// A server of pages that the attacker wrote.
class Attacker {
  html = "";

  static async start() {
    const attacker = new Attacker();
    attacker.server = createServer((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<!doctype html><title>Prizes</title>${attacker.html}`);
    });
    await new Promise((resolve) => attacker.server.listen(0, "127.0.0.1", resolve));
    const { port } = attacker.server.address();
    // Another site than the console's, and another port of its host, to which browsers send its cookies.
    attacker.crossSite = `http://localhost:${port}/`;
    attacker.sameSite = `http://127.0.0.1:${port}/`;
    return attacker;
  }
}

async function cookieOf(page) {
  const cookies = await page.context().cookies();
  return cookies.find(({ name }) => name === SESSION);
}

// A form that suspends a tenant, even with the token of the session.
async function formOfAnotherSite(browser, { origin, service, demo }, attacker) {
  const page = await operatorPage(browser, origin);
  const token = await page.locator("input[name=form_token]").first().getAttribute("value");
  assert.ok(token.length > 40, token);
  const fields = Object.entries({ form_token: token, form_key: "attack", confirmed: "yes" });
  const inputs = fields.map(([name, value]) => `<input type="hidden" name="${name}" value="${value}">`);
  attacker.html = `<form method="post" action="${origin}/console/tenants/${demo}/suspend">${inputs.join("")}<button>Win</button></form>`;
  for (const address of [attacker.crossSite, attacker.sameSite]) {
    await page.goto(address);
    const posted = page.waitForResponse((response) => response.request().method() === "POST");
    await page.getByRole("button", { name: "Win" }).click();
    assert.equal((await posted).status(), 403, address);
  }
  const { status } = await service.api("GET", `/tenants/${demo}`);
  assert.equal(status, "active");
  await page.context().close();
}

// A page that shows the console in a frame, under a button of its own.
async function frameOfAnotherPage(browser, { origin }, attacker) {
  const page = await operatorPage(browser, origin);
  attacker.html = `<iframe src="${origin}/console"></iframe>`;
  await page.goto(attacker.sameSite);
  const [, frame] = page.frames();
  assert.ok(frame.url().startsWith("chrome-error:"), frame.url());
  const headers = (await page.request.get(`${origin}/console`)).headers();
  assert.equal(headers["x-frame-options"], "DENY");
  assert.match(headers["content-security-policy"], /frame-ancestors 'none'/);
  await page.context().close();
}

// A link that signs in, and then leads elsewhere.
async function redirectToAnotherSite(browser, { origin }, attacker) {
  const { host } = new URL(attacker.crossSite);
  for (const target of [attacker.crossSite, `//${host}/`, `/\\${host}/`, `/console/..//${host}/`, `/console@${host}/`]) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await signIn(page, `${origin}/console/sign-in?return_to=${encodeURIComponent(target)}`);
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    assert.equal(page.url(), `${origin}/console`, target);
    await context.close();
  }
}

// A session id that the attacker knows, set before the sign-in.
async function plantedSession(browser, { origin }) {
  const planted = { name: SESSION, value: "planted", url: origin };
  const victim = await browser.newContext();
  await victim.addCookies([planted]);
  const page = await victim.newPage();
  await signIn(page, `${origin}/console`);
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  assert.notEqual((await cookieOf(page)).value, planted.value);
  await victim.close();
  await assertSignedOut(browser, origin, planted);
}

// A copy of the cookie, used after the sign-out.
async function stolenCookie(browser, { origin }) {
  const page = await operatorPage(browser, origin);
  const stolen = await cookieOf(page);
  assert.ok(stolen.httpOnly && stolen.sameSite === "Lax", JSON.stringify(stolen));
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Signed out" }).waitFor();
  assert.equal(await cookieOf(page), undefined);
  await page.context().close();
  await assertSignedOut(browser, origin, stolen);
}

async function assertSignedOut(browser, origin, cookie) {
  const context = await browser.newContext();
  await context.addCookies([{ name: cookie.name, value: cookie.value, url: origin }]);
  const page = await context.newPage();
  await page.goto(`${origin}/console`);
  assert.notEqual(new URL(page.url()).origin, origin, "the issuer asks who signs in");
  await context.close();
}

// An operator whose role is taken away while a page is open.
async function revokedOperator(browser, { origin, service, colleague }) {
  const user = `/users/${colleague}`;
  await service.api("PATCH", user, { platformRole: "viewer" });
  const context = await browser.newContext();
  const page = await context.newPage();
  await signIn(page, `${origin}/console/tenants`, "operator-without-flag");
  await page.getByRole("heading", { level: 1, name: "Tenants" }).waitFor();

  await service.api("PATCH", user, { platformRole: null });
  const refused = page.waitForResponse((response) => response.url() === `${origin}/console/jobs`);
  await page.getByRole("link", { name: "Jobs", exact: true }).click();

  assert.equal((await refused).status(), 403);
  await page.getByText("The console is for operators.").waitFor();
  await context.close();
}

// Markup in the name of a tenant, which every operator reads.
async function storedMarkup(browser, { origin, name, failing }) {
  const page = await operatorPage(browser, origin);
  const dialogs = [];
  page.on("dialog", (dialog) => {
    dialogs.push(dialog.message());
    return dialog.dismiss();
  });
  for (const path of ["/console/tenants", `/console/tenants/${failing}`, "/console/audit", "/console/jobs"]) {
    await page.goto(origin + path);
    assert.equal(await page.locator("main img").count(), 0, path);
  }
  await page.goto(`${origin}/console/tenants/${failing}`);
  await page.getByRole("heading", { level: 1, name, exact: true }).waitFor();
  assert.deepEqual(dialogs, []);
  await page.context().close();
}
