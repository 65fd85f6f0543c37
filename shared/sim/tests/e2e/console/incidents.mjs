// Incidents that an operator repairs in the console alone: the cause is read, with at most five clicks. All but one without
// script.
import assert from "node:assert/strict";

import { operatorPage, reloadUntil } from "./operator.mjs";

const CLICKS = 5;

export async function repairsFailures(browser, world) {
  const plain = await operatorPage(browser, world.origin, { javaScriptEnabled: false });
  const live = await operatorPage(browser, world.origin);
  const incidents = [
    [failingTenant, plain],
    [tenantLeftBehind, live],
    [discardedJobs, plain],
    [missingPermission, plain],
    [forgottenPause, plain],
  ];
  for (const [incident, page] of incidents) {
    await page.goto(`${world.origin}/console`);
    await incident(new Operator(page), world);
  }
  await plain.context().close();
  await live.context().close();
}

// An operator who clicks what is visible.
class Operator {
  clicks = 0;

  constructor(page) {
    this.page = page;
  }

  async click(role, name) {
    this.clicks += 1;
    assert.ok(this.clicks <= CLICKS, `${name} is click ${this.clicks}`);
    await this.page.getByRole(role, { name, exact: true }).first().click();
  }

  async reads(...texts) {
    const shown = await this.page.locator("main").innerText();
    for (const text of texts) {
      assert.ok(shown.includes(text), `${this.page.url()} does not say ${text}: ${shown}`);
    }
  }

  // Sees the tenant's row in the list of tenants turn active.
  async seesActive(slug) {
    await this.click("link", "Tenants");
    const row = this.page.getByRole("row").filter({ has: this.page.getByRole("rowheader", { name: slug, exact: true }) });
    const state = row.locator(".state").first();
    await reloadUntil(this.page, `${slug} active`, async () => (await state.innerText()).includes("active"));
  }
}

// A tenant whose files service refused the space.
async function failingTenant(operator, { service, failing, name }) {
  const { page } = operator;
  await operator.click("link", "Tenants");
  await operator.click("link", failing);
  await operator.reads(name, "rejected the change");
  await operator.click("link", "provision_tenant");
  await operator.reads("upstream_rejected", "create_space");
  await service.repair("ocis");
  await page.goBack();
  await operator.click("button", "Reconcile");
  await page.goto(`${service.origin}/console/tenants/${failing}`);
  const status = page.locator("main .state").first();
  await reloadUntil(page, "an active tenant", async () => (await status.innerText()).includes("active"));
}

// The demo's failing tenant, as a person repairs it who has nothing but the address of the console: its open page turns
// active without being loaded again.
async function tenantLeftBehind(operator, { left }) {
  const { page } = operator;
  await operator.click("link", "Tenants");
  await operator.click("link", left);
  await operator.reads("rejected the change");
  await operator.click("button", "Reconcile");
  await operator.click("link", left);
  await page.waitForLoadState();
  let loads = 0;
  page.on("load", () => {
    loads += 1;
  });
  const status = page.locator(".sentence .state").first().filter({ hasText: /^\W*active$/ });
  await status.waitFor({ timeout: 60_000 });
  assert.equal(loads, 0);
}

// Hundreds of jobs that an upstream's outage left discarded.
async function discardedJobs(operator, { discarded }) {
  const { page } = operator;
  await operator.click("link", "upstream_rejected");
  await operator.click("link", /discarded \d+$/);
  await operator.click("button", "Requeue all");
  const number = page.getByLabel(/type the number of jobs/);
  const shown = await page.locator("main").innerText();
  const [, jobs] = shown.match(/type the number of jobs \((\d+)\)/);
  assert.ok(Number(jobs) >= discarded, jobs);
  await page.getByLabel("Jobs per second").fill("250");
  await number.fill(jobs);
  await operator.click("button", "Start");
  const main = page.locator("main");
  await reloadUntil(page, "a completed operation", async () => (await main.innerText()).includes("(completed)"));
  await operator.click("link", "Operations");
  await operator.reads(`${jobs} of ${jobs} done`);
}

// An upstream that denies an operation to the service's account.
async function missingPermission(operator, { service, origin }) {
  const { page } = operator;
  await service.fail("ocis", "create_space", 403);
  await service.create("initech", "Initech");
  await service.until("/upstreams", ({ items }) => items.some(({ state }) => state === "permission_missing"));
  await page.goto(`${origin}/console`);
  await operator.reads("1 upstream not available", "permission missing");
  await operator.click("link", "ocis");
  await operator.reads("It denies create_space to our account");
  await service.repair("ocis");
  await operator.click("button", "Resume ocis");
  await operator.seesActive("initech");
}

// A queue that was paused, and never resumed.
async function forgottenPause(operator, { service, origin }) {
  const { page } = operator;
  await service.api("POST", "/queues/provisioning/pause", { reason: "Move of the mail server" });
  await service.create("umbrella", "Umbrella");
  await page.goto(`${origin}/console`);
  await operator.reads("1 queue paused");
  await operator.click("link", "provisioning");
  await operator.reads("Move of the mail server");
  await operator.click("button", "Resume provisioning");
  await operator.seesActive("umbrella");
}
