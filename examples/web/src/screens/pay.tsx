// Pay or reserve by name: fill in, check what the wallet says it will do, confirm. One decision has one key.
import { useEffect, useState } from "preact/hooks";
import {
  type PayeeQuery,
  PayeeDocument,
  PreviewDocument,
  type PreviewQuery,
  RequestFailed,
  failureOf,
  parseMoney,
} from "wallet-gql-client";
import { Amount, Field, Icon, NoAccount, Problem, Screen, Select, Who, partyName, useAct, values } from "../parts.js";
import { link } from "../route.js";
import { useTexts } from "../texts.js";
import { Unanswered, client, useWallet } from "../wallet.js";

const HOLD_SECONDS = 7 * 24 * 3600;

type Payee = NonNullable<PayeeQuery["payee"]>;
type Preview = PreviewQuery["preview"];

interface Draft {
  readonly to: string;
  readonly accountId: string;
  readonly amount: string;
  readonly reference: string;
  readonly isHold: boolean;
}

interface Decided {
  readonly draft: Draft;
  readonly payee: Payee;
  readonly minorUnits: string;
  readonly currency: string;
  readonly preview: Preview;
}

/** Whom the name stands for; looked up as soon as the typing pauses. */
function usePayee(name: string, own: string): { payee: Payee | null; problem: string } {
  const texts = useTexts();
  const [found, setFound] = useState<{ name: string; payee: Payee | null; problem: string } | null>(null);
  useEffect(() => {
    if (!name) return;
    const tell = (payee: Payee | null, problem: string) => setFound({ name, payee, problem });
    let isWanted = true;
    const timer = setTimeout(() => {
      if (name.toLowerCase() === own) return tell(null, texts.say.yourself);
      client
        .ask(PayeeDocument, { username: name })
        .then(({ payee }) => isWanted && tell(payee, payee ? "" : texts.say.nobody))
        .catch((error: unknown) => isWanted && tell(null, texts.thrown(error)));
    }, 300);
    return () => {
      isWanted = false;
      clearTimeout(timer);
    };
  }, [name]);
  return found?.name === name ? found : { payee: null, problem: "" };
}

function Form({ start, onChecked }: { start: Draft; onChecked: (decided: Decided) => void }) {
  const texts = useTexts();
  const { say } = texts;
  const { data, exponent } = useWallet();
  const [draft, setDraft] = useState(start);
  const [wrong, setWrong] = useState("");
  const { run, isBusy, problem, setProblem } = useAct();
  const { payee, problem: nobody } = usePayee(draft.to.trim(), data.viewer.username);
  const accounts = data.viewer.accounts.filter(({ state }) => state !== "CLOSED");
  const account = accounts.find(({ id }) => id === draft.accountId) ?? accounts[0];
  if (!account) return <NoAccount />;
  const { currency } = account;
  const accepts = payee?.currencies.includes(currency) ?? true;
  const cannot = payee && !accepts && (payee.currencies.length ? say.cannotReceive(payee.name, payee.currencies.join(", ")) : say.noCurrencies(payee.name));
  const theirs = payee?.currencies ?? [];
  const isToAdd = cannot && theirs.length > 0 && !accounts.some((each) => theirs.includes(each.currency));

  /** What was wrong with what was filled in before is not said of what is there now. */
  const edit = (change: Partial<Draft>) => {
    setDraft({ ...draft, ...change });
    setWrong("");
    setProblem("");
  };
  const check = () => {
    const minor = parseMoney(draft.amount, exponent(currency));
    setWrong(minor === null ? say.badAmount(exponent(currency)) : "");
    if (minor === null) return;
    return run(async () => {
      const to = draft.to.trim();
      const known = payee ?? (await client.ask(PayeeDocument, { username: to })).payee;
      if (!known) throw new RequestFailed("PAYEE_NOT_FOUND", say.nobody, false);
      const amount = { minorUnits: String(minor), currency };
      const recipient = known.kind === "MERCHANT" ? { merchant: known.username } : { username: known.username };
      const { preview } = await client.ask(PreviewDocument, { input: { fromAccountId: account.id, to: recipient, amount } });
      if (preview.refusal) return preview.refusal;
      onChecked({ draft: { ...draft, accountId: account.id }, payee: known, ...amount, preview });
    });
  };

  return (
    <form class="card" onSubmit={(event) => {
      values(event);
      void check();
    }}>
      <Field
        label={say.payTo}
        value={draft.to}
        required
        hint={say.payToHint}
        autoComplete="off"
        autoCapitalize="none"
        spellcheck={false}
        error={nobody || cannot || undefined}
        onInput={(event) => edit({ to: event.currentTarget.value })}
      />
      <p class="found" role="status">{payee && !cannot ? <><Icon name="check" /><Who party={payee} /></> : null}</p>
      {isToAdd && (
        <p class="add-theirs">
          {say.notYours(theirs.length)} {theirs.map((code) => <a key={code} href={link("add", code)}>{say.addThis(code)}</a>)}
        </p>
      )}
      <div class="grid">
        <Field
          label={say.amount}
          value={draft.amount}
          required
          inputMode="decimal"
          autoComplete="off"
          error={wrong || undefined}
          onInput={(event) => edit({ amount: event.currentTarget.value })}
        />
        <Select
          label={say.currency}
          value={account.id}
          options={accounts.map((each) => [each.id, `${each.currency} · ${texts.money(each.available)}`])}
          onChange={(accountId) => edit({ accountId })}
        />
      </div>
      <Field
        label={`${say.reference} (${say.optional})`}
        value={draft.reference}
        maxLength={140}
        autoComplete="off"
        onInput={(event) => edit({ reference: event.currentTarget.value })}
      />
      <label class="check">
        <input type="checkbox" checked={draft.isHold} onChange={(event) => edit({ isHold: event.currentTarget.checked })} />
        <span>
          {say.reserve}
          <small>{say.reserveHint}</small>
        </span>
      </label>
      <Problem>{problem}</Problem>
      <button type="submit" class="wide" disabled={isBusy || Boolean(cannot)}>{isBusy ? say.loading : say.next}</button>
    </form>
  );
}

interface Outcome {
  readonly transferId: string | null;
  readonly isHold: boolean;
  readonly isCredited: boolean;
}

/** Decide and send; null after a refusal, which `run` shows. */
async function confirm({ draft, payee, minorUnits, currency }: Decided, act: ReturnType<typeof useWallet>["act"]) {
  const common = { fromAccountId: draft.accountId, amount: { minorUnits, currency }, reference: draft.reference.trim() };
  const to = { username: payee.username };
  if (payee.kind === "MERCHANT")
    return act("payMerchant", { ...common, merchant: payee.username, ...(draft.isHold ? { hold: { expiresInSeconds: HOLD_SECONDS } } : {}) });
  return draft.isHold ? act("placeHold", { ...common, to, expiresInSeconds: HOLD_SECONDS }) : act("transfer", { ...common, to });
}

type Answer = Awaited<ReturnType<typeof confirm>>;

function outcomeOf(answer: Answer, isHold: boolean): Outcome {
  const transferId = ("transfer" in answer && answer.transfer?.id) || ("payment" in answer && answer.payment?.id) || null;
  return { transferId, isHold, isCredited: !("credited" in answer) || answer.credited };
}

function Review({ decided, onBack, onDone, onUnknown }: {
  decided: Decided;
  onBack: () => void;
  onDone: (outcome: Outcome) => void;
  onUnknown: (key: string) => void;
}) {
  const texts = useTexts();
  const { say } = texts;
  const { act, exponent } = useWallet();
  const { run, isBusy, problem } = useAct();
  const { draft, payee, preview } = decided;
  const amount = texts.minor(BigInt(decided.minorUnits), decided.currency, exponent(decided.currency));
  const send = () =>
    run(async () => {
      // docs: begin confirm
      try {
        const answer = await confirm(decided, act);
        if (failureOf(answer)) return answer;
        onDone(outcomeOf(answer, draft.isHold));
      } catch (error) {
        // While its key is kept the outcome is open. Without one nothing was done.
        if (error instanceof Unanswered) return onUnknown(error.key);
        throw error;
      }
      // docs: end
    });
  return (
    <section class="card">
      <p class="total">{amount}</p>
      <dl>
        <div><dt>{say.to}</dt><dd><Who party={payee} /></dd></div>
        <div><dt>{say.username}</dt><dd>{payee.username}</dd></div>
        {draft.reference.trim() && <div><dt>{say.reference}</dt><dd>{draft.reference.trim()}</dd></div>}
        {preview.fee && preview.fee.minorUnits !== "0" && <div><dt>{say.fee}</dt><dd><Amount money={preview.fee} /></dd></div>}
        {preview.received && preview.fee?.minorUnits !== "0" && <div><dt>{say.theyGet}</dt><dd><Amount money={preview.received} /></dd></div>}
        {preview.remaining && <div><dt>{say.youHaveLeft}</dt><dd><Amount money={preview.remaining} /></dd></div>}
      </dl>
      <Problem>{problem}</Problem>
      <div class="acts">
        <button type="button" class="quiet" disabled={isBusy} onClick={onBack}><Icon name="back" />{say.back}</button>
        <button type="button" class="grow" disabled={isBusy} onClick={send}>
          {isBusy ? say.sending : draft.isHold ? say.confirmReserve(amount) : say.confirmPay(amount)}
        </button>
      </div>
    </section>
  );
}

function Done({ decided, outcome, onAgain }: { decided: Decided; outcome: Outcome; onAgain: () => void }) {
  const texts = useTexts();
  const { say } = texts;
  const { exponent } = useWallet();
  const { payee, minorUnits, currency } = decided;
  const amount = texts.minor(BigInt(minorUnits), currency, exponent(currency));
  const name = partyName(payee, say.walletItself);
  return (
    <section class="card done" role="status">
      <span class="badge in large"><Icon name="check" /></span>
      <h2>{outcome.isHold ? say.reserved(amount, name) : say.paid(amount, name)}</h2>
      {!outcome.isCredited && <p class="muted">{say.onItsWay}</p>}
      <div class="acts">
        {outcome.transferId && <a class="button" href={link("transfers", outcome.transferId)}>{say.details}</a>}
        {outcome.isHold && <a class="button" href={link("holds")}>{say.holds}</a>}
        <button type="button" class="quiet" onClick={onAgain}>{say.another}</button>
      </div>
    </section>
  );
}

type Step = { at: "form"; draft: Draft } | { at: "review"; decided: Decided } | { at: "done"; decided: Decided; outcome: Outcome } | { at: "unknown"; key: string };

export function Pay({ to }: { to: string }) {
  const texts = useTexts();
  const { say } = texts;
  const { pending } = useWallet();
  const empty: Draft = { to, accountId: "", amount: "", reference: "", isHold: false };
  const [step, setStep] = useState<Step>({ at: "form", draft: empty });
  const open = step.at === "unknown" && pending.find(({ key }) => key === step.key);
  const again = () => setStep({ at: "form", draft: { ...empty, to: "" } });
  return (
    <Screen title={step.at === "review" ? say.review : say.pay}>
      <div class="narrow">
        {step.at === "form" && <Form start={step.draft} onChecked={(decided) => setStep({ at: "review", decided })} />}
        {step.at === "review" && (
          <Review
            decided={step.decided}
            onBack={() => setStep({ at: "form", draft: step.decided.draft })}
            onDone={(outcome) => setStep({ at: "done", decided: step.decided, outcome })}
            onUnknown={(key) => setStep({ at: "unknown", key })}
          />
        )}
        {step.at === "done" && <Done decided={step.decided} outcome={step.outcome} onAgain={again} />}
        {step.at === "unknown" && (
          <section class="card done" role="alert">
            <h2>{open ? texts.open(open).what : say.settled}</h2>
            {open && <p>{texts.open(open).how}</p>}
            {!open && <button type="button" class="quiet" onClick={again}>{say.another}</button>}
            <a class="button" href={link("history")}>{say.history}</a>
          </section>
        )}
      </div>
    </Screen>
  );
}
