import { Problem } from "./problem.js";
import { isTemporary, sleep } from "./transport.js";

/** An event of a stream. */
export interface Event {
  /** Position in the stream. */
  id: string;
  /** Name of the event, which says what the data is. */
  event: string;
  data: unknown;
}

/** Wait before a reconnection, in milliseconds. It doubles up to the second one. */
const RECONNECT = [500, 15_000] as const;

/** How a stream is read. */
interface Reading {
  signal?: AbortSignal | undefined;
  lastEventId?: string | undefined;
  /** Longest time without data, in milliseconds. */
  maxSilence: number;
}

/**
 * The events of a stream, over reconnections: each begins after the last event that was received. Ends when the service says
 * that there will be none (204), or when the signal aborts.
 */
export async function* events<E extends Event>(
  open: (lastEventId: string | undefined) => Promise<Response>,
  { signal, lastEventId, maxSilence }: Reading,
): AsyncGenerator<E, void, undefined> {
  let wait: number = RECONNECT[0];
  while (!signal?.aborted) {
    try {
      const response = await open(lastEventId);
      if (response.status === 204) {
        return;
      }
      if (!response.ok || response.body === null) {
        throw await Problem.of(response);
      }
      for await (const event of parse<E>(response.body, maxSilence)) {
        wait = RECONNECT[0];
        lastEventId = event.id;
        yield event;
      }
    } catch (error) {
      if (signal?.aborted) {
        return;
      }
      // A restart of the service may take longer than the transport retries.
      if (error instanceof Problem && !isTemporary(error.status)) {
        throw error;
      }
    }
    try {
      await sleep(wait, signal);
    } catch {
      return;
    }
    wait = Math.min(wait * 2, RECONNECT[1]);
  }
}

/** The events of one connection. */
async function* parse<E extends Event>(
  body: ReadableStream<Uint8Array>,
  maxSilence: number,
): AsyncGenerator<E, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await withTimeout(reader.read(), maxSilence);
      if (done) {
        return;
      }
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = parseBlock<E>(block);
        if (event !== undefined) {
          yield event;
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** The event of a block of lines; undefined for a heartbeat. */
function parseBlock<E extends Event>(block: string): E | undefined {
  const fields = new Map<string, string>();
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) {
      const value = line.slice(colon + 1).replace(/^ /, "");
      const name = line.slice(0, colon);
      fields.set(name, name === "data" && fields.has(name) ? `${fields.get(name)}\n${value}` : value);
    }
  }
  const data = fields.get("data");
  if (data === undefined) {
    return undefined;
  }
  const event: Event = { id: fields.get("id") ?? "", event: fields.get("event") ?? "message", data: JSON.parse(data) };
  return event as E;
}

/** The outcome of `reading`. Rejects if it takes longer: a connection that was lost on the way never ends by itself. */
async function withTimeout<T>(reading: Promise<T>, milliseconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("The stream is silent.")), milliseconds);
  });
  try {
    return await Promise.race([reading, late]);
  } finally {
    clearTimeout(timer);
  }
}
