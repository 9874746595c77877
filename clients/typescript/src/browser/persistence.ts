const TRIES = 6;
const FIRST_PAUSE_MS = 200;

/** A lost answer and a busy service are asked again, for some seconds; then the failure or the answer counts. */
export async function persistently<T>(ask: () => Promise<Response>, read: (response: Response) => Promise<T>): Promise<T> {
  for (let pause = FIRST_PAUSE_MS, tried = 1; ; pause *= 2, tried += 1) {
    try {
      const response = await ask();
      if (response.status < 500 || tried === TRIES) return await read(response);
    } catch (failure) {
      if (tried === TRIES || !(failure instanceof TypeError)) throw failure;
    }
    await sleep(pause * (0.5 + Math.random()));
  }
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
