/** For frontends: signs in with HttpOnly cookies and stays signed in, in all tabs alike. No token reaches a script. */
import { Rounds } from "./rounds.js";
import { SignedOutError, answerOf, errorOf } from "./errors.js";
import type { SignedOutReason } from "./errors.js";
import { persistently } from "./persistence.js";

export { AuthError, SignedOutError } from "./errors.js";
export type { SignedOutReason } from "./errors.js";

export interface User {
  id: number;
  email: string;
  role: "user" | "admin" | "guest";
  is_active: boolean;
  created_at: string;
}

export interface AuthClientOptions {
  /** Where the service is, such as `/api/auth` or `https://auth.example.com`; the page's own origin without. */
  baseUrl?: string;
  /** Once in each tab that was signed in, when the session ends, here or elsewhere. */
  onSignedOut?: (reason: SignedOutReason) => void;
}

export interface AuthClient {
  /** Opens an account and signs in. Rejects with AuthError. */
  register(email: string, password: string): Promise<User>;
  /** Rejects with AuthError. */
  login(email: string, password: string): Promise<User>;
  /** Who is signed in. Rejects with SignedOutError if nobody is. */
  me(): Promise<User>;
  /** Ends all sessions of the user, or only this one. Rejects where the service could not be told. */
  logout(options?: { scope?: "all" | "session" }): Promise<void>;
  /** `fetch` that refreshes ahead of the expiry and on 401, and then repeats the request once. */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;
  /** Hears of other tabs no more. */
  close(): void;
}

export function createAuthClient({ baseUrl = "", onSignedOut }: AuthClientOptions = {}): AuthClient {
  const base = baseUrl.replace(/\/$/, "");
  const rounds = new Rounds(base, onSignedOut);
  const ask = (path: string, init?: RequestInit) => fetch(`${base}/api/v1${path}`, { credentials: "include", ...init });

  async function repeating(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request = new Request(input, { credentials: "include", ...init });
    const seen = await rounds.current();
    const response = await fetch(request.clone());
    if (response.status !== 401 || !(await rounds.after(seen))) return response;
    return fetch(request);
  }

  async function me(): Promise<User> {
    const response = await repeating(`${base}/api/v1/me`);
    if (response.status === 401) throw new SignedOutError();
    return answerOf<User>(response);
  }

  async function login(username: string, password: string): Promise<User> {
    const body = new URLSearchParams({ username, password });
    await rounds.begin(async () => answerOf(await ask("/token", { method: "POST", body })));
    return me();
  }

  return {
    me,
    login,
    fetch: repeating,
    async register(email, password) {
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify({ email, password });
      await answerOf(await ask("/users/", { method: "POST", headers, body }));
      return login(email, password);
    },
    async logout({ scope = "all" } = {}) {
      await rounds.end(async () => {
        const out = () => ask(`/logout?scope=${scope}`, { method: "POST" });
        const read = async (response: Response) => (response.status === 204 ? undefined : errorOf(response));
        const failure = await persistently(out, read);
        if (failure && failure.status !== 401) throw failure;
      });
    },
    close: () => rounds.close(),
  };
}
