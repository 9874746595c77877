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
  return new AuthError(response.status, body.code ?? "unknown", detail ?? response.statusText);
}
