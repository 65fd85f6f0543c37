// Pictures of the console: every page of the navigation, and the pages on the way through three incidents. The argument is a
// JSON object: `origin` of the console, `control` address of the simulators, `token` of an operator, and the `folder` for the
// pictures. Prints one JSON line for each.
import { join } from "node:path";

import { operatorPage, sections, withBrowser } from "./operator.mjs";
import { Service } from "./service.mjs";

const DESKTOP = { width: 1440, height: 900 };
const PHONE = { width: 360, height: 740 };
const DISCARDED = ["Globex", "Hooli", "Soylent", "Stark", "Tyrell", "Vandelay", "Wayne"];

const world = JSON.parse(process.argv[2]);
const service = new Service(world);

await breakThings();
await withBrowser(async (browser) => {
  const page = await operatorPage(browser, world.origin, { viewport: DESKTOP });
  for (const { name, url } of await sections(page)) {
    await page.goto(url);
    await save(page, name, `The page "${name}" of the navigation.`);
  }
  await incidents(page);
  await page.goto(`${world.origin}/console`);
  await page.emulateMedia({ colorScheme: "dark" });
  await save(page, "Overview, dark", "The console follows the color scheme of the browser.");
  await page.setViewportSize(PHONE);
  await save(page, "Overview, on a phone", "Every page fits a width of 360 pixels; wide tables scroll.");
});

// Jobs that an upstream's rejections left discarded, an upstream that denies an operation, and a forgotten pause.
async function breakThings() {
  await service.fail("ocis", "create_space", 400);
  for (const name of DISCARDED) {
    await service.create(name.toLowerCase(), name);
  }
  // The demo has another one.
  await service.until("/jobs?state=discarded&limit=100", ({ items }) => items.length > DISCARDED.length);
  await service.repair("ocis");
  await service.fail("ocis", "create_space", 403);
  await service.create("initech", "Initech");
  await service.until("/upstreams", ({ items }) => items.some(({ state }) => state === "permission_missing"));
  await service.api("POST", "/queues/webhooks/pause", { reason: "Move of the payment provider's account" });
}

async function incidents(page) {
  const link = (name) => page.getByRole("link", { name, exact: true }).first();
  const button = (name) => page.getByRole("button", { name, exact: true }).first();

  await page.goto(`${world.origin}/console/tenants?health=critical`);
  await save(page, "Tenants that need attention", "The list of tenants, limited to those with failures.");
  await page.goto(`${world.origin}/console/tenants/globex`);
  await save(page, "A failing tenant", "Its health with reasons, its conditions, and its last jobs.");
  await link("provision_tenant").click();
  await page.getByRole("heading", { name: "Steps" }).waitFor();
  await save(page, "A discarded job", "Why it failed, step by step, and the operation that the upstream refused.");
  await page.goto(`${world.origin}/console/jobs?state=discarded&errorCode=upstream_rejected`);
  await save(page, "Discarded jobs", "The jobs with one error code, and the buttons for all that match.");
  await button("Requeue all").click();
  await button("Start").waitFor();
  await save(page, "Bulk operation", "The dry run counts the jobs and shows a sample. Typing the number starts the operation.");
  await page.goto(`${world.origin}/console/tenants/demo`);
  await button("Suspend").click();
  await button("Suspend the tenant").waitFor();
  await save(page, "Confirmation", "A destructive action says what it does, and asks.");
}

async function save(page, title, caption) {
  const file = `${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}.png`;
  await page.screenshot({ path: join(world.folder, file) });
  console.log(JSON.stringify({ file, title, caption }));
}
