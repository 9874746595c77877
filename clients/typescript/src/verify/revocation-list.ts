/** What must not be believed although it has not expired. In memory, and bounded. */
import { type AccessClaims, isUuid, LEEWAY_SECONDS } from "./claims.js";
import { TokenExpired, type TokenRefused, TokenRevoked } from "./errors.js";
import { isObject } from "./keys.js";

/** About 20 MB. The service needs a hundred sign-outs a second to reach it. */
export const MAX_ENTRIES = 100_000;

/**
 * All tokens of a session; or of a user those issued until `issuedBefore`, or those of another `role`.
 * Times are Unix seconds.
 */
export interface Revocation {
  readonly sessionId: string | null;
  readonly userId: number | null;
  readonly issuedBefore: number | null;
  readonly role: string | null;
  readonly expiresAt: number;
}

/** An item of the feed. Throws TypeError. */
export function readRevocation(item: unknown): Revocation {
  if (!isObject(item)) throw new TypeError("not an object");
  const { sid, sub, role = null, issued_before: issuedBefore, expires_at: expiresAt } = item;
  const userId = sub === null ? null : Number(sub);
  if (sid !== null && !isUuid(sid)) throw new TypeError("not a session id");
  if (userId !== null && !(Number.isSafeInteger(userId) && userId > 0)) throw new TypeError("not a user id");
  if (issuedBefore !== null && !Number.isInteger(issuedBefore)) throw new TypeError("not a time");
  if (role !== null && typeof role !== "string") throw new TypeError("not a role");
  if (!Number.isInteger(expiresAt)) throw new TypeError("not a time");
  if (sid === null && (userId === null || (issuedBefore === null && role === null))) throw new TypeError("of nobody");
  return {
    sessionId: sid === null ? null : sid.toLowerCase(),
    userId,
    issuedBefore: issuedBefore as number | null,
    role,
    expiresAt: expiresAt as number,
  };
}

interface Entry {
  readonly expiresAt: number;
  readonly issuedBefore: number;
  readonly role: string | null;
}

/**
 * Beyond `maxEntries`, those that expire first make room. What they stood for does not come back: the
 * tokens that they could mean expire by then too, so from now on all tokens that expire by then are
 * refused. Their users refresh, and go on.
 */
export class RevocationList {
  readonly #entries = new Map<string | number, Entry>();
  #refusedUntil = 0;

  constructor(private readonly maxEntries = MAX_ENTRIES) {}

  get size(): number {
    return this.#entries.size;
  }

  /** TokenRevoked if the session has ended, TokenExpired if a refresh gives a token that is believed. */
  refusalOf({ userId, role, sessionId, issuedAt, expiresAt }: AccessClaims): TokenRefused | undefined {
    if (sessionId !== null && this.#entries.has(sessionId)) return new TokenRevoked();
    const ofUser = this.#entries.get(userId);
    if (ofUser !== undefined && issuedAt <= ofUser.issuedBefore) return new TokenRevoked();
    if (ofUser !== undefined && ofUser.role !== null && ofUser.role !== role) {
      return new TokenExpired("its role has changed");
    }
    if (expiresAt <= this.#refusedUntil) return new TokenExpired("too many revocations to know them all");
    return undefined;
  }

  add({ sessionId, userId, expiresAt, issuedBefore, role }: Revocation): void {
    if (sessionId !== null) this.#put(sessionId, { expiresAt, issuedBefore: 0, role: null });
    if (userId !== null) this.#put(userId, { expiresAt, issuedBefore: issuedBefore ?? 0, role });
    if (this.#entries.size > this.maxEntries) this.#makeRoom();
  }

  /** A token is taken for LEEWAY_SECONDS after its `exp`, and what refuses it stays as long. */
  forgetExpired(now: number): void {
    for (const [key, { expiresAt }] of this.#entries) {
      if (expiresAt + LEEWAY_SECONDS < now) this.#entries.delete(key);
    }
  }

  /** Of two roles the later word counts, as the feed has an order. */
  #put(key: string | number, entry: Entry): void {
    const known = this.#entries.get(key) ?? entry;
    this.#entries.set(key, {
      expiresAt: Math.max(known.expiresAt, entry.expiresAt),
      issuedBefore: Math.max(known.issuedBefore, entry.issuedBefore),
      role: entry.role ?? known.role,
    });
  }

  /** A quarter at once, as the search for the oldest takes a while. */
  #makeRoom(): void {
    const byExpiry = [...this.#entries].sort(([, one], [, other]) => one.expiresAt - other.expiresAt);
    for (const [key, { expiresAt }] of byExpiry.slice(0, Math.floor(this.maxEntries / 4) + 1)) {
      this.#refusedUntil = Math.max(this.#refusedUntil, expiresAt);
      this.#entries.delete(key);
    }
  }
}
