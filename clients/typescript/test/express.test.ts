/** The middleware, and answers that look like the service's. */
import assert from "node:assert/strict";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";

import type { Verifier } from "@kanban-auth/client/verify";
import { signedIn } from "@kanban-auth/client/verify/express";
import { FakeAuthService } from "@kanban-auth/client/verify/testing";
import express from "express";

const INVALID = 'Bearer error="invalid_token"';
let auth: FakeAuthService;
let verifier: Verifier;
let server: Server;

before(async () => {
  auth = await FakeAuthService.create();
  verifier = auth.verifier();
  const app = express();
  app.get("/boards", signedIn(verifier), (request, response) => void response.json(request.auth?.userId));
  app.get("/users", signedIn(verifier, { role: "admin" }), (_, response) => void response.json("all"));
  server = await listen(app);
});

after(() => {
  verifier.close();
  server.close();
  server.closeAllConnections();
});

function listen(app: express.Express): Promise<Server> {
  return new Promise((resolve) => {
    const listening: Server = app.listen(0, "127.0.0.1", () => resolve(listening));
  });
}

function get(path: string, authorization?: string): Promise<Response> {
  const { port } = server.address() as AddressInfo;
  return fetch(`http://127.0.0.1:${port}${path}`, { headers: authorization === undefined ? {} : { authorization } });
}

async function answer(path: string, authorization?: string): Promise<unknown[]> {
  const response = await get(path, authorization);
  const body = (await response.json()) as { detail: string; code: string };
  assert.deepEqual(Object.keys(body), ["detail", "code"]);
  return [response.status, body.code, response.headers.get("www-authenticate")];
}

test("the claims reach the handler", async () => {
  const token = await auth.issueTestToken({ userId: 42 });

  assert.equal(await (await get("/boards", `Bearer ${token}`)).json(), 42);
  assert.equal(await (await get("/boards", `bearer ${token}`)).json(), 42);
});

test("each refusal has the service's shape", async () => {
  const sessionId = crypto.randomUUID();
  const revoked = await auth.issueTestToken({ sessionId });
  await auth.endSession(sessionId);

  assert.deepEqual(await answer("/boards"), [401, "not_authenticated", "Bearer"]);
  assert.deepEqual(await answer("/boards", "Basic x"), [401, "not_authenticated", "Bearer"]);
  assert.deepEqual(await answer("/boards", "Bearer"), [401, "not_authenticated", "Bearer"]);
  assert.deepEqual(await answer("/boards", "Bearer x"), [401, "invalid_token", INVALID]);
  const expired = await auth.issueTestToken({ lifetime: -60 });
  assert.deepEqual(await answer("/boards", `Bearer ${expired}`), [401, "token_expired", INVALID]);
  assert.deepEqual(await answer("/boards", `Bearer ${revoked}`), [401, "token_revoked", INVALID]);
});

test("a role is asked for", async () => {
  const [admin, user] = [await auth.issueTestToken({ role: "admin" }), await auth.issueTestToken()];

  assert.equal(await (await get("/users", `Bearer ${admin}`)).json(), "all");
  assert.deepEqual(await answer("/users", `Bearer ${user}`), [403, "forbidden", null]);
  assert.deepEqual(await answer("/users"), [401, "not_authenticated", "Bearer"]);
});

test("a service that is down is no fault of the user", async () => {
  const down = await FakeAuthService.create();
  down.isDown = true;
  const app = express();
  const unconnected = down.verifier({ warn: () => {} });
  app.get("/boards", signedIn(unconnected), () => assert.fail("let in"));
  const other = await listen(app);
  const { port } = other.address() as AddressInfo;

  const headers = { authorization: `Bearer ${await down.issueTestToken()}` };
  const response = await fetch(`http://127.0.0.1:${port}/boards`, { headers });

  assert.equal(response.status, 503);
  assert.equal(response.headers.get("retry-after"), "1");
  assert.equal(((await response.json()) as { code: string }).code, "unavailable");
  unconnected.close();
  other.close();
  other.closeAllConnections();
});
