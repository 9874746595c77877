/** What it costs to verify one ES256 token: `npm run benchmark`. The best of many rounds, one after the other. */
import { FakeAuthService } from "@kanban-auth/client/verify/testing";

const ROUNDS = 30;
const CALLS = 500;
const LIMIT = 200;

const auth = await FakeAuthService.create({ audience: "kanban" });
const verifier = auth.verifier();
const token = await auth.issueTestToken({ userId: 42 });
await verifier.start();
let best = Infinity;
for (let round = 0; round < ROUNDS; round += 1) {
  const began = performance.now();
  for (let call = 0; call < CALLS; call += 1) await verifier.verify(token);
  best = Math.min(best, ((performance.now() - began) / CALLS) * 1000);
}
console.log(`verify ${best.toFixed(0)} µs (limit ${LIMIT})`);
verifier.close();
