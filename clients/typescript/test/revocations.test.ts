/** Who signed out is refused, whatever happens to the stream that tells of it. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { type Timing, TokenExpired, TokenRevoked, Unavailable, type Verifier } from "@kanban-auth/client/verify";

import { readEvents } from "../dist/verify/event-stream.js";
import { RevocationList } from "../dist/verify/revocation-list.js";
import { FakeServer, JWKS, PAGES, STREAM, eventually } from "./fake-server.js";

const PATIENT: Timing = { heartbeatTimeout: 60, poll: 60, firstRetry: 0.01, lastRetry: 0.05, lastStreamRetry: 60 };
const SLOW_STREAMS: Timing = { heartbeatTimeout: 0.3, poll: 0.05, firstRetry: 0.01, lastRetry: 1, lastStreamRetry: 60 };
const TOO_LONG = 31;
const NOBODY = { sessionId: null, userId: null, issuedBefore: null, role: null };
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

async function isRefused({ verify }: Verifier, token: string): Promise<boolean> {
  return verify(token).then(
    () => false,
    (error: unknown) => {
      if (error instanceof TokenRevoked) return true;
      throw error;
    },
  );
}

async function isToRefresh({ verify }: Verifier, token: string): Promise<boolean> {
  return verify(token).then(
    () => false,
    (error: unknown) => {
      if (error instanceof TokenExpired) return true;
      throw error;
    },
  );
}

async function isAccepted({ verify }: Verifier, token: string): Promise<boolean> {
  return verify(token).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Unavailable) return false;
      throw error;
    },
  );
}

async function newSession(): Promise<{ session: string; token: string }> {
  const session = crypto.randomUUID();
  return { session, token: await server.auth.issueTestToken({ sessionId: session }) };
}

const isStreaming = (): boolean => server.auth.hasReaders;

test("a session that ends is refused through the stream", async () => {
  const [{ session, token }, other] = [await newSession(), await newSession()];
  const verifier = await start({ timing: PATIENT });
  await eventually(isStreaming);
  assert.equal(await isRefused(verifier, token), false);

  await server.auth.endSession(session);

  await eventually(() => isRefused(verifier, token));
  assert.equal(await isRefused(verifier, other.token), false);
});

test("a session is found however its id is spelled", async () => {
  const { session, token } = await newSession();
  const verifier = await start();
  await server.auth.endSession(session.toUpperCase());

  await eventually(() => isRefused(verifier, token));
});

test("the first token waits for what is known already", async () => {
  const { session, token } = await newSession();
  await server.auth.endSession(session);
  const verifier = server.verifier();
  opened.push(verifier);

  assert.equal(await isRefused(verifier, token), true);
});

test("a user who is disabled is refused with older tokens alone", async () => {
  const older = await server.auth.issueTestToken({ userId: 7 });
  const ofAnother = await server.auth.issueTestToken({ userId: 8 });
  const verifier = await start();
  await server.auth.endSessionsOf(7);
  await eventually(() => isRefused(verifier, older));

  server.auth.clock.move(1);

  assert.equal(await isRefused(verifier, await server.auth.issueTestToken({ userId: 7 })), false);
  assert.equal(await isRefused(verifier, ofAnother), false);
});

test("a user whose role has changed is refused with tokens of another role alone", async () => {
  const user = await server.auth.issueTestToken({ userId: 7, role: "user" });
  const admin = await server.auth.issueTestToken({ userId: 7, role: "admin" });
  const verifier = await start();
  await server.auth.changeRole(7, "user");
  await eventually(() => isToRefresh(verifier, admin));
  assert.equal((await verifier.verify(user)).role, "user");

  await server.auth.changeRole(7, "admin");

  await eventually(() => isToRefresh(verifier, user));
  assert.equal((await verifier.verify(admin)).role, "admin");
});

test("a refresh is no help to a disabled user whose role changed too", async () => {
  const admin = await server.auth.issueTestToken({ userId: 7, role: "admin" });
  await server.auth.changeRole(7, "user");
  await server.auth.endSessionsOf(7);

  assert.equal(await isRefused(await start(), admin), true);
});

test("what was said while the stream was away is not lost", async () => {
  const { session, token } = await newSession();
  const verifier = await start();
  await eventually(isStreaming);
  await server.stop();
  await server.auth.endSession(session);
  await server.start();

  await eventually(() => isRefused(verifier, token));
});

test("a stream that has gone silent is replaced", async () => {
  const { session, token } = await newSession();
  const verifier = await start();
  await eventually(isStreaming);
  server.isMute = true;
  await server.auth.endSession(session);

  await eventually(() => isRefused(verifier, token));
});

for (const status of [404, 406, 500]) {
  test(`without a stream the pages are asked for: ${status}`, async () => {
    server.faults.set(STREAM, status);
    const { session, token } = await newSession();
    const verifier = await start();
    await server.auth.endSession(session);

    await eventually(() => isRefused(verifier, token));
  });
}

test("a proxy that keeps the stream to itself does not stop the pages", async () => {
  server.isMute = true;
  const verifier = await start({ timing: SLOW_STREAMS });
  for (let round = 0; round < 3; round += 1) {
    const { session, token } = await newSession();
    await server.auth.endSession(session);
    await eventually(() => isRefused(verifier, token));
  }

  await eventually(() => server.count(PAGES) > 2 * server.count(STREAM));
});

for (const status of [400, 410]) {
  test(`a cursor that the service refuses begins again: ${status}`, async () => {
    const [first, second] = [await newSession(), await newSession()];
    await server.auth.endSession(first.session);
    const verifier = await start();
    await eventually(isStreaming);
    await server.stop();
    server.refusedCursors.set("1", status);
    await server.auth.endSession(second.session);
    await server.start();

    await eventually(() => isRefused(verifier, second.token));
    assert.equal(await isRefused(verifier, first.token), true);
  });
}

test("many pages are read to the end", async () => {
  const sessions = await Promise.all(Array.from({ length: 7 }, newSession));
  for (const { session } of sessions) await server.auth.endSession(session);
  server.auth.pageSize = 2;

  const verifier = await start();

  for (const { token } of sessions) assert.equal(await isRefused(verifier, token), true);
});

test("an item that nobody understands does not hide the next", async () => {
  const { session, token } = await newSession();
  const verifier = await start();
  await server.auth.publish({ sid: "not a uuid" });
  await server.auth.publish({ sub: "all", issued_before: 0 });
  await server.auth.publish({ planet: "earth" });
  await server.auth.endSession(session);

  await eventually(() => isRefused(verifier, token));
});

for (const whenSilent of ["fail-closed", "closed", "", null]) {
  test(`what to do in silence is spelled right or refused: ${whenSilent}`, () => {
    assert.throws(() => server.verifier({ whenSilent: whenSilent as "fail_closed" }), /fail_open or fail_closed/);
  });
}

test("fail_open believes good tokens while nothing is heard", async () => {
  const { session, token } = await newSession();
  const verifier = await start();
  await server.auth.endSession(session);
  await eventually(() => isRefused(verifier, token));
  await server.stop();
  server.auth.clock.move(TOO_LONG);

  assert.equal(await isRefused(verifier, await server.auth.issueTestToken()), false);
  assert.equal(await isRefused(verifier, token), true);
});

test("fail_closed answers 503 while nothing is heard, and recovers", async () => {
  const verifier = await start({ whenSilent: "fail_closed" });
  const token = await server.auth.issueTestToken();
  await eventually(() => isAccepted(verifier, token));
  await server.stop();
  server.auth.clock.move(TOO_LONG);
  await assert.rejects(verifier.verify(token), { status: 503, reason: "the feed of revocations is silent" });

  await server.start();

  await eventually(() => isAccepted(verifier, token));
});

test("fail_closed believes nobody before it has read everything", async () => {
  server.faults.set(PAGES, 503);
  const verifier = await start({ whenSilent: "fail_closed" });
  const token = await server.auth.issueTestToken();
  await assert.rejects(verifier.verify(token), Unavailable);

  server.faults.clear();

  await eventually(() => isAccepted(verifier, token));
});

test("heartbeats alone keep fail_closed open", async () => {
  const verifier = await start({ whenSilent: "fail_closed", timing: PATIENT });
  await eventually(isStreaming);
  const asked = server.count(PAGES);
  server.auth.clock.move(TOO_LONG);
  const token = await server.auth.issueTestToken();

  await eventually(() => isAccepted(verifier, token));
  assert.equal(server.count(PAGES), asked);
});

test("a wrong service token is no reason to refuse users, and is told", async () => {
  const { verify } = await start({ serviceToken: "kas_wrong" });

  assert.equal((await verify(await server.auth.issueTestToken({ userId: 5 }))).userId, 5);
  assert.match(server.warnings.join("\n"), /could not be read.*status 401/);
});

test("without a service token nobody is asked", async () => {
  const { verify } = await start({ serviceToken: undefined });
  await verify(await server.auth.issueTestToken());

  assert.deepEqual([...server.asked.keys()], [JWKS]);
});

test("close ends the stream at once", async () => {
  const verifier = await start({ timing: PATIENT });
  await eventually(isStreaming);
  verifier.close();

  await eventually(() => !isStreaming());
});

function claims(changed: object): Parameters<RevocationList["refusalOf"]>[0] {
  return { userId: 1, role: "user", sessionId: null, tokenId: "jti", issuedAt: 100, expiresAt: 1000, ...changed };
}

test("what has expired is forgotten after the leeway", () => {
  const revocations = new RevocationList();
  revocations.add({ ...NOBODY, sessionId: "a", expiresAt: 1000 });

  revocations.forgetExpired(1005);
  assert.ok(revocations.refusalOf(claims({ sessionId: "a" })) instanceof TokenRevoked);
  revocations.forgetExpired(1006);
  assert.equal(revocations.size, 0);
});

test("the list is bounded, and who made room is to refresh", () => {
  const revocations = new RevocationList(100);
  for (let number = 0; number < 1000; number += 1) {
    revocations.add({ ...NOBODY, sessionId: `${number}`, expiresAt: 1000 + number });
    assert.ok(revocations.size <= 100);
  }

  for (let number = 0; number < 1000; number += 1) {
    const refusal = revocations.refusalOf(claims({ sessionId: `${number}`, expiresAt: 1000 + number }));
    assert.ok(refusal instanceof (number < 1000 - revocations.size ? TokenExpired : TokenRevoked));
  }
  assert.equal(revocations.refusalOf(claims({ sessionId: "another", expiresAt: 2000 })), undefined);
});

test("the latest word about a user counts, in whatever order it comes", () => {
  const revocations = new RevocationList();
  revocations.add({ ...NOBODY, userId: 1, issuedBefore: 200, expiresAt: 2000 });
  revocations.add({ ...NOBODY, userId: 1, issuedBefore: 100, expiresAt: 1000 });
  revocations.forgetExpired(1500);

  assert.ok(revocations.refusalOf(claims({ issuedAt: 200 })) instanceof TokenRevoked);
  assert.equal(revocations.refusalOf(claims({ issuedAt: 201 })), undefined);
});

async function* inPieces(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}

test("events are read in whatever pieces they come", async () => {
  const text = ": ping\n\nevent: revocation\r\nid: 7\r\ndata: {}\r\n\r\nretry: 100\n\n:\n";
  const heartbeat = { kind: "heartbeat", data: "", id: "" };
  const wanted = [heartbeat, { kind: "revocation", data: "{}", id: "7" }, { kind: "message", data: "", id: "" }, heartbeat];

  for (let size = 1; size <= text.length; size += 1) {
    const events = [];
    for await (const event of readEvents(inPieces(text, size))) events.push(event);
    assert.deepEqual(events, wanted);
  }
});

test("a line without an end is not kept", async () => {
  const events = readEvents(inPieces("x".repeat(100_000), 1024));

  await assert.rejects(events.next(), /without an end/);
});
