// A portal that uses the client against the service. It prints what the service has to do next, one JSON object per line.
import assert from "node:assert/strict";

import { createControlPlane, JobFailed, Problem } from "./dist/index.js";

const { baseUrl, token, expired } = JSON.parse(process.argv[2]);
const ask = (command) => console.log(JSON.stringify(command));

/** A client whose requests go through `fetch`. */
const client = (fetch, more = {}) => createControlPlane({ baseUrl, token: () => token, fetch, ...more });
const api = client();

// One refresh for all requests that were refused.
{
  let current = expired;
  let refreshes = 0;
  const refresh = async () => {
    refreshes += 1;
    await new Promise((resolve) => setTimeout(resolve, 20));
    current = token;
  };
  const api = client(undefined, { token: () => current, refresh });
  const profiles = await Promise.all(Array.from({ length: 10 }, () => api.unwrap(api.http.GET("/users/me"))));
  assert.equal(new Set(profiles.map((profile) => profile.id)).size, 1);
  assert.equal(refreshes, 1);
}

// A token that stays refused is refreshed once, and the problem is thrown.
{
  let refreshes = 0;
  const api = client(undefined, { token: () => expired, refresh: async () => (refreshes += 1) });
  await assert.rejects(api.unwrap(api.http.GET("/users/me")), { name: "Problem", code: "token_expired" });
  assert.equal(refreshes, 1);
}

// A write whose response is lost happens once.
{
  const keys = [];
  const losing = async (request) => {
    const answer = await fetch(request);
    keys.push(request.headers.get("idempotency-key"));
    if (keys.length === 1) {
      throw new TypeError("the connection was lost");
    }
    return answer;
  };
  const body = { slug: "acme", name: "Acme" };
  const { response, data } = await client(losing).http.POST("/tenants", { body });
  assert.equal(response.status, 202);
  assert.equal(response.headers.get("idempotency-replayed"), "true");
  assert.equal(data.slug, "acme");
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
}

// A temporary failure is repeated when the service says, a lasting one is not.
{
  let answers = [new Response("", { status: 503, headers: { "retry-after": "0" } })];
  const failing = async (request) => answers.shift() ?? fetch(request);
  const tenant = await api.unwrap(client(failing).http.GET("/tenants/{slug}", { params: { path: { slug: "acme" } } }));
  assert.equal(tenant.name, "Acme");

  answers = [new Response("", { status: 429, headers: { "retry-after": "3600" } })];
  const limited = client(failing).http.GET("/tenants");
  await assert.rejects(api.unwrap(limited), { status: 429, code: "unknown" });
}

// A problem names the fields.
{
  const body = { slug: "No Slug", name: "" };
  const refused = api.unwrap(api.http.POST("/tenants", { body }));
  await assert.rejects(refused, (problem) => {
    assert.ok(problem instanceof Problem);
    assert.equal(problem.code, "validation_failed");
    assert.deepEqual([...problem.fields.keys()].sort(), ["/name", "/slug"]);
    assert.match(problem.requestId, /./);
    return true;
  });
}

// A list is read page by page.
{
  const create = (slug) => api.unwrap(api.http.POST("/tenants", { body: { slug, name: slug } }));
  await create("bolt");
  await create("cord");
  const slugs = [];
  for await (const tenant of api.items("/tenants", { query: { limit: 1, sort: "-slug" } })) {
    slugs.push(tenant.slug);
  }
  assert.deepEqual(slugs, ["cord", "bolt", "acme"]);
}

// A job is waited for.
{
  const find = async (slug) => {
    const { items } = await api.unwrap(api.http.GET("/jobs", { params: { query: { tenant: slug } } }));
    return items[0];
  };
  const done = await find("bolt");
  const waiting = api.waitFor(done);
  ask({ end: done.id, state: "completed" });
  assert.equal((await waiting).state, "completed");

  const failed = await find("cord");
  ask({ end: failed.id, state: "discarded" });
  await assert.rejects(api.waitFor(failed.id), (error) => {
    assert.ok(error instanceof JobFailed);
    assert.equal(error.job.state, "discarded");
    return true;
  });
}

// A tenant is watched, over a lost connection and a restart of the service.
{
  const opened = [];
  let drop;
  const dropping = async (request) => {
    opened.push(request.headers.get("last-event-id"));
    if (opened.length === 2) {
      return new Response("", { status: 502 });
    }
    const answer = await fetch(request);
    const { readable, writable } = new TransformStream({ start: (controller) => (drop = () => controller.error("lost")) });
    answer.body.pipeTo(writable).catch(() => undefined);
    return new Response(readable, answer);
  };
  const stop = new AbortController();
  const industries = [];
  let last;
  for await (const { id, event, data } of client(dropping, { retries: 0 }).watch("acme", { signal: stop.signal })) {
    assert.equal(event, "tenant");
    industries.push(data.industry);
    if (industries.length === 1) {
      ask({ change: "acme", industry: "boats" });
    } else if (industries.length === 2) {
      last = id;
      drop();
      ask({ change: "acme", industry: "ships" });
    } else {
      stop.abort();
    }
  }
  assert.deepEqual(industries, [undefined, "boats", "ships"]);
  assert.deepEqual(opened, [null, last, last]);
}

// A stream that falls silent, as when its connection was lost on the way, is opened again.
{
  const opened = [];
  const silent = async (request) => {
    opened.push(request.headers.get("last-event-id"));
    const event = new TextEncoder().encode(`id: ${opened.length}\nevent: tenant\ndata: {}\n\n`);
    return new Response(new ReadableStream({ start: (controller) => controller.enqueue(event) }));
  };
  const seen = [];
  for await (const { id } of client(silent, { maxSilence: 50 }).watch("acme")) {
    seen.push(id);
    if (seen.length === 2) {
      break;
    }
  }
  assert.deepEqual(seen, ["1", "2"]);
  assert.deepEqual(opened, [null, "1"]);
}

// What the caller may not see ends a stream with a problem.
await assert.rejects(api.watch("nobody").next(), { name: "Problem", code: "not_found" });
