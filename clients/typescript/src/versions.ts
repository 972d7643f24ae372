// Answers may arrive in another order than that in which the server made them. Whatever can change has a version.

/** What of an object puts two answers about it in order. */
export interface Versioned {
  readonly id: string;
  readonly version: string;
}

/** The greatest version that was seen, by the object's id. */
export type Versions = ReadonlyMap<string, string>;

/** The answers that are not older than what was seen before, and what has been seen with them. */
export function newest<T extends Versioned>(seen: Versions, answers: readonly T[]): [kept: T[], seen: Versions] {
  const now = new Map(seen);
  const kept = answers.filter(({ id, version }) => {
    const known = now.get(id);
    const isCurrent = known === undefined || BigInt(version) >= BigInt(known);
    if (isCurrent) now.set(id, version);
    return isCurrent;
  });
  return [kept, now];
}
