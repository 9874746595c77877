/** Follows the service's revocations: as a stream while that works, by asking every two seconds otherwise. */
import type { Clock } from "./clock.js";
import { readEvents, type ServerSentEvent } from "./event-stream.js";
import { isObject } from "./keys.js";
import { readRevocation, RevocationList } from "./revocation-list.js";

/** In seconds. The service sends a heartbeat every 15 s; waits are made a little random. */
export interface Timing {
  readonly heartbeatTimeout: number;
  readonly poll: number;
  readonly firstRetry: number;
  readonly lastRetry: number;
  readonly lastStreamRetry: number;
}

export const TIMING: Timing = { heartbeatTimeout: 20, poll: 2, firstRetry: 0.25, lastRetry: 10, lastStreamRetry: 600 };
const TIMEOUT_SECONDS = 3;

export class RevocationFeed {
  readonly revocations = new RevocationList();
  readonly firstContact: Promise<void>;
  /** Whether the first attempt is over. */
  hasTried = false;
  /** Whether everything was read at least once. */
  isCaughtUp = false;
  readonly #stopping = new AbortController();
  #settleFirstContact: () => void = () => {};
  #cursor: string | undefined;
  #lastHeard: number;

  constructor(
    private readonly url: string,
    private readonly serviceToken: string,
    private readonly fetch: typeof globalThis.fetch,
    private readonly clock: Clock,
    private readonly timing: Timing,
    private readonly warn: (message: string) => void,
  ) {
    this.#lastHeard = clock.monotonic();
    this.firstContact = new Promise((resolve) => {
      this.#settleFirstContact = resolve;
    });
    void this.#run();
  }

  /** Seconds since the service last said that there is nothing else. */
  silentFor(): number {
    return this.clock.monotonic() - this.#lastHeard;
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #run(): Promise<void> {
    let failures = 0;
    let streamFailures = 0;
    let streamDue = -Infinity;
    while (!this.#stopping.signal.aborted) {
      failures = (await this.#catchUp()) ? 0 : failures + 1;
      this.hasTried = true;
      this.#settleFirstContact();
      if (failures > 0) {
        await this.#pause(Math.min(this.timing.firstRetry * 2 ** failures, this.timing.lastRetry));
      } else if (this.clock.monotonic() < streamDue) {
        await this.#pause(this.timing.poll);
      } else if (await this.#follow()) {
        streamFailures = 0;
        await this.#pause(this.timing.firstRetry);
      } else {
        streamFailures = Math.min(streamFailures + 1, 10);
        const wait = Math.min(this.timing.poll * 2 ** streamFailures, this.timing.lastStreamRetry);
        streamDue = this.clock.monotonic() + wait;
      }
    }
  }

  /** Up to so many seconds: siblings that lost their stream together do not come back together. */
  async #pause(seconds: number): Promise<void> {
    const { signal } = this.#stopping;
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, (seconds / 2) * (1 + Math.random()) * 1000);
      timer.unref();
      signal.addEventListener("abort", end);
    });
  }

  /** Read page by page what is there already; tells whether that worked. */
  async #catchUp(): Promise<boolean> {
    try {
      while (await this.#readPage());
    } catch (error) {
      this.#report("could not be read", error);
      return false;
    }
    this.isCaughtUp = true;
    return true;
  }

  /** Tells whether there is another one. */
  async #readPage(): Promise<boolean> {
    return this.#limited(TIMEOUT_SECONDS, async (signal) => this.#takePage(await this.#ask("application/json", signal)));
  }

  async #takePage(response: Response): Promise<boolean> {
    if (response.status === 400 || response.status === 410) {
      this.#cursor = undefined; // what is known stays known, and the next try reads from the beginning
    }
    await expectOk(response);
    const page: unknown = await response.json();
    if (!isObject(page) || !Array.isArray(page["revocations"]) || typeof page["cursor"] !== "string") {
      throw new TypeError("not a page");
    }
    for (const item of page["revocations"]) this.#take(item);
    this.#cursor = page["cursor"];
    this.#hear();
    return page["has_more"] === true;
  }

  /** Read the stream until it ends; tells whether it was of use. */
  async #follow(): Promise<boolean> {
    const began = this.clock.monotonic();
    try {
      await this.#limited(this.timing.heartbeatTimeout, async (signal, goOn) => {
        const response = await this.#ask("text/event-stream", signal);
        await expectOk(response);
        if (!response.headers.get("content-type")?.startsWith("text/event-stream") || response.body === null) {
          throw new TypeError("not a stream");
        }
        for await (const event of readEvents(response.body)) {
          goOn();
          this.#takeEvent(event);
        }
      });
    } catch (error) {
      this.#report("are no longer streamed", error);
    }
    return this.#lastHeard - began >= this.timing.poll;
  }

  /**
   * End the work after so many seconds without `goOn`, and with `stop`.
   * Not with `AbortSignal.any`, whose signals Node.js 20 may collect while they are needed.
   */
  async #limited<T>(seconds: number, work: (signal: AbortSignal, goOn: () => void) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const end = (): void => controller.abort(new Error("nothing was heard for too long"));
    const timer = setTimeout(end, seconds * 1000);
    this.#stopping.signal.addEventListener("abort", end);
    try {
      return await work(controller.signal, () => timer.refresh());
    } finally {
      clearTimeout(timer);
      this.#stopping.signal.removeEventListener("abort", end);
      controller.abort();
    }
  }

  #ask(accept: string, signal: AbortSignal): Promise<Response> {
    const url = new URL(this.url);
    const headers = new Headers({ Authorization: `Bearer ${this.serviceToken}`, Accept: accept });
    if (this.#cursor !== undefined) {
      url.searchParams.set("after", this.#cursor);
      headers.set("Last-Event-ID", this.#cursor);
    }
    return this.fetch(url, { headers, signal, redirect: "manual" });
  }

  #takeEvent(event: ServerSentEvent): void {
    if (event.kind === "revocation") {
      this.#take(JSON.parse(event.data));
      this.#cursor = event.id || this.#cursor;
    }
    this.#hear();
  }

  /** One that cannot be read must not keep us from the next. */
  #take(item: unknown): void {
    try {
      this.revocations.add(readRevocation(item));
    } catch (error) {
      this.#report("have one that could not be understood", error);
    }
  }

  #hear(): void {
    this.#lastHeard = this.clock.monotonic();
    this.revocations.forgetExpired(this.clock.now());
  }

  #report(what: string, error: unknown): void {
    if (!this.#stopping.signal.aborted) this.warn(`The revocations of the auth service ${what}: ${error}`);
  }
}

async function expectOk(response: Response): Promise<void> {
  if (response.status === 200) return;
  await response.body?.cancel();
  throw new Error(`status ${response.status}`);
}
