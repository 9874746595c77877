/** `createVerifier`: verifies tokens with what is in memory, and connects to the service for the rest. */
import { type AccessClaims, readClaims, readHeader } from "./claims.js";
import { type Clock, SYSTEM_CLOCK } from "./clock.js";
import { InvalidToken, Unavailable } from "./errors.js";
import { RevocationFeed, type Timing, TIMING } from "./feed.js";
import { KeyCache } from "./key-cache.js";
import { readSecret, type VerificationKey } from "./keys.js";

export const MAX_SILENCE_SECONDS = 30;
/** The longest that a token waits for the service; hardly one does. */
export const WAIT_SECONDS = 5;

const WHEN_SILENT = ["fail_open", "fail_closed"] as const;

export interface VerifierOptions {
  /** The service's JWT_ISSUER. */
  readonly issuer?: string;
  /** The service's JWT_AUDIENCE. Without one, a token that has one is refused. */
  readonly audience?: string | undefined;
  /** The service's JWT_SECRET, while it signs with that or has lately: HS256 is accepted beside the JWKS. */
  readonly sharedSecret?: string | undefined;
  /** `kas_...`, scope `revocations`: with it sign-outs are felt within two seconds. */
  readonly serviceToken?: string | undefined;
  /** What to do with good tokens when nothing was heard of the service for `maxSilence` seconds. */
  readonly whenSilent?: (typeof WHEN_SILENT)[number];
  readonly maxSilence?: number;
  /** One of your own, for a proxy or a CA. */
  readonly fetch?: typeof globalThis.fetch;
  /** Told what goes wrong in the background. */
  readonly warn?: (message: string) => void;
  readonly clock?: Clock;
  readonly timing?: Timing;
}

export interface Verifier {
  /** A plain function. Rejects with InvalidToken, TokenExpired, TokenRevoked or Unavailable. */
  readonly verify: (token: string) => Promise<AccessClaims>;
  /** Connect now, and not with the first token. */
  readonly start: () => Promise<void>;
  /** End the stream, which keeps a process alive. */
  readonly close: () => void;
}

interface Connections {
  readonly keys: KeyCache;
  readonly feed: RevocationFeed | undefined;
}

/** `url` is where the service is reached. Throws RangeError for a secret too short or an unknown `whenSilent`. */
export function createVerifier(url: string, options: VerifierOptions = {}): Verifier {
  const { clock = SYSTEM_CLOCK, maxSilence = MAX_SILENCE_SECONDS, whenSilent = "fail_open" } = options;
  if (!WHEN_SILENT.includes(whenSilent)) {
    throw new RangeError(`whenSilent is ${WHEN_SILENT.join(" or ")}, and not ${whenSilent}`);
  }
  const policy = { issuer: options.issuer ?? "kanban-auth", audience: options.audience };
  const secret = options.sharedSecret === undefined ? undefined : readSecret(options.sharedSecret);
  let connections: Connections | undefined;

  async function verify(token: string): Promise<AccessClaims> {
    const { keys, feed } = (connections ??= connect(url, clock, options));
    const { algorithm, kid } = readHeader(token);
    await ready(feed, kid === undefined ? undefined : keys.prepare(kid));
    const key: VerificationKey | undefined = kid === undefined ? await secret : keys.find(kid);
    if (key?.algorithm !== algorithm) throw new InvalidToken("no key for it");
    const claims = await readClaims(token, key, policy, clock.now());
    if (feed !== undefined) {
      if (whenSilent === "fail_closed" && (!feed.isCaughtUp || feed.silentFor() > maxSilence)) {
        throw new Unavailable("the feed of revocations is silent");
      }
      const refusal = feed.revocations.refusalOf(claims);
      if (refusal !== undefined) throw refusal;
    }
    return claims;
  }

  async function start(): Promise<void> {
    const { keys, feed } = (connections ??= connect(url, clock, options));
    await ready(feed, keys.prepare());
  }

  function close(): void {
    connections?.feed?.stop();
    connections = undefined;
  }

  return { verify, start, close };
}

function connect(url: string, clock: Clock, options: VerifierOptions): Connections {
  const base = url.replace(/\/+$/, "");
  const { fetch = globalThis.fetch, warn = console.warn, serviceToken, timing = TIMING } = options;
  const keys = new KeyCache(`${base}/.well-known/jwks.json`, fetch, clock, warn);
  const feed =
    serviceToken === undefined
      ? undefined
      : new RevocationFeed(`${base}/api/v1/revocations`, serviceToken, fetch, clock, timing, warn);
  return { keys, feed };
}

/** Nothing is waited for, nearly always. */
async function ready(feed: RevocationFeed | undefined, keys: Promise<void> | undefined): Promise<void> {
  if (keys === undefined && feed?.hasTried !== false) return;
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, WAIT_SECONDS * 1000);
  });
  await Promise.race([Promise.all([keys, feed?.firstContact]), patience]);
  clearTimeout(timer);
}
