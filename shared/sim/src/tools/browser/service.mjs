// The service behind the console, as its portals and the upstreams' own operators reach it.

async function send(method, url, body, headers = {}) {
  const init = { method, headers };
  if (body !== undefined) {
    init.headers = { ...headers, "content-type": "application/json" };
    init.body = JSON.stringify(body);
  }
  const answer = await fetch(url, init);
  const text = await answer.text();
  if (!answer.ok) {
    throw new Error(`${method} ${url}: ${answer.status} ${text}`);
  }
  return text === "" ? null : JSON.parse(text);
}

export class Service {
  // Addresses of the API and of the simulators' control API, and an operator's token.
  constructor({ origin, control, token }) {
    this.origin = origin;
    this.simulators = control;
    this.token = token;
  }

  // Sends a request to the API.
  api(method, path, body) {
    return send(method, this.origin + path, body, { authorization: `Bearer ${this.token}` });
  }

  // Lets an operation of an upstream fail with a status, until `repair`.
  fail(upstream, operation, status) {
    const fault = { kind: "status", status, retry_after: null };
    return send("POST", `${this.simulators}/upstreams/${upstream}/faults`, { operation, fault });
  }

  // Removes the faults of an upstream.
  repair(upstream) {
    return send("DELETE", `${this.simulators}/upstreams/${upstream}/faults`);
  }

  // Creates a tenant.
  create(slug, name) {
    return this.api("POST", "/tenants", { slug, name, domains: [`${slug}.test`] });
  }

  // Polls a resource until `is` returns true for it.
  async until(path, is) {
    const deadline = Date.now() + 30_000;
    for (;;) {
      const found = await this.api("GET", path);
      if (is(found)) {
        return found;
      }
      if (Date.now() > deadline) {
        throw new Error(`timeout: ${path} is ${JSON.stringify(found)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
