/**
 * What a verifier can answer instead of claims, with the codes and messages of the service.
 *
 *     AuthError
 *     ├── NotAuthenticated      401 not_authenticated
 *     ├── TokenRefused          401
 *     │   ├── InvalidToken          invalid_token
 *     │   ├── TokenExpired          token_expired
 *     │   └── TokenRevoked          token_revoked
 *     ├── Forbidden             403 forbidden
 *     └── Unavailable           503 unavailable
 */
export abstract class AuthError extends Error {
  abstract readonly status: number;
  abstract readonly code: string;
  /** For people, and for anybody. */
  readonly detail: string;
  /** For the log. */
  readonly reason: string;

  constructor(detail: string, reason: string) {
    super(reason ? `${detail}: ${reason}` : detail);
    this.name = new.target.name;
    this.detail = detail;
    this.reason = reason;
  }

  /** Of the HTTP response (RFC 6750 §3). */
  get headers(): Record<string, string> {
    return {};
  }

  /** Of the HTTP response, as the service's own. */
  get body(): { detail: string; code: string } {
    return { detail: this.detail, code: this.code };
  }
}

/** No token was sent. */
export class NotAuthenticated extends AuthError {
  readonly status = 401;
  readonly code = "not_authenticated";

  constructor(reason = "") {
    super("Not authenticated", reason);
  }

  override get headers(): Record<string, string> {
    return { "WWW-Authenticate": "Bearer" };
  }
}

/** A token was sent, but it is not valid. */
export abstract class TokenRefused extends AuthError {
  readonly status = 401;

  override get headers(): Record<string, string> {
    return { "WWW-Authenticate": 'Bearer error="invalid_token"' };
  }
}

export class InvalidToken extends TokenRefused {
  readonly code = "invalid_token";

  constructor(reason = "") {
    super("Invalid access token", reason);
  }
}

/** It has run out, or its role has changed: a refresh gives another one. */
export class TokenExpired extends TokenRefused {
  readonly code = "token_expired";

  constructor(reason = "") {
    super("Access token expired", reason);
  }
}

/** A refresh would be refused too: the session has ended, or the user is disabled or deleted. */
export class TokenRevoked extends TokenRefused {
  readonly code = "token_revoked";

  constructor(reason = "") {
    super("The session of this access token has ended", reason);
  }
}

/** The role does not allow it. */
export class Forbidden extends AuthError {
  readonly status = 403;
  readonly code = "forbidden";

  constructor(reason = "") {
    super("Not allowed", reason);
  }
}

/** The token may be good, but nobody can say so now: no key was ever fetched, or the feed is silent. */
export class Unavailable extends AuthError {
  readonly status = 503;
  readonly code = "unavailable";

  constructor(reason = "") {
    super("Temporarily unavailable, try again shortly", reason);
  }

  override get headers(): Record<string, string> {
    return { "Retry-After": "1" };
  }
}
