/** Time, so that tests can move it. */
export interface Clock {
  /** Unix seconds, as in tokens. */
  now(): number;
  /** Seconds that never go back, for durations. */
  monotonic(): number;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now() / 1000,
  monotonic: () => performance.now() / 1000,
};
