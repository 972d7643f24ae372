// All that changes for a user, over one WebSocket a page: a browser opens only six HTTP streams to a server, for all tabs.
// After every loss it resumes with the last cursor, so no entry is missed and none comes twice.
import { RequestFailed } from "./ask.js";
import { ViewerEventsDocument, type ViewerEventsSubscription } from "./documents.js";

export type ViewerEvent = ViewerEventsSubscription["event"];

export interface Watcher {
  /** The first event after each connect is a `snapshot`: all as it is; with 100 holds in it there may be more. */
  onEvent(event: ViewerEvent): void;
  /** Whether events come now. While they do not, what is shown may be old. */
  onLive?(isLive: boolean): void;
  /** It has ended for good: no session (`UNAUTHENTICATED`), or a server that refuses. Too many subscriptions are no end. */
  onEnd(error: RequestFailed): void;
}

export interface EventsOptions {
  readonly url: string;
  readonly token?: string | undefined;
  readonly webSocket?: typeof WebSocket;
  /** After the first loss; it doubles with each. */
  readonly pauseMs?: number;
  readonly pauseMaxMs?: number;
  /** A connection that is silent for longer is dropped: each side of a dead one waits for the other. */
  readonly silenceMs?: number;
}

interface Message {
  type: string;
  payload?: { data?: ViewerEventsSubscription | null; errors?: WireError[] } | WireError[];
}

interface WireError {
  message: string;
  extensions?: { code?: string; retryable?: boolean };
}

const NO_SESSION = 4403;

/** Watches until `close`, through every loss of the connection. */
export class Events {
  readonly #options: Required<Pick<EventsOptions, "pauseMs" | "pauseMaxMs" | "silenceMs">> & EventsOptions;
  #cursor: string | null;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setInterval> | undefined;
  #pauseMs: number;
  #heardAt = 0;
  #isClosed = false;

  /** @param cursor of the last event that is known; null to begin with things as they are */
  constructor(
    readonly watcher: Watcher,
    options: EventsOptions,
    cursor: string | null = null,
  ) {
    this.#options = { pauseMs: 250, pauseMaxMs: 10_000, silenceMs: 45_000, ...options };
    this.#pauseMs = this.#options.pauseMs;
    this.#cursor = cursor;
    this.#connect();
  }

  /** End it. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#drop();
  }

  /** Connect now instead of after the pause: the network is back, or the page is shown again. */
  wake(): void {
    if (this.#isClosed || this.#socket) return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  #connect(): void {
    const Socket = this.#options.webSocket ?? WebSocket;
    const socket = new Socket(`${this.#options.url.replace(/^http/, "ws")}/graphql`, "graphql-transport-ws");
    const mine = (act: () => void) => () => this.#socket === socket && act();
    this.#socket = socket;
    this.#heardAt = Date.now();
    this.#silence = setInterval(() => this.#checkSilence(), this.#options.silenceMs / 3);
    socket.onopen = mine(() => {
      const { token } = this.#options;
      this.#send({ type: "connection_init", ...(token ? { payload: { authorization: `Bearer ${token}` } } : {}) });
    });
    socket.onmessage = (event: MessageEvent) => mine(() => this.#read(JSON.parse(String(event.data)) as Message))();
    socket.onclose = (event: CloseEvent) => mine(() => this.#lost(event.code))();
    socket.onerror = null; // a close follows
  }

  #read(message: Message): void {
    this.#heardAt = Date.now();
    if (message.type === "connection_ack") this.#subscribe();
    else if (message.type === "ping") this.#send({ type: "pong" });
    else if (message.type === "next") this.#next(message.payload);
    else if (message.type === "error") this.#failed(Array.isArray(message.payload) ? message.payload[0] : undefined);
    else if (message.type === "complete") this.#again(); // the stream of a wallet only ends when it stops
  }

  #next(payload: Message["payload"]): void {
    if (!payload || Array.isArray(payload)) return;
    const event = payload.data?.event;
    if (!event) {
      this.#failed(payload.errors?.[0]);
      return;
    }
    this.#cursor = event.cursor;
    this.#pauseMs = this.#options.pauseMs;
    this.watcher.onLive?.(true);
    this.watcher.onEvent(event);
  }

  #failed(error: WireError | undefined): void {
    const { code = "NO_ANSWER", retryable = true } = error?.extensions ?? {};
    if (code === "LIMIT_EXCEEDED") this.#pauseMs = this.#options.pauseMaxMs; // too many tabs: one of them will be closed
    const isCursorRefused = code === "BAD_REQUEST" && this.#cursor !== null;
    if (isCursorRefused) this.#cursor = null; // begin with things as they are
    if (retryable || isCursorRefused || code === "LIMIT_EXCEEDED") this.#again();
    else this.#end(new RequestFailed(code, error?.message ?? code, false));
  }

  #lost(code: number): void {
    if (code === NO_SESSION) this.#end(new RequestFailed("UNAUTHENTICATED", "the session is over", false));
    else this.#again();
  }

  #again(): void {
    this.#drop();
    if (this.#isClosed) return;
    this.watcher.onLive?.(false);
    this.#timer = setTimeout(() => this.#connect(), this.#pauseMs * (0.5 + Math.random()));
    this.#pauseMs = Math.min(this.#pauseMs * 2, this.#options.pauseMaxMs);
  }

  #end(error: RequestFailed): void {
    this.close();
    this.watcher.onLive?.(false);
    this.watcher.onEnd(error);
  }

  #checkSilence(): void {
    const silent = Date.now() - this.#heardAt;
    if (silent > this.#options.silenceMs) this.#again();
    else if (silent > this.#options.silenceMs / 3 && this.#socket?.readyState === 1) this.#send({ type: "ping" });
  }

  #drop(): void {
    clearInterval(this.#silence);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }

  #subscribe(): void {
    const payload = { query: ViewerEventsDocument.toString(), variables: { after: this.#cursor } };
    this.#send({ id: "viewer", type: "subscribe", payload });
  }

  #send(message: object): void {
    this.#socket?.send(JSON.stringify(message));
  }
}
