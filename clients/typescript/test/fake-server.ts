/** `FakeAuthService` behind a socket, with all that can go wrong on the way. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { createVerifier, type Timing, type Verifier, type VerifierOptions } from "@kanban-auth/client/verify";
import { FakeAuthService } from "@kanban-auth/client/verify/testing";

export const JWKS = "/.well-known/jwks.json";
export const PAGES = "/api/v1/revocations";
export const STREAM = "stream of revocations";
const QUICK: Timing = { heartbeatTimeout: 0.6, poll: 0.05, firstRetry: 0.01, lastRetry: 0.05, lastStreamRetry: 0.05 };
const PATIENCE_SECONDS = 60;

export async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_SECONDS * 1000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, "never came");
    await sleep(10);
  }
}

/** `asked` counts by JWKS, PAGES and STREAM; `faults` and `refusedCursors` are statuses to answer with instead. */
export class FakeServer {
  readonly asked = new Map<string, number>();
  readonly faults = new Map<string, number>();
  readonly headers = new Map<string, string>();
  readonly refusedCursors = new Map<string, number>();
  readonly warnings: string[] = [];
  isMute = false;
  #server: Server | undefined;
  #port = 0;

  private constructor(readonly auth: FakeAuthService) {}

  static async start(): Promise<FakeServer> {
    const fake = new FakeServer(await FakeAuthService.create());
    await fake.start();
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  count(name: string): number {
    return this.asked.get(name) ?? 0;
  }

  verifier(options: VerifierOptions = {}): Verifier {
    const { serviceToken, clock } = this.auth;
    const warn = (message: string): void => void this.warnings.push(message);
    return createVerifier(this.url, { serviceToken, clock, timing: QUICK, warn, ...options });
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
    await new Promise<void>((resolve) => server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** As a service that is killed: its streams end. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
    await eventually(() => !this.auth.hasReaders);
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const gone = new AbortController();
    outgoing.on("close", () => gone.abort());
    const url = new URL(incoming.url ?? "", this.auth.url);
    const headers = new Headers(incoming.headers as Record<string, string>);
    const name = headers.get("accept") === "text/event-stream" ? STREAM : url.pathname;
    this.asked.set(name, this.count(name) + 1);
    const fault = this.refusedCursors.get(url.searchParams.get("after") ?? "") ?? this.faults.get(name);
    if (fault !== undefined) {
      outgoing.writeHead(fault).end();
      return;
    }
    const response = await this.auth.fetch(url, { headers, signal: gone.signal });
    outgoing.writeHead(response.status, { ...Object.fromEntries(response.headers), ...Object.fromEntries(this.headers) });
    outgoing.flushHeaders();
    for await (const chunk of response.body ?? []) {
      if (!(this.isMute && name === STREAM)) outgoing.write(chunk);
    }
    outgoing.end();
  }
}
