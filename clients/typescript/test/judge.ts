/** Answers each token on standard input with its user id or its error's code, for tests in other languages. */
import { createInterface } from "node:readline";

import { AuthError, createVerifier } from "@kanban-auth/client/verify";

const { AUTH_URL = "", AUTH_SERVICE_TOKEN, JWT_SECRET } = process.env;
const verifier = createVerifier(AUTH_URL, { serviceToken: AUTH_SERVICE_TOKEN, sharedSecret: JWT_SECRET });
await verifier.start();

for await (const token of createInterface({ input: process.stdin })) {
  const answer = await verifier.verify(token).then(
    ({ userId }) => String(userId),
    (error: unknown) => (error instanceof AuthError ? error.code : String(error)),
  );
  console.log(answer);
}
verifier.close();
