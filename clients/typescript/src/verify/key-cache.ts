/** The service's keys, kept in memory and fetched again when they grow old or a `kid` is not among them. */
import type { Clock } from "./clock.js";
import { Unavailable } from "./errors.js";
import { readJwks, type VerificationKey } from "./keys.js";

/** Between two fetches that unknown kids cause: anybody can make up a kid. */
export const COOL_DOWN_SECONDS = 30;

/** How long keys are used that the service has not confirmed, while it does not answer. */
export const MAX_STALE_SECONDS = 24 * 3600;

const DEFAULT_MAX_AGE = 600;
const MAX_AGE_LIMIT = 3600;
const FIRST_RETRY_SECONDS = 1;
const LAST_RETRY_SECONDS = 30;
const MAX_JWKS_BYTES = 256 * 1024;
const TIMEOUT_MILLISECONDS = 3000;

/** One fetch runs at a time; who needs it waits for its promise, which is never rejected. */
export class KeyCache {
  #keys: Map<string, VerificationKey> | undefined;
  #etag = "";
  #maxAge = DEFAULT_MAX_AGE;
  #fetchedAt = -Infinity;
  #attemptedAt = -Infinity;
  #askedForUnknownAt = -Infinity;
  #failures = 0;
  #fetching: Promise<void> | undefined;

  constructor(
    private readonly url: string,
    private readonly fetch: typeof globalThis.fetch,
    private readonly clock: Clock,
    private readonly warn: (message: string) => void,
  ) {}

  /** Throws Unavailable if there are no keys, or none that may still be believed. */
  find(kid: string): VerificationKey | undefined {
    if (this.#keys === undefined || this.#age() > this.#maxAge + MAX_STALE_SECONDS) {
      throw new Unavailable("the keys could not be fetched");
    }
    return this.#keys.get(kid);
  }

  /**
   * Fetch what has to be fetched; give what to wait for before `find` is asked, if anything.
   * Without a `kid`, so that there are keys at all.
   */
  prepare(kid?: string): Promise<void> | undefined {
    if (this.#keys === undefined) return this.#begin(() => this.#isRetryDue());
    if (this.#age() > this.#maxAge) {
      const fetching = this.#begin(() => this.#isRetryDue());
      // Some keys are old because nobody has asked for long; those are not used once more.
      if (this.#age() > 2 * this.#maxAge && this.#failures === 0) return fetching;
    }
    if (kid === undefined || this.#keys.has(kid)) return undefined;
    return this.#begin(() => this.#mayAskForUnknown());
  }

  #age(): number {
    return this.clock.monotonic() - this.#fetchedAt;
  }

  #isRetryDue(): boolean {
    if (this.#failures === 0) return true;
    const wait = Math.min(FIRST_RETRY_SECONDS * 2 ** (this.#failures - 1), LAST_RETRY_SECONDS);
    return this.clock.monotonic() - this.#attemptedAt >= wait;
  }

  #mayAskForUnknown(): boolean {
    const now = this.clock.monotonic();
    if (now - this.#askedForUnknownAt < COOL_DOWN_SECONDS) return false;
    this.#askedForUnknownAt = now;
    return true;
  }

  #begin(mayBegin: () => boolean): Promise<void> | undefined {
    if (this.#fetching === undefined && mayBegin()) {
      this.#fetching = this.#run().finally(() => {
        this.#fetching = undefined;
      });
    }
    return this.#fetching;
  }

  async #run(): Promise<void> {
    this.#attemptedAt = this.clock.monotonic();
    try {
      await this.#load();
      this.#failures = 0;
    } catch (error) {
      this.#failures = Math.min(this.#failures + 1, 10);
      this.warn(`The keys of the auth service could not be fetched: ${error}`);
    }
  }

  async #load(): Promise<void> {
    const response = await this.fetch(this.url, {
      headers: this.#etag ? { "If-None-Match": this.#etag } : {},
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
    });
    if (response.status === 200) {
      this.#keys = await readJwks(JSON.parse(await readLimited(response)));
      this.#etag = response.headers.get("etag") ?? "";
    } else {
      await response.body?.cancel();
      if (response.status !== 304) throw new Error(`status ${response.status}`);
    }
    this.#maxAge = maxAgeOf(response);
    this.#fetchedAt = this.#attemptedAt;
  }
}

async function readLimited(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > MAX_JWKS_BYTES) throw new RangeError("the JWKS is too large");
  }
  return text;
}

/** An hour at most: a revoked key has to go. */
function maxAgeOf(response: Response): number {
  const found = /max-age=(\d{1,9})/.exec(response.headers.get("cache-control") ?? "");
  return found ? Math.min(Number(found[1]), MAX_AGE_LIMIT) : DEFAULT_MAX_AGE;
}
