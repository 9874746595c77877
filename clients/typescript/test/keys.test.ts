/** Where the keys come from, and what happens while they do not come. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { InvalidToken, Unavailable, type Verifier, createVerifier } from "@kanban-auth/client/verify";
import { FakeAuthService } from "@kanban-auth/client/verify/testing";
import { SignJWT, decodeJwt } from "jose";

import { FakeServer, JWKS, eventually } from "./fake-server.js";

const SECRET = "shared with every sibling, 32 bytes at least";
const A_DAY = 24 * 3600;
let server: FakeServer;
let opened: Verifier[];

beforeEach(async () => {
  server = await FakeServer.start();
  opened = [];
});

afterEach(async () => {
  for (const verifier of opened) verifier.close();
  await server.stop();
});

async function start(options: Parameters<FakeServer["verifier"]>[0] = {}): Promise<Verifier> {
  const verifier = server.verifier(options);
  opened.push(verifier);
  await verifier.start();
  return verifier;
}

async function withMadeUpKid(): Promise<string> {
  const stranger = await FakeAuthService.create();
  return stranger.issueTestToken();
}

test("a new key is fetched when its first token comes", async () => {
  const { verify } = await start();
  const old = await server.auth.issueTestToken({ userId: 1 });
  assert.equal((await verify(old)).userId, 1);

  await server.auth.rotateKey();

  assert.equal((await verify(await server.auth.issueTestToken({ userId: 2 }))).userId, 2);
  assert.equal((await verify(old)).userId, 1);
});

test("a flood of made-up kids makes one fetch in thirty seconds", async () => {
  const { verify } = await start();
  const flood = await Promise.all(Array.from({ length: 100 }, withMadeUpKid));
  await Promise.all(flood.map((token) => assert.rejects(verify(token), InvalidToken)));
  assert.equal(server.count(JWKS), 2); // the first is that of the start

  server.auth.clock.move(25);
  await assert.rejects(verify(await withMadeUpKid()), InvalidToken);
  assert.equal(server.count(JWKS), 2);

  server.auth.clock.move(6);
  await assert.rejects(verify(await withMadeUpKid()), InvalidToken);
  assert.equal(server.count(JWKS), 3);
});

test("a known key needs no fetch during a flood", async () => {
  const { verify } = await start();
  const token = await server.auth.issueTestToken();
  await assert.rejects(verify(await withMadeUpKid()), InvalidToken);
  await server.stop();
  await assert.rejects(verify(await withMadeUpKid()), InvalidToken);

  assert.equal((await verify(token)).userId, 1);
});

test("many tokens share the first fetch", async () => {
  const verifier = server.verifier();
  opened.push(verifier);
  const tokens = await Promise.all(Array.from({ length: 16 }, () => server.auth.issueTestToken()));

  await Promise.all(tokens.map(verifier.verify));

  assert.equal(server.count(JWKS), 1);
});

test("a service that is down at the start is waited for", async () => {
  const token = await server.auth.issueTestToken();
  await server.stop();
  const { verify } = await start();
  await assert.rejects(verify(token), Unavailable);

  await server.start();
  server.auth.clock.move(60);

  assert.equal((await verify(await server.auth.issueTestToken())).userId, 1);
});

test("known keys outlast a service that is down for a day", async () => {
  const { verify } = await start({ serviceToken: undefined });
  await server.stop();
  for (let tenth = 0; tenth < 10; tenth += 1) {
    server.auth.clock.move(A_DAY / 10);
    assert.equal((await verify(await server.auth.issueTestToken())).userId, 1);
  }

  server.auth.clock.move(700);

  await assert.rejects(verify(await server.auth.issueTestToken()), Unavailable);
});

test("old keys are fetched again beside the requests", async () => {
  const { verify } = await start();
  server.auth.clock.move(601);
  await verify(await server.auth.issueTestToken());

  await eventually(() => server.count(JWKS) === 2);
});

test("a revoked key is not used once more after a long pause", async () => {
  const { verify } = await start();
  const token = await server.auth.issueTestToken({ lifetime: 36_000 });
  await verify(token);
  server.auth.revokeKeys();
  server.auth.clock.move(3600);

  await assert.rejects(verify(token), InvalidToken);
});

test("what the service says of its keys' age is kept within an hour", async () => {
  server.headers.set("cache-control", "public, max-age=999999");
  const { verify } = await start();
  server.auth.clock.move(3601);
  await verify(await server.auth.issueTestToken());

  await eventually(() => server.count(JWKS) === 2);
});

for (const status of [204, 301, 404, 500]) {
  test(`an answer that is no JWKS replaces no key: ${status}`, async () => {
    const { verify } = await start();
    server.faults.set(JWKS, status);
    await assert.rejects(verify(await withMadeUpKid()), InvalidToken);

    assert.equal((await verify(await server.auth.issueTestToken())).userId, 1);
  });
}

test("the bridge takes both kinds of tokens and needs no JWKS for the old one", async () => {
  server.faults.set(JWKS, 404);
  const { verify } = await start({ sharedSecret: SECRET });
  const claims = decodeJwt(await server.auth.issueTestToken({ userId: 7 }));
  const header = { alg: "HS256", typ: "at+jwt" };
  const shared = await new SignJWT(claims).setProtectedHeader(header).sign(new TextEncoder().encode(SECRET));
  assert.equal((await verify(shared)).userId, 7);

  server.faults.clear();
  server.auth.clock.move(60);

  assert.equal((await verify(await server.auth.issueTestToken({ userId: 8 }))).userId, 8);
  assert.equal((await verify(shared)).userId, 7);
});

test("a short secret is refused at once", () => {
  assert.throws(() => createVerifier("http://auth.test", { sharedSecret: "short" }), /32 bytes/);
});

test("a user id that JavaScript cannot count with is refused", async () => {
  const { verify } = await start();
  const token = await server.auth.issueTestToken({ claims: { sub: "9007199254740993" } });

  await assert.rejects(verify(token), InvalidToken);
});

test("a verifier that was closed connects again when it is used", async () => {
  const verifier = await start();
  verifier.close();

  assert.equal((await verifier.verify(await server.auth.issueTestToken({ userId: 2 }))).userId, 2);
});
