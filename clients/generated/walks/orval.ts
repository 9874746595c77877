import { strict as assert } from "node:assert";
import { createToken, logOut, readCurrentUser, refreshToken, registerUser } from "../generated/orval.js";
import { email, password } from "./expect.js";

const as = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

const user = await registerUser({ email, password });
assert(user.status === 201);
const pair = await createToken({ username: email, password });
assert(pair.status === 200);
const me = await readCurrentUser(as(pair.data.access_token));
assert(me.status === 200);
assert.equal(me.data.id, user.data.id);
const next = await refreshToken({ refresh_token: pair.data.refresh_token });
assert(next.status === 200, JSON.stringify(next));
const out = await logOut(undefined, undefined, as(next.data.access_token));
assert(out.status === 204);
const refused = await readCurrentUser(as(next.data.access_token));
assert(refused.status === 401);
assert(refused.data.code === "token_revoked");
