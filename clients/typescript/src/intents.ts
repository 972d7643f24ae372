// One idempotency key for one decision of a person. It is kept until there is an answer, so a lost answer, a reload or
// a double click never pays twice.
import { type Client, RequestFailed } from "./ask.js";
import {
  CaptureHoldDocument,
  IdentityDocument,
  PayDocument,
  PayMerchantDocument,
  PlaceHoldDocument,
  RefundPaymentDocument,
  SendBackDocument,
  TopUpDocument,
  type TypedDocumentString,
  VoidHoldDocument,
  WithdrawDocument,
} from "./documents.js";
import { failureOf } from "./results.js";

/** What moves or reserves money. */
export const OPERATIONS = {
  transfer: PayDocument,
  payMerchant: PayMerchantDocument,
  placeHold: PlaceHoldDocument,
  captureHold: CaptureHoldDocument,
  voidHold: VoidHoldDocument,
  reverseTransfer: SendBackDocument,
  refundPayment: RefundPaymentDocument,
  topUp: TopUpDocument,
  withdraw: WithdrawDocument,
} as const;

export type Operation = keyof typeof OPERATIONS;

type VariablesOf<O extends Operation> =
  (typeof OPERATIONS)[O] extends TypedDocumentString<infer _, infer Variables> ? Variables : never;
type DataOf<O extends Operation> =
  (typeof OPERATIONS)[O] extends TypedDocumentString<infer Data, infer _> ? Data : never;

/** What an operation takes, without the key. */
export type InputOf<O extends Operation> = Omit<
  VariablesOf<O> extends { input: infer Input } ? Input : never,
  "idempotencyKey"
>;
export type AnswerOf<O extends Operation> = DataOf<O> extends { answer: infer Answer } ? NonNullable<Answer> : never;

export interface Intent<O extends Operation = Operation> {
  readonly key: string;
  readonly operation: O;
  readonly input: InputOf<O>;
  /** When it was decided, by the device's clock; for people only. */
  readonly decidedAt: string;
  /** Whether it was sent and no answer says that nothing was done: then money may have moved. */
  readonly sent: boolean;
  /** Who sent it last: two tabs of a user may send the same one. */
  readonly sender?: string;
}

/** `localStorage`, or whatever else survives a reload. */
export type Store = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

export interface Retries {
  readonly attempts: number;
  readonly pauseMs: number;
}

/** Errors of a request that was not let in: nothing was done, and sending it again is no help. */
const NOT_LET_IN: ReadonlySet<string> = new Set([
  "BAD_REQUEST",
  "CROSS_SITE",
  "DOCUMENT_NOT_TRUSTED",
  "LIMIT_EXCEEDED",
  "MISDIRECTED_REQUEST",
  "REQUEST_ENTITY_TOO_LARGE",
  "UNSUPPORTED_MEDIA_TYPE",
]);

/** Refusals after which the same key is sent again, once the person has done something about it. */
const KEEPS_ITS_KEY: ReadonlySet<string> = new Set(["FRESH_LOG_IN_REQUIRED"]);

/** Answers after which the key is kept although they say that nothing was done. */
const NOTHING_MOVED: ReadonlySet<string> = new Set([
  "CONTENDED",
  "FRESH_LOG_IN_REQUIRED",
  "NODE_UNAVAILABLE",
  "RATE_LIMITED",
  "UNAUTHENTICATED",
  "UNAVAILABLE",
]);

/** What is known of all requests with one key. */
interface Outcome {
  mayBeDone: boolean;
}

/** What an operation is about, if that exists already: `{"holdId": …}`. */
const TARGETS = ["transferId", "paymentId", "holdId"] as const;

/** The id of the transfer, payment or hold that an intent is about; null for one that makes a new one. */
export function targetOf({ input }: Pick<Intent, "input">): string | null {
  const given = input as Partial<Record<(typeof TARGETS)[number], string>>;
  return TARGETS.map((name) => given[name]).find((id) => id !== undefined) ?? null;
}

/** The decisions of one user. Those of another user of the device have another prefix, and are left alone. */
export class Intents {
  readonly #prefix: string;
  readonly #underWay = new Map<string, Promise<unknown>>();
  readonly #id = crypto.randomUUID();
  #isStopped = false;

  constructor(
    readonly client: Client,
    readonly store: Store,
    readonly userId: string,
    readonly retries: Retries = { attempts: 6, pauseMs: 250 },
  ) {
    this.#prefix = `wallet:${userId}:intent:`;
  }

  /**
   * Keep a decision, before anything is sent. Throws what the store throws; then nothing was done.
   *
   * While one of the same operation about the same transfer, payment or hold has no answer, that one is given back, with
   * its own amount: a second key would send the money back twice.
   */
  decide<O extends Operation>(operation: O, input: InputOf<O>): Intent<O> {
    const target = targetOf({ input });
    const open = this.open().find((each) => each.operation === operation && target !== null && targetOf(each) === target);
    if (open) return open as Intent<O>;
    const intent: Intent<O> = {
      key: crypto.randomUUID(),
      operation,
      input,
      decidedAt: new Date().toISOString(),
      sent: false,
    };
    this.#keep(intent);
    return intent;
  }

  /**
   * What was decided and has no answer, oldest first. Send each again that was `sent`, or is being sent here. Of the others
   * nothing was done: ask the person, who may have decided anew since.
   */
  open(): Intent[] {
    const names = Array.from({ length: this.store.length }, (_, place) => this.store.key(place) ?? "");
    return names
      .filter((name) => name.startsWith(this.#prefix))
      .map((name) => this.store.getItem(name))
      .filter((text) => text !== null)
      .map((text) => JSON.parse(text) as Intent)
      .map((intent) => (this.#underWay.has(intent.key) ? { ...intent, sent: true } : intent))
      .sort((a, b) => a.decidedAt.localeCompare(b.decidedAt));
  }

  /** Whether a decision has no answer yet. */
  isOpen(key: string): boolean {
    return this.#read(key) !== null;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Send nothing more: the user has logged out. What has no answer is kept for the next log-in. */
  stop(): void {
    this.#isStopped = true;
  }

  /**
   * Until there is an answer; a refusal is one. Throws RequestFailed while there is none: then the intent stays.
   *
   * With a cookie, the session is checked before each request: it is `OTHER_USER` if somebody else has logged in.
   */
  send<O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>> {
    const underWay = this.#underWay.get(intent.key);
    if (underWay) return underWay as Promise<AnswerOf<O>>;
    const sending = this.#untilAnswered(intent).finally(() => this.#underWay.delete(intent.key));
    this.#underWay.set(intent.key, sending);
    return sending;
  }

  async #untilAnswered<O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>> {
    const outcome: Outcome = { mayBeDone: intent.sent || Boolean(this.#read(intent.key)?.sent) };
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(intent, outcome);
      } catch (error) {
        if (!(error instanceof RequestFailed) || !error.retryable || attempt >= this.retries.attempts) {
          if (!outcome.mayBeDone) this.#unsend({ ...intent, sent: false }); // not before: another tab could discard it
          throw error;
        }
        const pause = this.retries.pauseMs * 2 ** (attempt - 1) * (0.5 + Math.random());
        await sleep(Math.max(pause, 1000 * error.waitSeconds));
      }
    }
  }

  async #once<O extends Operation>(intent: Intent<O>, outcome: Outcome): Promise<AnswerOf<O>> {
    await this.#checkUser();
    const isFirst = !outcome.mayBeDone;
    if (isFirst && !this.isOpen(intent.key)) throw new RequestFailed("DISCARDED", "it was discarded meanwhile", false);
    this.#keep({ ...intent, sent: true, sender: this.#id });
    outcome.mayBeDone = true;
    const answer = await this.#answer(intent).catch((error: unknown) => {
      // If an earlier request got no answer it may have been done, so only a first one is dropped.
      if (isFirst && error instanceof RequestFailed && NOT_LET_IN.has(error.code)) this.forget(intent.key);
      if (isFirst && error instanceof RequestFailed) outcome.mayBeDone = !NOTHING_MOVED.has(error.code);
      throw error;
    });
    const failure = failureOf(answer);
    if (failure && isFirst) outcome.mayBeDone = !NOTHING_MOVED.has(failure.code);
    if (failure?.retryable) {
      const wait = "retryAfterSeconds" in failure ? failure.retryAfterSeconds : 0;
      throw new RequestFailed(failure.code, failure.message, true, wait);
    }
    if (failure && KEEPS_ITS_KEY.has(failure.code)) throw new RequestFailed(failure.code, failure.message, false);
    if (failure) await this.#checkUser(); // a refusal to somebody who logged in meanwhile is no answer to this user
    this.forget(intent.key);
    return answer;
  }

  /** Throws RequestFailed unless this user is logged in. A token is always the same user's. */
  async #checkUser(): Promise<void> {
    if (this.#isStopped) throw new RequestFailed("STOPPED", "the user has logged out", false);
    if (this.client.token !== undefined) return;
    const { viewer } = await this.client.ask(IdentityDocument, {});
    if (!viewer) throw new RequestFailed("UNAUTHENTICATED", "the session is over", false);
    if (viewer.id !== this.userId) throw new RequestFailed("OTHER_USER", "somebody else is logged in", false);
    if (this.#isStopped) throw new RequestFailed("STOPPED", "the user has logged out", false);
  }

  async #answer<O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>> {
    const document = OPERATIONS[intent.operation] as unknown as TypedDocumentString<
      { answer: AnswerOf<O> | null },
      { input: InputOf<O> & { idempotencyKey: string } }
    >;
    const { answer } = await this.client.ask(document, { input: { ...intent.input, idempotencyKey: intent.key } });
    if (!answer) throw new RequestFailed("NO_ANSWER", "an answer without data", true);
    return answer;
  }

  /** Drop a decision. Only where there is an answer, or where a person gives it up knowing that it may have been done. */
  forget(key: string): void {
    this.store.removeItem(this.#prefix + key);
  }

  /** Note that nothing was done, unless another tab has sent it meanwhile, or has an answer already. */
  #unsend(intent: Intent): void {
    if (this.#read(intent.key)?.sender === this.#id) this.#keep(intent);
  }

  /** Give up a decision, if it is known that nothing was done; whether it was. */
  discard(key: string): boolean {
    if (this.#underWay.has(key) || this.#read(key)?.sent) return false;
    this.forget(key);
    return true;
  }

  #keep(intent: Intent): void {
    this.store.setItem(this.#prefix + intent.key, JSON.stringify(intent));
  }

  #read(key: string): Intent | null {
    const text = this.store.getItem(this.#prefix + key);
    return text === null ? null : (JSON.parse(text) as Intent);
  }
}

const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));
