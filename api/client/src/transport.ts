/** Options of the client. */
export interface TransportOptions {
  /** Address of the API. */
  baseUrl: string;
  /** The current access token. */
  token: () => string | Promise<string>;
  /** Gets a new access token, which `token` returns from then on. Called once for all requests that got a 401. */
  refresh?: () => Promise<unknown>;
  /** `fetch` of the platform by default. */
  fetch?: (request: Request) => Promise<Response>;
  /** Maximum number of retries of a request. Default: 4. */
  retries?: number;
  /** Longest wait before a retry, in milliseconds. A longer `Retry-After` is not waited for. Default: 30000. */
  maxWait?: number;
  /**
   * Longest time without data on a stream of events, in milliseconds, after which it is opened again. The service sends
   * something every 15 seconds. Default: 60000.
   */
  maxSilence?: number;
}

/** Whether the same request may succeed after a response with this status. */
export function isTemporary(status: number): boolean {
  return [429, 502, 503, 504].includes(status);
}

/** First wait without a `Retry-After`, in milliseconds. */
const FIRST_WAIT = 250;

/** Sends requests: with the token, an idempotency key, and retries. */
export class Transport {
  readonly #options: TransportOptions;
  #refreshing: Promise<unknown> | undefined;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  readonly send = async (request: Request): Promise<Response> => {
    const template = withIdempotencyKey(request);
    const retries = this.#options.retries ?? 4;
    let isRefreshed = false;
    for (let attempt = 0; ; attempt += 1) {
      const token = await this.#options.token();
      const answer = await this.#attempt(template, token);
      if (answer instanceof Response && answer.status === 401 && !isRefreshed && this.#options.refresh) {
        isRefreshed = true;
        await this.#refresh(token);
        continue;
      }
      const wait = attempt < retries ? this.#waitAfter(answer, attempt) : undefined;
      if (wait === undefined || request.signal.aborted) {
        if (answer instanceof Response) {
          return answer;
        }
        throw answer.error;
      }
      if (answer instanceof Response) {
        await answer.body?.cancel();
      }
      await sleep(wait, request.signal);
    }
  };

  async #attempt(template: Request, token: string): Promise<Response | { error: unknown }> {
    const request = template.clone();
    request.headers.set("authorization", `Bearer ${token}`);
    const send = this.#options.fetch ?? fetch;
    try {
      return await send(request);
    } catch (error) {
      return { error };
    }
  }

  /** One refresh for all requests in flight; none if another request has refreshed the token meanwhile. */
  async #refresh(used: string): Promise<void> {
    if (this.#refreshing === undefined && (await this.#options.token()) !== used) {
      return;
    }
    this.#refreshing ??= this.#options.refresh?.().finally(() => {
      this.#refreshing = undefined;
    });
    await this.#refreshing;
  }

  /** Milliseconds until the next attempt; undefined if the answer is final. */
  #waitAfter(answer: Response | { error: unknown }, attempt: number): number | undefined {
    const backoff = FIRST_WAIT * 2 ** attempt * (0.5 + Math.random() / 2);
    if (!(answer instanceof Response)) {
      return backoff;
    }
    const retryAfter = milliseconds(answer.headers.get("retry-after"));
    // A 409 is temporary if it says until when.
    const isRepeated = isTemporary(answer.status) || (answer.status === 409 && retryAfter !== undefined);
    const wait = retryAfter ?? backoff;
    return isRepeated && wait <= (this.#options.maxWait ?? 30_000) ? wait : undefined;
  }
}

/** A write with a key that all its attempts share, so that it happens once. */
function withIdempotencyKey(request: Request): Request {
  const isRead = request.method === "GET" || request.method === "HEAD";
  if (!isRead && !request.headers.has("idempotency-key")) {
    request.headers.set("idempotency-key", crypto.randomUUID());
  }
  return request;
}

/** `Retry-After`: seconds, or a date. */
function milliseconds(retryAfter: string | null): number | undefined {
  if (retryAfter === null) {
    return undefined;
  }
  const seconds = Number(retryAfter);
  const wait = Number.isNaN(seconds) ? Date.parse(retryAfter) - Date.now() : seconds * 1000;
  return Number.isNaN(wait) ? undefined : Math.max(wait, 0);
}

/** Waits. Rejects when the signal aborts. */
export function sleep(wait: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, wait);
    if (signal?.aborted) {
      abort();
    } else {
      signal?.addEventListener("abort", abort, { once: true });
    }
  });
}
