import { AuthError, answerOf, errorOf } from "./errors.js";
import type { SignedOutReason } from "./errors.js";
import { persistently, sleep } from "./persistence.js";

/** What the tabs of an origin share, in localStorage. No secret: the tokens are in HttpOnly cookies. */
interface Shared {
  /** Counts logins, refreshes and logouts: who finds another number than before need not refresh. */
  round: number;
  signedIn: boolean;
  /** When to refresh, on the clock of this machine. */
  refreshAt: number;
  /** Of a refresh whose answer has not come: whoever repeats it with this key gets the same tokens (within 60 s). */
  pending?: { key: string; since: number };
}

/** Of a token pair, what a script needs. */
interface Pair {
  expires_in: number;
}

const KEY_SECONDS = 50;
const AHEAD = 0.9;
const NEVER = Number.MAX_SAFE_INTEGER;
const NOBODY: Shared = { round: 0, signedIn: false, refreshAt: NEVER };

/** A session's refreshes, one at a time in all tabs: each is a round. */
export class Rounds {
  readonly #base: string;
  readonly #name: string;
  readonly #onSignedOut: ((reason: SignedOutReason) => void) | undefined;
  readonly #channel: BroadcastChannel | undefined;
  #alone: Shared | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #signedIn: boolean;

  constructor(base: string, onSignedOut: ((reason: SignedOutReason) => void) | undefined) {
    this.#base = base;
    this.#onSignedOut = onSignedOut;
    const page = globalThis.location as Location | undefined;
    this.#name = `kanban-auth:${page ? new URL(base, page.href).href : base}`;
    this.#signedIn = this.#read()?.signedIn ?? false;
    if (!page) return; // a server renders: there are no tabs, and a channel would keep it running
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }: MessageEvent<SignedOutReason>) => this.#hearOfEnd(data);
  }

  /** The number of the round, after a refresh if one is due. */
  async current(): Promise<number> {
    const { round, refreshAt, signedIn } = this.#read() ?? NOBODY;
    this.#signedIn ||= signedIn;
    if (Date.now() >= refreshAt) await this.after(round).catch(() => false); // the request itself will tell
    return this.#read()?.round ?? 0;
  }

  /** Whether a request that was refused in that round is worth a repetition. Rejects while the service is away. */
  after(seen: number): Promise<boolean> {
    return this.#exclusively(async () => {
      const shared = this.#read();
      if (shared && (shared.round !== seen || !shared.signedIn)) return shared.signedIn;
      return this.#refresh(shared ?? NOBODY);
    });
  }

  begin(logIn: () => Promise<Pair>): Promise<void> {
    return this.#exclusively(async () => this.#opened(await logIn()));
  }

  end(logOut: () => Promise<void>): Promise<void> {
    return this.#exclusively(async () => {
      await logOut();
      this.#ended("logout");
    });
  }

  close(): void {
    this.#channel?.close();
  }

  async #refresh(shared: Shared): Promise<boolean> {
    const isRecent = shared.pending && Math.abs(Date.now() - shared.pending.since) < KEY_SECONDS * 1000;
    const pending = isRecent ? shared.pending! : { key: newKey(), since: Date.now() };
    this.#write({ ...shared, pending });
    const init: RequestInit = { method: "POST", credentials: "include", headers: { "Idempotency-Key": pending.key } };
    const answer = await persistently(
      () => fetch(`${this.#base}/api/v1/refresh`, init),
      async (response) => (response.ok ? answerOf<Pair>(response) : errorOf(response)),
    );
    if (!(answer instanceof AuthError)) return this.#opened(answer), true;
    if (answer.status !== 401) throw answer;
    const isReused = answer.code === "refresh_token_reused";
    if (isReused && (await this.#isSignedInByAnother())) return this.#opened(), true;
    this.#ended(isReused ? "ended" : "expired");
    return false;
  }

  /** A tab without locks may have refreshed at the same time, and its cookies come in a moment. */
  async #isSignedInByAnother(): Promise<boolean> {
    for (let tried = 1; tried <= 4; tried += 1) {
      const me = await fetch(`${this.#base}/api/v1/me`, { credentials: "include" });
      if (me.ok || (await errorOf(me)).code === "token_revoked") return me.ok;
      await sleep(500);
    }
    return false;
  }

  #opened(pair?: Pair): void {
    const round = (this.#read()?.round ?? 0) + 1;
    this.#signedIn = true;
    this.#write({ round, signedIn: true, refreshAt: pair ? Date.now() + pair.expires_in * 1000 * AHEAD : NEVER });
  }

  #ended(reason: SignedOutReason): void {
    this.#write({ ...NOBODY, round: (this.#read()?.round ?? 0) + 1 });
    this.#channel?.postMessage(reason);
    this.#hearOfEnd(reason);
  }

  #hearOfEnd(reason: SignedOutReason): void {
    if (!this.#signedIn) return;
    this.#signedIn = false;
    this.#onSignedOut?.(reason);
  }

  /** By a lock of all tabs; browsers have none at http:// outside of localhost, where this tab's own queue must do. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const { locks } = (globalThis.navigator ?? {}) as Partial<Navigator>;
    if (locks) return locks.request(this.#name, work) as Promise<T>;
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    return done;
  }

  #read(): Shared | undefined {
    try {
      const text = localStorage.getItem(this.#name);
      return text ? { ...NOBODY, ...(JSON.parse(text) as Shared) } : undefined;
    } catch {
      return this.#alone; // storage is off
    }
  }

  #write(shared: Shared): void {
    try {
      localStorage.setItem(this.#name, JSON.stringify(shared));
    } catch {
      this.#alone = shared;
    }
  }
}

/** `crypto.randomUUID` is missing at http:// outside of localhost. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
