// What several screens show.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { type HoldStateFragment as Hold, type Intent, type LineFragment as Line, type Money, RequestFailed } from "wallet-gql-client";
import { link } from "./route.js";
import { useTexts } from "./texts.js";
import { Unanswered, useWallet } from "./wallet.js";

const ICONS = {
  home: "M3 10.5 12 3l9 7.5M5.5 9v11h13V9",
  history: "M4 6h16M4 12h16M4 18h10",
  pay: "M5 19 19 5M9 5h10v10",
  holds: "M6 10V7a6 6 0 0 1 12 0v3M5 10h14v10H5z",
  statement: "M6 3h9l4 4v14H6zM9 12h6M9 16h6",
  security: "M12 3 5 6v6c0 4 3 7 7 9 4-2 7-5 7-9V6z",
  sales: "M4 9h16l-1 11H5zM8 9V7a4 4 0 0 1 8 0v2",
  funds: "M3 7h18v12H3zM3 11h18",
  in: "M19 5 5 19M5 9v10h10",
  out: "M5 19 19 5M9 5h10v10",
  back: "M15 5l-7 7 7 7",
  check: "M5 12.5 10 17 19 7",
} as const;
export type IconName = keyof typeof ICONS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

interface FieldProps extends Omit<JSX.HTMLAttributes<HTMLInputElement>, "label"> {
  label: string;
  hint?: string | undefined;
  error?: string | undefined;
  type?: string;
  name?: string;
  value?: string;
  required?: boolean;
  maxLength?: number;
  autoComplete?: string;
  inputMode?: "decimal";
  list?: string;
}

/** An input with its label, a hint, and what is wrong with it: then it takes the focus from the button that was pressed. */
export function Field({ label, hint, error, ...input }: FieldProps) {
  const id = useId();
  const own = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const { activeElement } = document;
    if (error && (activeElement === document.body || activeElement?.closest("button"))) own.current?.focus();
  }, [error]);
  const about = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} ref={own} aria-invalid={error ? true : undefined} aria-describedby={about || undefined} {...input} />
      {hint && <small id={`${id}-hint`}>{hint}</small>}
      {error && <small id={`${id}-error`} class="wrong" role="alert">{error}</small>}
    </div>
  );
}

/** A field whose text counts once it is left or Enter is pressed; until then what is typed stays, whatever is drawn anew. */
export function DraftField({ value, onCommit, ...field }: Omit<FieldProps, "value"> & { value: string; onCommit: (value: string) => void }) {
  const [draft, setDraft] = useState(value);
  useEffect(() => setDraft(value), [value]);
  return (
    <Field
      {...field}
      value={draft}
      onInput={(event) => setDraft(event.currentTarget.value)}
      onChange={(event) => onCommit(event.currentTarget.value)}
    />
  );
}

interface SelectProps {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onChange: (value: string) => void;
}

export function Select({ label, value, options, onChange }: SelectProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

export function Problem({ children }: { children: ComponentChildren }) {
  return children ? <p class="problem" role="alert">{children}</p> : null;
}

/** In place of what needs an account, for who has none: why there is nothing, and the way to the first one. */
export function NoAccount() {
  const { say } = useTexts();
  return (
    <section class="card none">
      <p>{say.firstAccount}</p>
      <a class="button" href={link("add")}>{say.openAccount}</a>
    </section>
  );
}

/** Its heading takes the focus from the menu and from what has gone, so that a screen reader says where one is. */
export function Screen({ title, children, aside }: { title: string; children: ComponentChildren; aside?: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Wallet`;
    const { activeElement } = document;
    if (activeElement === document.body || activeElement?.closest("nav")) heading.current?.focus({ preventScroll: true });
  }, [title]);
  return (
    <section class="screen">
      <header class="title">
        <h1 ref={heading} tabIndex={-1}>{title}</h1>
        {aside}
      </header>
      {children}
    </section>
  );
}

export function Amount({ money, signed }: { money: Money; signed?: boolean }) {
  const texts = useTexts();
  const isGain = signed && !money.minorUnits.startsWith("-");
  return <span class={isGain ? "amount gain" : "amount"}>{texts.money(money, signed)}</span>;
}

export function Lines({ lines, withDays }: { lines: readonly Line[]; withDays?: boolean }) {
  const texts = useTexts();
  const days = new Map<string, Line[]>();
  for (const line of lines) {
    const day = withDays ? texts.day(line.createdAt) : "";
    days.set(day, [...(days.get(day) ?? []), line]);
  }
  return [...days].map(([day, ofDay]) => (
    <div key={day} class="day">
      {day && <h2>{day}</h2>}
      <ul class="lines">
        {ofDay.map((line) => (
          <li key={`${line.transfer.id}-${line.sequence}`}>
            <EntryLine line={line} withDays={Boolean(withDays)} />
          </li>
        ))}
      </ul>
    </div>
  ));
}

function EntryLine({ line, withDays }: { line: Line; withDays: boolean }) {
  const texts = useTexts();
  const { transfer, amount } = line;
  const isIn = transfer.direction === "IN";
  const name = transfer.counterparty ? partyName(transfer.counterparty, texts.say.walletItself) : texts.say.kinds[transfer.kind];
  const when = withDays ? texts.time(line.createdAt) : texts.moment(line.createdAt);
  return (
    <a class="line" href={link("transfers", transfer.id)}>
      <span class={isIn ? "badge in" : "badge"}>
        <Icon name={isIn ? "in" : "out"} />
        <span class="sr">{isIn ? texts.say.gotten : texts.say.sent}</span>
      </span>
      <span class="what">
        <strong>{name}</strong>
        <small>{[transfer.reference || texts.say.kinds[transfer.kind], when].join(" · ")}</small>
      </span>
      <span class="much">
        <Amount money={amount} signed />
        <small>{texts.say.balanceAfter(texts.money(line.balanceAfter))}</small>
      </span>
    </a>
  );
}

interface Party {
  readonly kind: string;
  readonly name: string;
}

export const partyName = (party: Party, walletItself: string): string => (party.kind === "WALLET" ? walletItself : party.name);

/** A name with its kind, which nobody can choose. */
export function Who({ party }: { party: Party | null }) {
  const { say } = useTexts();
  if (!party) return <>—</>;
  return (
    <>
      {partyName(party, say.walletItself)} {party.kind === "MERCHANT" && <span class="tag">{say.merchant}</span>}
    </>
  );
}

export function HoldLine({ hold, onChanged }: { hold: Hold; onChanged: () => void }) {
  const texts = useTexts();
  const { say } = texts;
  const { act, openOf } = useWallet();
  const { run, isBusy, problem } = useAct();
  const open = openOf(hold.id);
  const taken = hold.captured.minorUnits !== "0" ? say.taken(texts.money(hold.captured)) : say.states[hold.state];
  const state = hold.state === "OPEN" ? hold.expiresAt && say.expires(texts.moment(hold.expiresAt)) : taken;
  const close = (operation: "captureHold" | "voidHold") =>
    run(async () => {
      const answer = await act(operation, { holdId: hold.id });
      onChanged();
      return answer;
    });
  return (
    <li class="line hold">
      <span class="badge">
        <Icon name="holds" />
      </span>
      <span class="what">
        <strong>
          <Who party={hold.counterparty} />
        </strong>
        <small>{[hold.reference, state].filter(Boolean).join(" · ")}</small>
      </span>
      <Amount money={hold.amount} />
      {hold.closable && !isBusy && open && <AskAgain intent={open} onAnswer={onChanged} />}
      {hold.closable && (isBusy || !open) && (
        <span class="acts">
          <button type="button" class="small" disabled={isBusy} onClick={() => close("captureHold")}>
            {say.take}
          </button>
          <button type="button" class="small quiet" disabled={isBusy} onClick={() => close("voidHold")}>
            {say.release}
          </button>
        </span>
      )}
      <Problem>{problem}</Problem>
    </li>
  );
}

/** In place of a button that moves money, while what was decided has no answer: a new decision could move it twice. */
export function AskAgain({ intent, onAnswer }: { intent: Intent; onAnswer: () => void }) {
  const texts = useTexts();
  const { again } = useWallet();
  const { run, isBusy, problem } = useAct();
  const ask = () =>
    run(async () => {
      const answer = await again(intent);
      onAnswer();
      return answer;
    });
  return (
    <div class="open" role="status">
      <p>{texts.open(intent).how}</p>
      <Problem>{problem}</Problem>
      <button type="button" disabled={isBusy} onClick={ask}>{isBusy ? texts.say.asking : texts.open(intent).send}</button>
    </div>
  );
}

/** Shows another place at the end of what runs, unless the person has gone elsewhere meanwhile. */
type Lead = (go: () => void) => void;

/** Runs something that asks the wallet: whether it runs, and what went wrong, in the language of the page. */
export function useAct() {
  const texts = useTexts();
  const [isBusy, setBusy] = useState(false);
  const isRunning = useRef(false); // at once, also before the page is drawn again
  const [problem, setProblem] = useState("");
  const run = async (act: (lead: Lead) => Promise<object | void>): Promise<void> => {
    if (isRunning.current) return;
    isRunning.current = true;
    const began = location.href;
    setBusy(true);
    setProblem("");
    try {
      const answer = await act((go) => location.href === began && go());
      if (answer && "retryable" in answer) setProblem(texts.failure(answer as Parameters<typeof texts.failure>[0]));
    } catch (error) {
      const isUnknown = error instanceof RequestFailed && error.retryable;
      if (error instanceof Unanswered && error.sent && isUnknown) setProblem(texts.say.unknownText);
      else setProblem(isUnknown ? texts.say.noAnswer : texts.thrown(error));
    } finally {
      isRunning.current = false;
      setBusy(false);
    }
  };
  return { run, isBusy, problem, setProblem };
}

/** Pages of a list, one after the other; a new `key` begins anew. */
export function usePages<Item>(key: string, ask: (after: string | null) => Promise<{ nodes: Item[]; after: string | null }>) {
  const texts = useTexts();
  const [items, setItems] = useState<readonly Item[]>([]);
  const [after, setAfter] = useState<string | null>(null);
  const [isLoading, setLoading] = useState(true);
  const [problem, setProblem] = useState("");
  const round = useRef(0); // of a list that is not asked for any more the answer is dropped

  const load = async (from: string | null): Promise<void> => {
    const mine = from === null ? ++round.current : round.current;
    setLoading(true);
    setProblem("");
    try {
      const page = await ask(from);
      if (mine !== round.current) return;
      setItems((known) => (from === null ? page.nodes : [...known, ...page.nodes]));
      setAfter(page.after);
    } catch (error) {
      if (mine === round.current) setProblem(texts.thrown(error));
    } finally {
      if (mine === round.current) setLoading(false);
    }
  };
  useEffect(() => void load(null), [key]);
  const more = after === null ? null : () => void load(after);
  return { items, isLoading, problem, more, reload: () => void load(null) };
}

/** Loads the next page as soon as it is seen, and by a click. */
export function More({ more, isLoading }: { more: (() => void) | null; isLoading: boolean }) {
  const { say } = useTexts();
  const button = useRef<HTMLButtonElement>(null);
  const latest = useRef(more);
  latest.current = isLoading ? null : more;
  useEffect(() => {
    if (!button.current) return;
    const observer = new IntersectionObserver(([seen]) => seen?.isIntersecting && latest.current?.(), { rootMargin: "300px" });
    observer.observe(button.current);
    return () => observer.disconnect();
  }, [Boolean(more), isLoading]);
  if (isLoading) return <p class="muted center" role="status">{say.loading}</p>;
  return more && <button ref={button} type="button" class="quiet wide" onClick={more}>{say.more}</button>;
}

/** What a form was filled with, by the names of its inputs. */
export function values(event: JSX.TargetedSubmitEvent<HTMLFormElement> | JSX.TargetedEvent<HTMLFormElement>): Record<string, string> {
  event.preventDefault();
  return Object.fromEntries([...new FormData(event.currentTarget)].map(([name, value]) => [name, String(value)]));
}
