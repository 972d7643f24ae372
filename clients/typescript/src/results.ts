// What a mutation answers: a success, or an error of the schema.
import type { FailureFragment } from "./documents.js";

export type Failure = FailureFragment;

/** The error in an answer: of a kind of today, or one that comes later. Null if it is a success. */
export function failureOf(answer: object): Failure | null {
  return "code" in answer && "retryable" in answer ? (answer as Failure) : null;
}

/** The success among the members of an answer's union; null if it is an error. */
export function successOf<Answer extends object>(answer: Answer): Exclude<Answer, { retryable: boolean }> | null {
  return failureOf(answer) ? null : (answer as Exclude<Answer, { retryable: boolean }>);
}

/** The problems of an InvalidInput by the field they belong to: `{"amount.currency": ["…"]}`. */
export function byField(failure: Failure): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  const problems = "problems" in failure ? failure.problems : [];
  for (const { path, message } of problems) (found[path.join(".")] ??= []).push(message);
  return found;
}
