import { strict as assert } from "node:assert";
import { client } from "../generated/hey-api/client.gen.js";
import { createToken, logOut, readCurrentUser, refreshToken, registerUser } from "../generated/hey-api/index.js";
import { email, expect, password } from "./expect.js";

let token = "";
client.setConfig({ baseUrl: process.env["AUTH_URL"]!, auth: () => token });

const user = expect(await registerUser({ body: { email, password } }), 201);
const pair = expect(await createToken({ body: { username: email, password } }), 200);
token = pair!.access_token;
assert.equal(expect(await readCurrentUser(), 200)!.id, user!.id);
const next = expect(
  await refreshToken({ body: { refresh_token: pair!.refresh_token }, headers: { "Idempotency-Key": "one" } }),
  200,
);
token = next!.access_token;
expect(await logOut(), 204);
expect(await readCurrentUser(), 401);
