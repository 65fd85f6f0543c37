import createFetchClient, { type Client } from "openapi-fetch";

import { events } from "./events.js";
import { JobFailed, Problem } from "./problem.js";
import type { components, paths } from "./schema.js";
import { Transport, type TransportOptions } from "./transport.js";

type Schemas = components["schemas"];

interface PageOf<T> {
  items: T[];
  nextCursor: string | null;
}

type PageAt<P extends keyof paths> = paths[P] extends {
  get: { responses: { 200: { content: { "application/json": infer Page } } } };
}
  ? Page
  : never;

/** Paths of lists. */
export type PagedPath = {
  [P in keyof paths]: PageAt<P> extends PageOf<unknown> ? P : never;
}[keyof paths];

/** An item of a list. */
export type ItemOf<P extends keyof paths> = PageAt<P> extends PageOf<infer Item> ? Item : never;

type ParametersOf<P extends keyof paths> = paths[P] extends { get: { parameters: infer Parameters } }
  ? Parameters
  : never;

/** How long the service waits in one request of {@link ControlPlane.waitFor}. */
const LONG_POLL = "25s";

/** Default of {@link TransportOptions.maxSilence}. */
const MAX_SILENCE = 60_000;

/** The control plane. */
export interface ControlPlane {
  /** Every operation by its path, with its types: `api.http.GET("/tenants/{slug}", …)`. */
  http: Client<paths>;

  /** The data of a response. Throws {@link Problem} for an error. */
  unwrap<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T>;

  /** The job once it has completed. Throws {@link JobFailed} if it was discarded or cancelled. */
  waitFor(job: string | { id: string }, options?: { signal?: AbortSignal }): Promise<Schemas["Job"]>;

  /** The tenant, and again after every change; and each member, app and domain that changes: `event` says which. */
  watch(
    slug: string,
    options?: { signal?: AbortSignal; lastEventId?: string },
  ): AsyncGenerator<Schemas["TenantEvent"], void, undefined>;

  /** The items of a list, page by page. */
  items<P extends PagedPath>(path: P, parameters?: ParametersOf<P>): AsyncGenerator<ItemOf<P>, void, undefined>;
}

/** A client of the control plane at `baseUrl`. */
export function createControlPlane(options: TransportOptions): ControlPlane {
  const transport = new Transport(options);
  const baseUrl = options.baseUrl.replace(/\/+$/, "");
  const http = createFetchClient<paths>({ baseUrl, fetch: transport.send });

  async function unwrap<T>(
    answer: Promise<{ data?: T; error?: unknown; response: Response }>,
  ): Promise<T> {
    const { data, error, response } = await answer;
    if (!response.ok) {
      throw new Problem(response, typeof error === "object" && error !== null ? error : {});
    }
    return data as T;
  }

  async function waitFor(
    job: string | { id: string },
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Schemas["Job"]> {
    let id = typeof job === "string" ? job : job.id;
    for (;;) {
      const current = await unwrap(
        http.GET("/jobs/{id}", {
          params: { path: { id }, query: { wait: LONG_POLL } },
          ...(signal && { signal }),
        }),
      );
      if (current.state === "completed") {
        return current;
      }
      if (current.state === "discarded" || current.state === "cancelled") {
        throw new JobFailed(current);
      }
      // Another job may have taken over the work.
      id = current.id;
    }
  }

  function watch(
    slug: string,
    { signal, lastEventId }: { signal?: AbortSignal; lastEventId?: string } = {},
  ): AsyncGenerator<Schemas["TenantEvent"], void, undefined> {
    const url = `${baseUrl}/tenants/${encodeURIComponent(slug)}/events`;
    const open = (last: string | undefined): Promise<Response> => {
      const headers = new Headers({ accept: "text/event-stream" });
      if (last) {
        headers.set("last-event-id", last);
      }
      return transport.send(new Request(url, { headers, ...(signal && { signal }) }));
    };
    return events(open, { signal, lastEventId, maxSilence: options.maxSilence ?? MAX_SILENCE });
  }

  async function* items<P extends PagedPath>(
    path: P,
    parameters?: ParametersOf<P>,
  ): AsyncGenerator<ItemOf<P>, void, undefined> {
    const given = (parameters ?? {}) as { query?: object };
    let cursor: string | undefined;
    do {
      const params = { ...given, query: { ...given.query, ...(cursor && { cursor }) } };
      // The types of a path that is a parameter are too deep for the compiler.
      const get = http.GET as (
        path: string,
        init: object,
      ) => Promise<{ data?: PageOf<ItemOf<P>>; error?: unknown; response: Response }>;
      const page = await unwrap(get(path, { params }));
      yield* page.items;
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
  }

  return { http, unwrap, waitFor, watch, items };
}
