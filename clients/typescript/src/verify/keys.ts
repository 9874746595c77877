/** Keys that verify, read from a JWKS (RFC 7517 §5). No I/O. */
import { type CryptoKey, importJWK, type JWK } from "jose";

/** Each key has one algorithm, so that a header can choose none (RFC 8725 §3.1). */
export interface VerificationKey {
  readonly algorithm: "ES256" | "RS256" | "HS256";
  readonly key: CryptoKey;
}

const MAX_KEYS = 100;
const MIN_RSA_BITS = 2048; // RFC 7518 §3.3
const MIN_SECRET_BYTES = 32; // RFC 7518 §3.2

/** The service's JWT_SECRET. Throws RangeError if it is too short. */
export function readSecret(secret: string): Promise<VerificationKey> {
  const bytes = new TextEncoder().encode(secret);
  if (bytes.length < MIN_SECRET_BYTES) {
    throw new RangeError(`The shared secret must have ${MIN_SECRET_BYTES} bytes at least.`);
  }
  const imported = crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  return imported.then((key) => ({ algorithm: "HS256", key }));
}

/** By kid. Keys that are of no use to us are left out. Throws TypeError if it is not a JWKS. */
export async function readJwks(document: unknown): Promise<Map<string, VerificationKey>> {
  const jwks = isObject(document) ? document["keys"] : undefined;
  if (!Array.isArray(jwks)) throw new TypeError("not a JWKS");
  const keys = new Map<string, VerificationKey>();
  for (const jwk of jwks.slice(0, MAX_KEYS)) {
    const key = await readJwk(jwk);
    if (key !== undefined) keys.set((jwk as { kid: string }).kid, key);
  }
  return keys;
}

/** Public keys alone: a symmetric key in a public place is nobody's secret. */
async function readJwk(jwk: unknown): Promise<VerificationKey | undefined> {
  if (!isObject(jwk) || typeof jwk["kid"] !== "string" || (jwk["use"] ?? "sig") !== "sig") return undefined;
  const algorithm = algorithmOf(jwk);
  if (algorithm === undefined || (jwk["alg"] ?? algorithm) !== algorithm || "d" in jwk) return undefined;
  const key = await importJWK({ ...jwk, kid: "", key_ops: ["verify"], ext: true } as JWK, algorithm).catch(
    () => undefined,
  );
  if (key === undefined || key instanceof Uint8Array || isShort(key)) return undefined;
  return { algorithm, key };
}

function algorithmOf(jwk: Record<string, unknown>): "ES256" | "RS256" | undefined {
  if (jwk["kty"] === "EC" && jwk["crv"] === "P-256") return "ES256";
  return jwk["kty"] === "RSA" ? "RS256" : undefined;
}

function isShort(key: CryptoKey): boolean {
  const { modulusLength } = key.algorithm as { modulusLength?: number };
  return modulusLength !== undefined && modulusLength < MIN_RSA_BITS;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
