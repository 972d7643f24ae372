// One idempotency key for one decision of a person. It is kept until there is an answer, so a lost answer, a reload or
// a double click never pays twice.
import { type Client, RequestFailed } from "./ask.js";
import {
  CaptureHoldDocument,
  PayDocument,
  PayMerchantDocument,
  PlaceHoldDocument,
  RefundPaymentDocument,
  SendBackDocument,
  type TypedDocumentString,
  VoidHoldDocument,
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
  /** Whether it was sent at least once: then money may have moved. */
  readonly sent: boolean;
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

/** The decisions of one user. Those of another user of the device have another prefix, and are left alone. */
export class Intents {
  readonly #prefix: string;
  readonly #underWay = new Map<string, Promise<unknown>>();

  constructor(
    readonly client: Client,
    readonly store: Store,
    userId: string,
    readonly retries: Retries = { attempts: 6, pauseMs: 250 },
  ) {
    this.#prefix = `wallet:${userId}:intent:`;
  }

  /** Keep a decision, before anything is sent. Throws what the store throws; then nothing was done. */
  decide<O extends Operation>(operation: O, input: InputOf<O>): Intent<O> {
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

  /** What was decided and has no answer, oldest first. Send each again. */
  open(): Intent[] {
    const names = Array.from({ length: this.store.length }, (_, place) => this.store.key(place) ?? "");
    return names
      .filter((name) => name.startsWith(this.#prefix))
      .map((name) => this.store.getItem(name))
      .filter((text) => text !== null)
      .map((text) => JSON.parse(text) as Intent)
      .sort((a, b) => a.decidedAt.localeCompare(b.decidedAt));
  }

  /** Until there is an answer; a refusal is one. Throws RequestFailed while there is none: then the intent stays. */
  send<O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>> {
    const underWay = this.#underWay.get(intent.key);
    if (underWay) return underWay as Promise<AnswerOf<O>>;
    const sending = this.#untilAnswered(intent).finally(() => this.#underWay.delete(intent.key));
    this.#underWay.set(intent.key, sending);
    return sending;
  }

  async #untilAnswered<O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(intent);
      } catch (error) {
        if (!(error instanceof RequestFailed) || !error.retryable || attempt >= this.retries.attempts) throw error;
        const pause = this.retries.pauseMs * 2 ** (attempt - 1) * (0.5 + Math.random());
        await sleep(Math.max(pause, 1000 * error.waitSeconds));
      }
    }
  }

  async #once<O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>> {
    const isFirst = !this.#read(intent.key)?.sent && !intent.sent;
    this.#keep({ ...intent, sent: true });
    const answer = await this.#answer(intent).catch((error: unknown) => {
      // If an earlier request got no answer it may have been done, so only a first one is dropped.
      if (isFirst && error instanceof RequestFailed && NOT_LET_IN.has(error.code)) this.forget(intent.key);
      throw error;
    });
    const failure = failureOf(answer);
    if (failure?.retryable) {
      const wait = "retryAfterSeconds" in failure ? failure.retryAfterSeconds : 0;
      throw new RequestFailed(failure.code, failure.message, true, wait);
    }
    if (failure && KEEPS_ITS_KEY.has(failure.code)) throw new RequestFailed(failure.code, failure.message, false);
    this.forget(intent.key);
    return answer;
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

  #keep(intent: Intent): void {
    this.store.setItem(this.#prefix + intent.key, JSON.stringify(intent));
  }

  #read(key: string): Intent | null {
    const text = this.store.getItem(this.#prefix + key);
    return text === null ? null : (JSON.parse(text) as Intent);
  }
}

const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));
