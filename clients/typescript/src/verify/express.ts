/** Middleware for Express, and for all that calls `(request, response, next)`. */
import type { IncomingMessage, ServerResponse } from "node:http";

import type { AccessClaims } from "./claims.js";
import { AuthError, Forbidden, NotAuthenticated } from "./errors.js";
import type { Verifier } from "./verifier.js";

declare global {
  namespace Express {
    interface Request {
      auth?: AccessClaims;
    }
  }
}

type Authenticated = IncomingMessage & { auth?: AccessClaims };
export type Middleware = (request: Authenticated, response: ServerResponse, next: (error?: unknown) => void) => void;

/**
 * Puts the claims of the Bearer token (RFC 6750 §2.1) into `request.auth`, or answers in the service's shape.
 * `role` is the one that it must have.
 */
export function signedIn(verifier: Pick<Verifier, "verify">, options: { role?: string } = {}): Middleware {
  return (request, response, next) => {
    authenticate(verifier, request, options.role).then(
      (claims) => {
        request.auth = claims;
        next();
      },
      (error: unknown) => {
        if (error instanceof AuthError) respond(response, error);
        else next(error);
      },
    );
  };
}

async function authenticate(
  verifier: Pick<Verifier, "verify">,
  request: IncomingMessage,
  role: string | undefined,
): Promise<AccessClaims> {
  const [, token] = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? "") ?? [];
  if (token === undefined) throw new NotAuthenticated();
  const claims = await verifier.verify(token);
  if (role !== undefined && claims.role !== role) throw new Forbidden(`not ${role}`);
  return claims;
}

function respond(response: ServerResponse, error: AuthError): void {
  response.writeHead(error.status, { "Content-Type": "application/json", ...error.headers });
  response.end(JSON.stringify(error.body));
}
