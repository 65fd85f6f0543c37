import type { components } from "./schema.js";

type Schemas = components["schemas"];

export type FieldError = Schemas["FieldError"];

/** The body of an error response, or what is known of one that has no such body. */
type Body = Partial<Schemas["Problem"]>;

/** An error response of the API (RFC 9457). */
export class Problem extends Error {
  override name = "Problem";
  readonly status: number;
  /** Stable code. `unknown` for a response that is no problem, such as a proxy's. */
  readonly code: Schemas["ProblemCode"] | "unknown";
  readonly detail: string;
  /** Whether a retry of the unchanged request may succeed. */
  readonly retryable: boolean;
  /** Id of the request, as in the service's logs. */
  readonly requestId: string | undefined;
  readonly errors: readonly FieldError[];

  constructor(response: Response, body: Body) {
    super(body.detail ?? body.title ?? `HTTP status ${response.status}`);
    this.status = response.status;
    this.code = body.code ?? "unknown";
    this.detail = this.message;
    this.retryable = body.retryable ?? false;
    this.requestId = body.requestId ?? response.headers.get("x-request-id") ?? undefined;
    this.errors = body.errors ?? [];
  }

  /** Messages by JSON Pointer, or by the name of the parameter or header: what a form shows beside its fields. */
  get fields(): Map<string, string[]> {
    const fields = new Map<string, string[]>();
    for (const error of this.errors) {
      const field = error.pointer ?? error.parameter ?? "";
      fields.set(field, [...(fields.get(field) ?? []), error.message]);
    }
    return fields;
  }

  /** The problem of a response whose body has not been read. */
  static async of(response: Response): Promise<Problem> {
    const body = await response.text();
    return new Problem(response, parsed(body));
  }
}

/** A job ended as `discarded` or `cancelled`. */
export class JobFailed extends Error {
  override name = "JobFailed";
  readonly job: Schemas["Job"];

  constructor(job: Schemas["Job"]) {
    super(job.error?.message ?? `The job is ${job.state}.`);
    this.job = job;
  }
}

function parsed(text: string): Body {
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === "object" && body !== null ? body : {};
  } catch {
    return {};
  }
}
