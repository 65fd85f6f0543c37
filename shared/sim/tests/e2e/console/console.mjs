// The operators' console in a browser. The argument is a JSON object: `origin` of the console, address of it that is
// `printed` by `cargo dev up`, `control` address of the simulators, `token` of an operator, id of a `colleague`, number of `discarded` jobs, and the tenants: the `failing` one with its `name`, the `demo`, and the
// one that the demo has `left` failing.
import { withBrowser } from "./operator.mjs";
import { Service } from "./service.mjs";

import { isReadable } from "./accessibility.mjs";
import { refusesAttacks } from "./attacks.mjs";
import { repairsFailures } from "./incidents.mjs";
import { asksBeforeItPauses, keepsPagesUpToDate, signsInWithOneClick, worksWithoutScript } from "./navigation.mjs";

const world = JSON.parse(process.argv[2]);
world.service = new Service(world);

await withBrowser(async (browser) => {
  // The repairs come last: what is broken belongs to the pages that are read.
  for (const part of [
    signsInWithOneClick,
    worksWithoutScript,
    keepsPagesUpToDate,
    asksBeforeItPauses,
    isReadable,
    refusesAttacks,
    repairsFailures,
  ]) {
    const start = Date.now();
    await part(browser, world);
    console.log(`${part.name}: ${Date.now() - start} ms`);
  }
});
