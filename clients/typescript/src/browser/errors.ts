/** `logout`: somebody pressed it, in any tab. `expired`: nobody has refreshed for too long. `ended`: from elsewhere. */
export type SignedOutReason = "logout" | "expired" | "ended";

/** An answer of the service; `code` is for programs and `message` for people. */
export class AuthError extends Error {
  override readonly name: string = "AuthError";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export class SignedOutError extends AuthError {
  override readonly name = "SignedOutError";

  constructor() {
    super(401, "not_authenticated", "Nobody is signed in");
  }
}

export async function errorOf(response: Response): Promise<AuthError> {
  const body = (await response.json().catch(() => ({}))) as { code?: string; detail?: string | { msg: string }[] };
  const detail = typeof body.detail === "string" ? body.detail : body.detail?.map(({ msg }) => msg).join("; ");
  const fallback = response.ok ? `No answer of the service: ${response.url}` : response.statusText;
  return new AuthError(response.status, body.code ?? "unknown", detail ?? fallback);
}

/** Rejects with AuthError, also where something else has answered, such as a frontend with its page for every path. */
export async function answerOf<T>(response: Response): Promise<T> {
  if (!response.ok) throw await errorOf(response);
  return response.json().catch(async (failure: unknown) => {
    throw failure instanceof SyntaxError ? await errorOf(response) : failure;
  }) as Promise<T>;
}
