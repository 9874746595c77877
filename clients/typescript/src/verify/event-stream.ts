/** Server-sent events (WHATWG HTML §9.2), as far as the feed uses them. */
const MAX_LINE_LENGTH = 64 * 1024;

/** `kind` is "heartbeat" for a comment. */
export interface ServerSentEvent {
  readonly kind: string;
  readonly data: string;
  readonly id: string;
}

/** Throws RangeError if a line has no end. */
export async function* readEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  let fields = new Map<string, string>();
  for await (const line of lines(chunks)) {
    if (line.startsWith(":")) {
      yield { kind: "heartbeat", data: "", id: "" };
    } else if (line !== "") {
      const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      fields.set(name, value);
    } else if (fields.size > 0) {
      yield { kind: fields.get("event") ?? "message", data: fields.get("data") ?? "", id: fields.get("id") ?? "" };
      fields = new Map();
    }
  }
}

async function* lines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    if (rest.length > MAX_LINE_LENGTH) throw new RangeError("a line without an end");
    for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
  }
}
