import { strict as assert } from "node:assert";

export const email = `walker-${process.pid}-${Date.now()}@example.com`;
export const password = "correct horse battery";

/** What came, if it came with this status. */
export function expect<T>(answer: { data?: T | undefined; response?: Response | undefined }, status: number): T {
  assert.equal(answer.response?.status, status, JSON.stringify(answer));
  return answer.data as T;
}
