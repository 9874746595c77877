/** The browser client where there is no browser. In one it is tested by the service's own tests. */
import assert from "node:assert/strict";
import { type RequestListener, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { AuthError, createAuthClient } from "@kanban-auth/client/browser";

async function answering(listener: RequestListener, use: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("a client is made where pages are rendered, and keeps no process running", () => {
  for (const baseUrl of [undefined, "/api/auth", "https://auth.example.com"]) {
    const client = createAuthClient(baseUrl === undefined ? {} : { baseUrl });
    client.close();
    createAuthClient(baseUrl === undefined ? {} : { baseUrl });
  }
});

test("a page at the place of the service is an AuthError, whatever was asked", async () => {
  const page: RequestListener = (_, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html>");
  await answering(page, async (baseUrl) => {
    const client = createAuthClient({ baseUrl });
    const asked = [client.me(), client.login("a@b.example", "x"), client.register("a@b.example", "x"), client.logout()];

    for (const outcome of await Promise.allSettled(asked)) {
      assert(outcome.status === "rejected" && outcome.reason instanceof AuthError);
      assert.deepEqual([outcome.reason.status, outcome.reason.code], [200, "unknown"]);
      assert(outcome.reason.message.includes(baseUrl));
    }
  });
});

test("a page in the place of a refresh is an AuthError, too", async () => {
  const pages: RequestListener = ({ url }, response) => {
    if (url === "/api/v1/me") response.statusCode = 401;
    response.end("<!doctype html>");
  };
  await answering(pages, async (baseUrl) => {
    await assert.rejects(createAuthClient({ baseUrl }).me(), (error) => error instanceof AuthError && error.status === 200);
  });
});
