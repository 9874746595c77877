import { strict as assert } from "node:assert";
import createClient from "openapi-fetch";
import type { paths } from "../generated/openapi-typescript.js";
import { email, expect, password } from "./expect.js";

const client = createClient<paths>({ baseUrl: process.env["AUTH_URL"]! });
const as = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

const user = expect(await client.POST("/api/v1/users/", { body: { email, password } }), 201);
const pair = expect(
  await client.POST("/api/v1/token", {
    body: { username: email, password },
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
  }),
  200,
);
assert.equal(expect(await client.GET("/api/v1/me", as(pair.access_token)), 200).id, user.id);
const body = { refresh_token: pair.refresh_token };
const next = expect(
  await client.POST("/api/v1/refresh", { body, params: { header: { "Idempotency-Key": "one" } } }),
  200,
);
expect(await client.POST("/api/v1/logout", as(next.access_token)), 204);
const refused = await client.GET("/api/v1/me", as(next.access_token));
const code: "not_authenticated" | "invalid_token" | "token_expired" | "token_revoked" | undefined =
  refused.response.status === 401 && refused.error && "code" in refused.error
    ? (refused.error.code as "token_revoked")
    : undefined;
assert.equal(code, "token_revoked");
