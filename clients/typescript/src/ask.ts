// One request, one answer. What the schema expects is data; all else is thrown as `RequestFailed`.
import type { ErrorCode, TypedDocumentString } from "./documents.js";

/** No answer that the schema knows: no network, no session, a document that the server cannot read, a broken server. */
export class RequestFailed extends Error {
  override readonly name = "RequestFailed";

  /**
   * @param code the server's, or `NO_ANSWER`
   * @param retryable whether the same request may succeed later
   * @param waitSeconds how long the server wants to be left alone
   */
  constructor(
    readonly code: ErrorCode | "NO_ANSWER" | (string & {}),
    message: string,
    readonly retryable: boolean,
    readonly waitSeconds = 0,
  ) {
    super(message);
  }
}

export interface Options {
  /** The wallet, without a slash at the end. Empty (the default) is the page's own origin. */
  readonly url?: string;
  /** Of a `BEARER` session; browsers leave it out and have the cookie. */
  readonly token?: string;
  /** BCP 47, in which messages shall come; the server may know it or not. */
  readonly language?: string;
  readonly fetch?: typeof globalThis.fetch;
  /** After so long without an answer a request counts as lost. */
  readonly timeoutMs?: number;
}

/** `application/problem+json`: what comes before GraphQL, such as a body that is too large. */
interface Problem {
  code?: string;
  detail?: string;
  retryable?: boolean;
}

interface Body<T> extends Problem {
  data?: T | null;
  errors?: readonly { message: string; extensions?: { code?: string; retryable?: boolean } }[];
}

/** Asks a wallet. Make one for each session. */
export class Client {
  readonly url: string;
  readonly token: string | undefined;
  readonly #options: Options;

  constructor(options: Options = {}) {
    this.#options = options;
    this.url = options.url ?? "";
    this.token = options.token;
  }

  /** The data that a document asks for. Throws RequestFailed. */
  async ask<Result, Variables>(
    document: TypedDocumentString<Result, Variables>,
    variables: Variables,
  ): Promise<Result> {
    const { status, waitSeconds, body } = await this.#send<Result>(document.toString(), variables);
    const error = body?.errors?.[0];
    if (error) {
      const { code = "NO_ANSWER", retryable = false } = error.extensions ?? {};
      throw new RequestFailed(code, error.message, retryable, waitSeconds);
    }
    if (body?.code) throw new RequestFailed(body.code, body.detail ?? body.code, body.retryable ?? false, waitSeconds);
    if (!body?.data) throw new RequestFailed("NO_ANSWER", `HTTP ${status}`, true, waitSeconds);
    return body.data;
  }

  async #send<Result>(query: string, variables: unknown) {
    const { fetch = globalThis.fetch, timeoutMs = 30_000, token, language } = this.#options;
    try {
      const answer = await fetch(`${this.url}/graphql`, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Accept: "application/json",
          ...(token ? { Authorization: `Bearer ${token}` } : {}),
          ...(language ? { "Accept-Language": language } : {}),
        },
        credentials: "same-origin",
        body: JSON.stringify({ query, variables }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const waitSeconds = Number(answer.headers.get("Retry-After")) || 0;
      const body = (await answer.json()) as Body<Result> | null;
      return { status: answer.status, waitSeconds, body };
    } catch (error) {
      // No connection, cut off, timed out, or a proxy's page instead of JSON: all of it proves nothing.
      throw new RequestFailed("NO_ANSWER", String(error), true);
    }
  }
}
