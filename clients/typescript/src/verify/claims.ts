/** What an access token says, and whether it may say so (RFC 9068 §4, RFC 8725 §3). No I/O. */
import { decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";

import { InvalidToken, TokenExpired } from "./errors.js";
import type { VerificationKey } from "./keys.js";

/** How far the clocks of the service and of its siblings may differ. */
export const LEEWAY_SECONDS = 5;

const MAX_TOKEN_LENGTH = 8192;
const USER_ID = /^[1-9][0-9]{0,17}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Times are Unix seconds. `sessionId` is null if a sibling service issued the token without one. */
export interface AccessClaims {
  readonly userId: number;
  readonly role: string;
  readonly sessionId: string | null;
  readonly tokenId: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
}

export interface Header {
  readonly algorithm: string;
  readonly kid: string | undefined;
}

/** What is pinned besides the key. Without an audience, a token that has one is for somebody else. */
export interface Policy {
  readonly issuer: string;
  readonly audience: string | undefined;
}

/** Says which key to try, and is believed in nothing else. Throws InvalidToken. */
export function readHeader(token: string): Header {
  if (token.length > MAX_TOKEN_LENGTH) throw new InvalidToken("too long");
  const { alg, kid, crit, b64 } = decodeHeader(token);
  if (typeof alg !== "string" || (kid !== undefined && typeof kid !== "string")) throw new InvalidToken("not a JWT");
  // RFC 7515 §4.1.11: we support no extensions.
  if (crit !== undefined || b64 !== undefined) throw new InvalidToken("an extension");
  return { algorithm: alg, kid };
}

function decodeHeader(token: string): Record<string, unknown> {
  try {
    return decodeProtectedHeader(token);
  } catch {
    throw new InvalidToken("not a JWT");
  }
}

/** `now` is in Unix seconds. Throws InvalidToken, or TokenExpired if a valid token has expired. */
export async function readClaims(
  token: string,
  { algorithm, key }: VerificationKey,
  { issuer, audience }: Policy,
  now: number,
): Promise<AccessClaims> {
  if (!isCanonical(token)) throw new InvalidToken("not base64url");
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms: [algorithm],
      typ: "at+jwt", // and application/at+jwt, RFC 9068 §4
      issuer,
      ...(audience === undefined ? {} : { audience }),
      requiredClaims: ["exp", "iat", "sub", "jti"],
      clockTolerance: LEEWAY_SECONDS,
      currentDate: new Date(now * 1000),
    });
    return claimsOf(payload, audience);
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw new TokenExpired();
    if (error instanceof errors.JOSEError || error instanceof TypeError) throw new InvalidToken(error.message);
    throw error;
  }
}

function claimsOf(payload: JWTPayload, audience: string | undefined): AccessClaims {
  const { sub, jti, iat, exp, sid } = payload;
  const userId = typeof sub === "string" && USER_ID.test(sub) ? Number(sub) : Number.NaN;
  if (audience === undefined && payload.aud !== undefined) throw new InvalidToken("another audience");
  if (!Number.isSafeInteger(userId)) throw new InvalidToken("not a user id");
  if (typeof jti !== "string" || jti === "") throw new InvalidToken("not a token id");
  if (!Number.isInteger(iat) || !Number.isInteger(exp)) throw new InvalidToken("times are integers");
  return {
    userId,
    role: String(payload["role"] ?? ""),
    sessionId: sessionIdOf(sid),
    tokenId: jti,
    issuedAt: iat as number,
    expiresAt: exp as number,
  };
}

/** One that cannot be read could not be found among those that have ended either. */
function sessionIdOf(sid: unknown): string | null {
  if (sid === undefined || sid === null) return null;
  if (!isUuid(sid)) throw new InvalidToken("not a session id");
  return sid.toLowerCase();
}

export function isUuid(value: unknown): value is string {
  return typeof value === "string" && UUID.test(value);
}

/** RFC 4648 §3.5: a signature has one spelling. */
function isCanonical(token: string): boolean {
  const signature = token.slice(token.lastIndexOf(".") + 1);
  return Buffer.from(signature, "base64url").toString("base64url") === signature;
}
