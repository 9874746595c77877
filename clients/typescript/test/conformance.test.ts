/** What every verifier says to the same tokens: those of clients/conformance. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { AuthError, createVerifier, type VerifierOptions } from "@kanban-auth/client/verify";

interface Case {
  name: string;
  token: string;
  code?: string;
  claims?: Record<string, unknown>;
}

const document = JSON.parse(
  readFileSync(new URL("../../conformance/cases.json", import.meta.url), "utf8"),
);
const base: VerifierOptions = {
  issuer: document.issuer,
  fetch: async () => Response.json(document.jwks),
  clock: { now: () => document.now, monotonic: () => performance.now() / 1000 },
};
const everything = { ...base, audience: document.audience, sharedSecret: document.shared_secret };

function expected({ code, claims }: Case): unknown {
  if (claims === undefined) return code;
  return {
    userId: claims["user_id"],
    role: claims["role"],
    sessionId: claims["session_id"],
    tokenId: claims["token_id"],
    issuedAt: claims["issued_at"],
    expiresAt: claims["expires_at"],
  };
}

function judge(options: VerifierOptions, cases: Case[]): void {
  const { verify } = createVerifier("http://auth.test", options);
  for (const each of cases) {
    test(`judged as written down: ${each.name}`, async () => {
      const answer = await verify(each.token).catch((error: unknown) => {
        assert.ok(error instanceof AuthError, String(error));
        return error.code;
      });

      assert.deepEqual(answer, expected(each));
    });
  }
}

judge(everything, document.cases);
judge(base, document.cases_without_audience_and_secret);
