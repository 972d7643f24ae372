// The user's wallet as the page knows it: loaded in one request, then kept up to date by events.
import { createContext } from "preact";
import { useContext, useEffect, useMemo, useReducer, useRef } from "preact/hooks";
import {
  type AccountStateFragment as Account,
  type AnswerOf,
  Client,
  Events,
  type HoldStateFragment as Hold,
  HomeDocument,
  type HomeQuery,
  type InputOf,
  type Intent,
  Intents,
  type LineFragment as Line,
  type MoneyInFragment as MoneyIn,
  type MoneyOutFragment as MoneyOut,
  type Operation,
  RequestFailed,
  type Versions,
  type ViewerEvent,
  newest,
  targetOf,
} from "wallet-gql-client";

export const client = new Client();
export const RECENT = 5;

type Viewer = NonNullable<HomeQuery["viewer"]>;
/** Money on its way in or out. */
export type Fund = MoneyIn | MoneyOut;

export interface Data {
  readonly viewer: Viewer;
  readonly exponents: ReadonlyMap<string, number>;
}

interface State {
  readonly phase: "loading" | "failed" | "out" | "in";
  readonly data: Data | null;
  readonly error: unknown;
  readonly isLive: boolean;
  /** New entries since the page was opened, newest first. */
  readonly news: readonly Line[];
  /** Grows with every change of a hold. */
  readonly holdChanges: number;
  /** Top-ups and withdrawals that are known, newest first. */
  readonly funds: readonly Fund[];
  /** Of accounts, holds and funds: what is older than this is dropped. */
  readonly versions: Versions;
  /** What was decided and has no answer. */
  readonly pending: readonly Intent[];
}

type Action =
  | { do: "loaded"; data: Data; pending: readonly Intent[] }
  | { do: "failed"; error: unknown }
  | { do: "out"; error?: unknown }
  | { do: "unsure" }
  | { do: "live"; isLive: boolean }
  | { do: "event"; event: ViewerEvent }
  | { do: "account"; userId: string; account: Account }
  | { do: "funds"; userId: string; funds: readonly Fund[] }
  | { do: "pending"; userId: string; pending: readonly Intent[] };

const START: State = { phase: "loading", data: null, error: null, isLive: false, news: [], holdChanges: 0, funds: [], versions: new Map(), pending: [] };

/** An account replaces what is known of it. */
function withAccount(viewer: Viewer, account: Account): Viewer {
  const known = viewer.accounts.find(({ id }) => id === account.id);
  if (!known) return { ...viewer, accounts: [...viewer.accounts, account] };
  return { ...viewer, accounts: viewer.accounts.map((each) => (each === known ? account : each)) };
}

/** What was loaded, but for what events have told better meanwhile. */
function loaded(state: State, data: Data): State {
  const [accounts, seen] = newest(state.versions, data.viewer.accounts);
  const [nodes, versions] = newest(seen, data.viewer.holds.nodes);
  const viewer = { ...data.viewer, accounts: state.data?.viewer.accounts ?? [], holds: { nodes } };
  return { ...state, data: { ...data, viewer: accounts.reduce(withAccount, viewer) }, versions };
}

/** Whether entries came between the first request and the first event. */
function isNews(account: Account, data: Data | null): boolean {
  const known = data?.viewer.accounts.find(({ id }) => id === account.id);
  return !known || BigInt(known.sequence) < BigInt(account.sequence);
}

/** Whether a snapshot is of another user: the connection was made anew, with the cookie of who logged in meanwhile. */
function isOfAnother({ snapshot, accounts }: ViewerEvent, { viewer }: Data): boolean {
  const known = new Set(viewer.accounts.map(({ id }) => id));
  return snapshot && known.size + accounts.length > 0 && !accounts.some(({ id }) => known.has(id));
}

const isSame = (a: Line, b: Line): boolean => a.transfer.id === b.transfer.id && a.sequence === b.sequence;

function withEntry(viewer: Viewer, entry: Line): Viewer {
  const nodes = viewer.history.nodes.filter((line) => !isSame(line, entry));
  const sorted = [entry, ...nodes].sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  return { ...viewer, history: { nodes: sorted.slice(0, RECENT) } };
}

/** A first event with fewer holds has all of them; one with so many may lack older ones that are open. */
const MANY_HOLDS = 100;
const mayLackHolds = ({ holds, snapshot }: ViewerEvent): boolean => snapshot && holds.length >= MANY_HOLDS;

/** What others have reserved for the user and is open; `holds` are those of the event that are not old. */
function withHolds(viewer: Viewer, event: ViewerEvent, holds: readonly Hold[]): Viewer {
  const known: readonly Hold[] = event.snapshot && !mayLackHolds(event) ? [] : viewer.holds.nodes;
  const changed = new Set(holds.map(({ id }) => id));
  const nodes = [...holds.filter(({ direction, state }) => direction === "IN" && state === "OPEN"), ...known.filter(({ id }) => !changed.has(id))];
  return { ...viewer, holds: { nodes: nodes.sort((a, b) => b.createdAt.localeCompare(a.createdAt)) } };
}

function reduce(state: State, action: Action): State {
  switch (action.do) {
    case "loaded": // of somebody else nothing is kept
      return { ...loaded(state.data?.viewer.id === action.data.viewer.id ? state : START, action.data), phase: "in", error: null, pending: action.pending };
    case "failed":
      return { ...state, phase: state.data ? state.phase : "failed", error: action.error };
    case "out": // who was not in is not told that the session is over
      return { ...START, phase: "out", error: (state.data && action.error) || null };
    case "unsure":
      return START;
    case "live":
      return state.isLive === action.isLive ? state : { ...state, isLive: action.isLive };
    case "pending":
      return state.data?.viewer.id === action.userId ? { ...state, pending: action.pending } : state;
    case "account":
      return state.data?.viewer.id === action.userId ? answered(state, state.data, action.account) : state;
    case "funds":
      return state.data?.viewer.id === action.userId ? withFunds(state, action.funds) : state;
    default:
      return state.data ? changed(state, state.data, action) : state;
  }
}

// docs: begin funds
function withFunds(state: State, told: readonly Fund[]): State {
  const [fresh, versions] = newest(state.versions, told);
  const ids = new Set(fresh.map(({ id }) => id));
  const funds = [...fresh, ...state.funds.filter(({ id }) => !ids.has(id))];
  return { ...state, versions, funds: funds.sort((a, b) => b.createdAt.localeCompare(a.createdAt)) };
}
// docs: end

function answered(state: State, data: Data, account: Account): State {
  const [accounts, versions] = newest(state.versions, [account]);
  return { ...state, versions, data: { ...data, viewer: accounts.reduce(withAccount, data.viewer) } };
}

function changed(state: State, data: Data, { event }: Action & { do: "event" }): State {
  const isNew = (entry: Line) => !state.news.some((line) => isSame(line, entry));
  const entries = event.entries.filter(isNew);
  const [accounts, seen] = newest(state.versions, event.accounts);
  const [holds, versions] = newest(seen, event.holds);
  const viewer = withHolds(entries.reduce(withEntry, accounts.reduce(withAccount, data.viewer)), event, holds);
  const known = withFunds({ ...state, versions }, [...event.topUps, ...event.withdrawals]);
  return {
    ...known,
    data: { ...data, viewer },
    news: [...entries.toReversed(), ...state.news],
    holdChanges: state.holdChanges + event.holds.length,
  };
}

export interface Wallet extends State {
  readonly data: Data;
  readonly intents: Intents;
  /** What can be spent for all one knows: less what is on its way and has no answer. */
  available(account: Account): bigint;
  exponent(currency: string): number;
  /** Decide and send; throws Unanswered while there is no answer. */
  act<O extends Operation>(operation: O, input: InputOf<O>): Promise<AnswerOf<O>>;
  /** What was decided about a transfer, payment or hold and has no answer: send that again, and decide nothing new. */
  openOf(id: string): Intent | undefined;
  /** Ask again about one that has no answer; throws Unanswered while there is none. */
  again<O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>>;
  /** Ask again about all that has no answer, but for what is old. */
  resume(): Promise<void>;
  /** Give up what certainly was not done. */
  discard(intent: Intent): void;
  reload(): Promise<void>;
  /** What was learnt about top-ups and withdrawals. */
  tell(funds: readonly Fund[]): void;
  /** The session has ended. */
  leave(error?: unknown): void;
}

const OLD_MS = 24 * 3600 * 1000;

/**
 * What is not sent by itself, since that may do it now: it was decided so long ago that the person may not want it any
 * more, or it was not sent, and the person may have decided anew since.
 */
export const isLeft = ({ decidedAt, sent }: Intent): boolean => !sent || Date.now() - Date.parse(decidedAt) > OLD_MS;

/** There is no answer, and the decision is kept with its key. If it was sent the money may have moved. */
export class Unanswered extends RequestFailed {
  constructor(
    readonly key: string,
    readonly sent: boolean,
    { code, message, retryable }: RequestFailed,
  ) {
    super(code, message, retryable);
  }
}

/** Of which version an account was when money was to leave it, by the key of the intent. */
type Decided = Map<string, string>;

/**
 * What leaves an account by intents that have no answer. Once an event has changed the account, it has been counted, or
 * may have been: then the account itself says most, and nothing is taken off twice.
 */
function onItsWay(pending: readonly Intent[], { id, version }: Account, decided: Decided): bigint {
  return pending
    .filter(({ key }) => decided.get(key) === version)
    .map(({ input }) => input as Partial<InputOf<"transfer">>)
    .filter(({ fromAccountId, amount }) => fromAccountId === id && amount)
    .reduce((sum, { amount }) => sum + BigInt(amount?.minorUnits ?? 0), 0n);
}

// docs: begin load
async function load(): Promise<Data> {
  const { viewer, currencies } = await client.ask(HomeDocument, { entries: RECENT });
  if (!viewer) throw new RequestFailed("UNAUTHENTICATED", "", false);
  return { viewer, exponents: new Map(currencies.map(({ code, exponent }) => [code, exponent])) };
}
// docs: end

/** The state, and what changes it. `wallet` is null until somebody is logged in. */
export function useWalletState(): { state: State; wallet: Wallet | null; enter: () => Promise<void> } {
  const [state, dispatch] = useReducer(reduce, START);
  const decided = useRef<Decided>(new Map());
  const userId = state.data?.viewer.id;
  const intents = useMemo(() => (userId ? new Intents(client, localStorage, userId) : null), [userId]);

  const round = useRef(0); // what was asked for before the last log-in or log-out is dropped
  useEffect(() => () => intents?.stop(), [intents]);

  useEffect(() => {
    if (!intents) return;
    const listen = () => dispatch({ do: "pending", userId: intents.userId, pending: intents.open() }); // another tab has an answer
    addEventListener("storage", listen);
    return () => removeEventListener("storage", listen);
  }, [intents]);

  const leave = (error?: unknown) => {
    round.current++;
    intents?.stop();
    dispatch({ do: "out", error });
  };
  const failed = (error: unknown) => {
    if (error instanceof RequestFailed && error.code === "UNAUTHENTICATED") leave(error);
    else dispatch({ do: "failed", error });
  };
  const enter = async () => {
    const mine = ++round.current;
    try {
      const data = await load();
      if (mine !== round.current) return;
      if (data.viewer.id !== userId) intents?.stop();
      dispatch({ do: "loaded", data, pending: new Intents(client, localStorage, data.viewer.id).open() });
    } catch (error) {
      if (mine === round.current) failed(error);
    }
  };
  /** Somebody else may be logged in: show nothing until that is known. */
  const enterAnew = () => {
    intents?.stop();
    dispatch({ do: "unsure" });
    return enter();
  };
  useEffect(() => void enter(), []);
  useLive(userId, {
    onEvent: (event) => {
      if (state.data && isOfAnother(event, state.data)) return void enterAnew();
      dispatch({ do: "event", event });
      if (mayLackHolds(event)) void enter();
    },
    onLive: (isLive) => dispatch({ do: "live", isLive }),
    onEnd: failed,
    onSnapshot: (event) => !(state.data && isOfAnother(event, state.data)) && event.accounts.some((account) => isNews(account, state.data)) && void enter(),
  });

  const wallet = intents && state.data ? bind(state, state.data, { intents, decided: decided.current, dispatch, enter, enterAnew, leave }) : null;
  useEffect(() => void (wallet && resumeOnce(wallet)), [intents]);
  return { state, wallet, enter };
}

const resumeOnce = (wallet: Wallet) => wallet.resume().catch(() => undefined); // the banner stays

interface Means {
  readonly intents: Intents;
  decided: Decided;
  dispatch(action: Action): void;
  enter(): Promise<void>;
  enterAnew(): Promise<void>;
  leave(error?: unknown): void;
}

function bind(state: State, data: Data, { intents, decided, dispatch, enter, enterAnew, leave }: Means): Wallet {
  const { userId } = intents;
  const told = () => dispatch({ do: "pending", userId, pending: intents.open() });
  // docs: begin send
  const send = async <O extends Operation>(intent: Intent<O>): Promise<AnswerOf<O>> => {
    try {
      const answer = await intents.send(intent);
      for (const name of ["fromAccount", "toAccount"]) {
        const account = (answer as Record<string, unknown>)[name] as Account | null | undefined;
        if (account) dispatch({ do: "account", userId, account });
      }
      return answer;
    } catch (error) {
      if (!(error instanceof RequestFailed) || intents.isStopped) throw error; // what it says is of a session that is gone
      if (error.code === "UNAUTHENTICATED") leave(error);
      if (error.code === "OTHER_USER") void enterAnew();
      const open = intents.open().find(({ key }) => key === intent.key);
      throw open ? new Unanswered(open.key, open.sent, error) : error;
    } finally {
      told();
    }
  };
  // docs: end
  return {
    ...state,
    data,
    intents,
    available: (account) => BigInt(account.available.minorUnits) - onItsWay(state.pending, account, decided),
    exponent: (currency) => data.exponents.get(currency) ?? 2,
    act: (operation, input) => {
      const intent = intents.decide(operation, input);
      const from = data.viewer.accounts.find(({ id }) => id === (input as Partial<InputOf<"transfer">>).fromAccountId);
      if (from) decided.set(intent.key, from.version);
      const answer = send(intent);
      told();
      return answer;
    },
    openOf: (id) => state.pending.find((intent) => targetOf(intent) === id),
    again: send,
    resume: async () => {
      const open = intents.open().filter((intent) => !isLeft(intent));
      if (!open.length) return told(); // another tab may have had the answer
      const results = await Promise.allSettled(open.map(send));
      if (!intents.isStopped) await enter();
      if (results.some(({ status }) => status === "rejected")) throw new RequestFailed("NO_ANSWER", "", true);
    },
    discard: (intent) => {
      intents.discard(intent.key);
      told();
    },
    reload: enter,
    tell: (funds) => dispatch({ do: "funds", userId, funds }),
    leave,
  };
}

interface Listener {
  onEvent(event: ViewerEvent): void;
  onLive(isLive: boolean): void;
  onEnd(error: unknown): void;
  /** With the first event of each connection: without a cursor it has no entries. */
  onSnapshot(event: ViewerEvent): void;
}

/** Events over one connection, while somebody is logged in. */
function useLive(userId: string | undefined, listener: Listener): void {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    if (!userId) return;
    // docs: begin live
    const onEvent = (event: ViewerEvent) => {
      latest.current.onEvent(event);
      if (event.snapshot) latest.current.onSnapshot(event);
    };
    const onLive = (isLive: boolean) => latest.current.onLive(isLive);
    const onEnd = (error: unknown) => latest.current.onEnd(error);
    const events = new Events({ onEvent, onLive, onEnd }, { url: location.origin });
    const wake = () => events.wake();
    // docs: end
    addEventListener("online", wake);
    return () => {
      removeEventListener("online", wake);
      events.close();
    };
  }, [userId]);
}

export const WalletContext = createContext<Wallet | null>(null);

/** The wallet of who is logged in; only below a `WalletContext`. */
export function useWallet(): Wallet {
  const wallet = useContext(WalletContext);
  if (!wallet) throw new Error("nobody is logged in");
  return wallet;
}
