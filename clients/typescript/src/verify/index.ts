/**
 * Verifies access tokens of the Kanban Auth Service.
 *
 *     const { verify } = createVerifier("https://auth.example.com", { serviceToken: "kas_..." });
 *     const claims = await verify(token);
 *
 * `@kanban-auth/client/verify/express` has a middleware, and `@kanban-auth/client/verify/testing` a service
 * that exists only in memory, for tests.
 */
export { type AccessClaims, LEEWAY_SECONDS } from "./claims.js";
export type { Clock } from "./clock.js";
export {
  AuthError,
  Forbidden,
  InvalidToken,
  NotAuthenticated,
  TokenExpired,
  TokenRefused,
  TokenRevoked,
  Unavailable,
} from "./errors.js";
export type { Timing } from "./feed.js";
export { createVerifier, MAX_SILENCE_SECONDS, type Verifier, type VerifierOptions } from "./verifier.js";
