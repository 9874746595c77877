/**
 * For the tests of siblings: an auth service that exists only in memory.
 *
 *     const auth = await FakeAuthService.create();
 *     const { verify } = auth.verifier();
 *     const claims = await verify(await auth.issueTestToken({ userId: 42, role: "admin" }));
 */
import type { UnderlyingSource } from "node:stream/web";

import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";

import type { Clock } from "./clock.js";
import { createVerifier, type Verifier, type VerifierOptions } from "./verifier.js";

const HEARTBEAT_MILLISECONDS = 100;

/** Goes on by itself, and further when it is moved. */
export class MovableClock implements Clock {
  #moved = 0;

  now(): number {
    return Date.now() / 1000 + this.#moved;
  }

  monotonic(): number {
    return performance.now() / 1000 + this.#moved;
  }

  move(seconds: number): void {
    this.#moved += seconds;
  }
}

export interface TestToken {
  readonly userId?: number;
  readonly role?: string;
  /** Without one the token is of a session of its own. */
  readonly sessionId?: string;
  /** In seconds. */
  readonly lifetime?: number;
  /** Replace single claims. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

interface Item {
  readonly cursor: string;
  readonly [field: string]: unknown;
}

/** Signs with ES256. Its tokens and verifiers live by `clock`; while it `isDown` nobody can connect. */
export class FakeAuthService {
  readonly url = "http://auth.test";
  readonly serviceToken = "kas_test";
  readonly clock = new MovableClock();
  isDown = false;
  pageSize = 1000;
  readonly #publicKeys: JWK[] = [];
  readonly #revocations: Item[] = [];
  readonly #readers = new Map<object, number>();
  readonly #waiting = new Set<() => void>();
  #signing: { kid: string; privateKey: CryptoKey } | undefined;

  private constructor(
    readonly issuer: string,
    readonly audience: string | undefined,
  ) {}

  static async create(options: { issuer?: string; audience?: string } = {}): Promise<FakeAuthService> {
    const auth = new FakeAuthService(options.issuer ?? "kanban-auth", options.audience);
    await auth.rotateKey();
    return auth;
  }

  /** Knows the sign-outs too. */
  verifier(options: VerifierOptions = {}): Verifier {
    const { issuer, audience, serviceToken, clock, fetch } = this;
    return createVerifier(this.url, { issuer, audience, serviceToken, clock, fetch, ...options });
  }

  async issueTestToken(token: TestToken = {}): Promise<string> {
    const now = Math.floor(this.clock.now());
    const payload = {
      iss: this.issuer,
      sub: String(token.userId ?? 1),
      role: token.role ?? "user",
      sid: token.sessionId ?? crypto.randomUUID(),
      jti: crypto.randomUUID(),
      iat: now,
      exp: now + (token.lifetime ?? 900),
      ...(this.audience === undefined ? {} : { aud: this.audience, client_id: this.audience }),
      ...token.claims,
    };
    if (this.#signing === undefined) throw new Error("no key");
    const { kid, privateKey } = this.#signing;
    return new SignJWT(payload).setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid }).sign(privateKey);
  }

  /** From now on another key signs; the one before goes on being published. */
  async rotateKey(): Promise<void> {
    const { publicKey, privateKey } = await generateKeyPair("ES256");
    const kid = crypto.randomUUID();
    this.#publicKeys.push({ ...(await exportJWK(publicKey)), kid, use: "sig", alg: "ES256" });
    this.#signing = { kid, privateKey };
  }

  /** All keys are gone, as after `keys revoke`. */
  revokeKeys(): void {
    this.#publicKeys.length = 0;
  }

  /** When this has come true, verifiers that are connected know. */
  endSession(sessionId: string): Promise<void> {
    return this.publish({ sid: sessionId, reason: "logout" });
  }

  /** All tokens of the user that were issued until now. */
  endSessionsOf(userId: number): Promise<void> {
    const issuedBefore = Math.floor(this.clock.now());
    return this.publish({ sub: String(userId), issued_before: issuedBefore, reason: "user_disabled" });
  }

  /** All tokens of the user that name another role. */
  changeRole(userId: number, role: string): Promise<void> {
    return this.publish({ sub: String(userId), role, reason: "role_changed" });
  }

  /** An item of any shape. */
  async publish(item: Readonly<Record<string, unknown>>): Promise<void> {
    const cursor = this.#revocations.length + 1;
    const complete = { sid: null, sub: null, issued_before: null, role: null, ...item };
    this.#revocations.push({ cursor: String(cursor), ...complete, expires_at: Math.floor(this.clock.now()) + 3600 });
    this.#changed();
    while ([...this.#readers.values()].some((at) => at < cursor)) await this.#change();
  }

  /** For `createVerifier({ fetch })`. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    if (this.isDown) throw new TypeError("it is down");
    const request = new Request(input, init);
    const url = new URL(request.url);
    if (url.pathname === "/.well-known/jwks.json") {
      return Response.json({ keys: this.#publicKeys }, { headers: { "Cache-Control": "public, max-age=600" } });
    }
    if (request.headers.get("authorization") !== `Bearer ${this.serviceToken}`) return new Response(null, { status: 401 });
    const after = Number(url.searchParams.get("after") ?? 0);
    if (request.headers.get("accept") === "text/event-stream") {
      const headers = { "Content-Type": "text/event-stream" };
      return new Response(this.#stream(after, init?.signal ?? request.signal), { headers });
    }
    const items = this.#revocations.slice(after, after + this.pageSize);
    const end = after + items.length;
    return Response.json({ revocations: items, cursor: String(end), has_more: end < this.#revocations.length });
  };

  get hasReaders(): boolean {
    return this.#readers.size > 0;
  }

  /** What a reader asks for next tells how far it has come. */
  #stream(after: number, signal: AbortSignal): ReadableStream<Uint8Array> {
    const reader = {};
    const encoder = new TextEncoder();
    const leave = (): void => {
      this.#readers.delete(reader);
      this.#changed();
    };
    signal.addEventListener("abort", leave);
    const source: UnderlyingSource<Uint8Array> = {
      pull: async (controller) => {
        if (signal.aborted) return controller.error(signal.reason);
        this.#readers.set(reader, after);
        this.#changed();
        if (this.#revocations.length <= after) await this.#change(HEARTBEAT_MILLISECONDS);
        if (this.isDown) {
          leave();
          return controller.error(new TypeError("it is down"));
        }
        const items = this.#revocations.slice(after);
        after += items.length;
        const events = items.map((item) => `event: revocation\nid: ${item.cursor}\ndata: ${JSON.stringify(item)}\n\n`);
        controller.enqueue(encoder.encode(events.join("") || ": ping\n\n"));
      },
      cancel: leave,
    };
    return new ReadableStream(source, { highWaterMark: 0 });
  }

  #changed(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Wait for something to happen, or for so long. */
  #change(milliseconds = 1000): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      this.#waiting.add(wake);
    });
  }
}
