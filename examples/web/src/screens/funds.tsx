// Money in, by a card, and out, to the bank: a form for each, and what became of all that was begun.
import { useEffect, useState } from "preact/hooks";
import { type AnswerOf, FundsDocument, type Intent, LogInDocument, ToPayDocument, failureOf, parseMoney, successOf } from "wallet-gql-client";
import { Amount, Field, Icon, NoAccount, Problem, Screen, Select, useAct, values } from "../parts.js";
import { link } from "../route.js";
import { useTexts } from "../texts.js";
import { type Fund, Unanswered, client, useWallet } from "../wallet.js";

const FIRST = 20;
type Way = "topUp" | "withdraw";

/** Where a card pays, as the server says: at the stand-in for Stripe, on the page with Stripe's form, or nowhere. */
const cardPage = (): string => document.querySelector<HTMLMetaElement>("meta[name=card-page]")?.content ?? "";

/** Leave for the card page, which comes back to this one. The secret goes in the body, so it is in no address. */
// docs: begin card
function goToCardPage(clientSecret: string, id: string): void {
  if (!cardPage().startsWith("http")) return location.assign(`${cardPage()}?topUp=${encodeURIComponent(id)}`); // our own
  const back = (argument: string) => `${location.origin}${location.pathname}${link("funds", argument)}`;
  const form = Object.assign(document.createElement("form"), { method: "post", action: cardPage(), hidden: true });
  const fields = { client_secret: clientSecret, success_url: back(id), cancel_url: back("") };
  for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement("input"), { name, value }));
  document.body.append(form);
  form.submit();
  form.remove();
}
// docs: end

/** The amount in one of the user's currencies. */
function Amounts({ way, isBusy, onEdit, onDecided }: {
  way: Way;
  isBusy: boolean;
  onEdit: () => void;
  onDecided: (accountId: string, minorUnits: string, currency: string) => void;
}) {
  const texts = useTexts();
  const { say } = texts;
  const { data, exponent } = useWallet();
  const [amount, setAmount] = useState("");
  const [chosen, setChosen] = useState("");
  const [wrong, setWrong] = useState("");
  const accounts = data.viewer.accounts.filter(({ state }) => state !== "CLOSED");
  const account = accounts.find(({ id }) => id === chosen) ?? accounts[0];
  if (!account) return <NoAccount />;
  const edit = () => {
    setWrong("");
    onEdit();
  };
  return (
    <form class="card" onInput={edit} onSubmit={(event) => {
      values(event);
      const minor = parseMoney(amount, exponent(account.currency));
      setWrong(minor === null ? say.badAmount(exponent(account.currency)) : "");
      if (minor !== null) onDecided(account.id, String(minor), account.currency);
    }}>
      <p class="muted">{way === "topUp" ? say.topUpText : say.withdrawText}</p>
      <div class="grid">
        <Field
          label={say.amount}
          value={amount}
          required
          inputMode="decimal"
          autoComplete="off"
          error={wrong || undefined}
          onInput={(event) => setAmount(event.currentTarget.value)}
        />
        <Select
          label={say.currency}
          value={account.id}
          options={accounts.map((each) => [each.id, `${each.currency} · ${texts.money(each.available)}`])}
          onChange={setChosen}
        />
      </div>
      <button type="submit" class="wide" disabled={isBusy}>{isBusy ? say.sending : way === "topUp" ? say.toCard : say.withdraw}</button>
    </form>
  );
}

function TopUp({ onBegun }: { onBegun: (fund: Fund) => void }) {
  const { say } = useTexts();
  const { act } = useWallet();
  const { run, isBusy, problem, setProblem } = useAct();
  const decided = (toAccountId: string, minorUnits: string, currency: string) =>
    run(async (lead) => {
      const answer = await act("topUp", { toAccountId, amount: { minorUnits, currency } });
      const begun = successOf(answer);
      const { topUp, clientSecret } = begun ?? {};
      if (topUp) onBegun(topUp);
      if (topUp && clientSecret) lead(() => goToCardPage(clientSecret, topUp.id));
      return answer;
    });
  if (!cardPage()) return <p class="card">{say.noCardPage}</p>;
  return (
    <>
      <Amounts way="topUp" isBusy={isBusy} onEdit={() => setProblem("")} onDecided={decided} />
      <Problem>{problem}</Problem>
    </>
  );
}

/** The password again, since the log-in was too long ago to take money out; then the same key is sent. */
function Password({ intent, onAnswer }: { intent: Intent; onAnswer: () => void }) {
  const { say } = useTexts();
  const { data, again, discard } = useWallet();
  const { run, isBusy, problem } = useAct();
  const send = (password: string) =>
    run(async () => {
      const { answer } = await client.ask(LogInDocument, { input: { login: data.viewer.username, password, session: "COOKIE" } });
      if (answer && failureOf(answer)) return answer;
      const result = await again(intent);
      onAnswer();
      return result;
    });
  return (
    <form class="card" onSubmit={(event) => void send(values(event)["password"] ?? "")}>
      <p role="alert">{say.freshLogIn}</p>
      <Field label={say.passwordLabel} name="password" type="password" required autoComplete="current-password" />
      <Problem>{problem}</Problem>
      <div class="acts">
        <button type="button" class="quiet" disabled={isBusy} onClick={() => {
          discard(intent);
          onAnswer();
        }}>{say.discard}</button>
        <button type="submit" class="grow" disabled={isBusy}>{isBusy ? say.sending : say.withdraw}</button>
      </div>
    </form>
  );
}

function Withdraw({ onBegun }: { onBegun: (fund: Fund) => void }) {
  const texts = useTexts();
  const { act, again, pending } = useWallet();
  const { run, isBusy, problem, setProblem } = useAct();
  const [stale, setStale] = useState("");
  const open = pending.find(({ operation }) => operation === "withdraw") as Intent<"withdraw"> | undefined;
  const attempt = (send: () => Promise<AnswerOf<"withdraw">>) =>
    run(async () => {
      try {
        const answer = await send();
        const begun = successOf(answer);
        if (begun?.withdrawal) onBegun(begun.withdrawal);
        return answer;
      } catch (error) {
        if (!(error instanceof Unanswered) || error.code !== "FRESH_LOG_IN_REQUIRED") throw error;
        setStale(error.key);
      }
    });
  if (open?.key === stale) return <Password intent={open} onAnswer={() => setStale("")} />;
  if (open && !isBusy) // a new decision could take the money out twice
    return (
      <section class="card" role="status">
        <p>{texts.open(open).how}</p>
        <Problem>{problem}</Problem>
        <button type="button" onClick={() => attempt(() => again(open))}>{texts.open(open).send}</button>
      </section>
    );
  return (
    <>
      <Amounts
        way="withdraw"
        isBusy={isBusy}
        onEdit={() => setProblem("")}
        onDecided={(fromAccountId, minorUnits, currency) => attempt(() => act("withdraw", { fromAccountId, amount: { minorUnits, currency } }))}
      />
      <Problem>{problem}</Problem>
    </>
  );
}

function FundLine({ fund, isBack }: { fund: Fund; isBack: boolean }) {
  const texts = useTexts();
  const { say } = texts;
  const { tell } = useWallet();
  const { run, isBusy, problem, setProblem } = useAct();
  const isIn = fund.__typename === "TopUp";
  const isToPay = isIn && fund.state === "AWAITING_PAYMENT" && !isBack;
  const state = isIn && isBack && fund.state === "AWAITING_PAYMENT" ? say.cardAsked : (say.fundStates[fund.state] ?? fund.state);
  const pay = () =>
    run(async (lead) => {
      const { topUp } = await client.ask(ToPayDocument, { id: fund.id });
      const secret = topUp?.clientSecret;
      if (secret) return lead(() => goToCardPage(secret, fund.id));
      if (topUp) tell([topUp]);
      setProblem(say.noAnswer); // of the card payments
    });
  return (
    <li class="line hold" data-state={fund.state}>
      <span class={isIn ? "badge in" : "badge"}><Icon name={isIn ? "in" : "out"} /></span>
      <span class="what">
        <strong>{isIn ? say.aTopUp : say.kinds.WITHDRAWAL}</strong>
        <small>{[state, fund.failure, texts.moment(fund.createdAt)].filter(Boolean).join(" · ")}</small>
      </span>
      <Amount money={fund.amount} />
      {isToPay && cardPage() && (
        <span class="acts"><button type="button" class="small" disabled={isBusy} onClick={pay}>{say.payByCard}</button></span>
      )}
      <Problem>{problem}</Problem>
    </li>
  );
}

/** @param back the top-up from whose card page the person came back */
export function Funds({ back }: { back: string }) {
  const { say } = useTexts();
  const { funds, tell } = useWallet();
  const { run, problem } = useAct();
  const [way, setWay] = useState<Way>("topUp");
  const load = () =>
    run(async () => {
      const { viewer } = await client.ask(FundsDocument, { first: FIRST });
      if (viewer) tell([...viewer.topUps.nodes, ...viewer.withdrawals.nodes]);
    });
  useEffect(() => void load(), []);
  const ways: [Way, string][] = [["topUp", say.topUp], ["withdraw", say.withdraw]];
  return (
    <Screen title={say.funds}>
      <div class="halves">
        <section class="screen">
          <div class="choices" role="group" aria-label={say.funds}>
            {ways.map(([each, text]) => (
              <button key={each} type="button" aria-pressed={each === way} onClick={() => setWay(each)}>{text}</button>
            ))}
          </div>
          {way === "topUp" ? <TopUp onBegun={(fund) => tell([fund])} /> : <Withdraw onBegun={(fund) => tell([fund])} />}
        </section>
        <section class={back ? "card first" : "card"} aria-live="polite">
          <h2>{say.funded}</h2>
          <ul class="lines">{funds.map((fund) => <FundLine key={fund.id} fund={fund} isBack={fund.id === back} />)}</ul>
          {!funds.length && <p class="muted">{say.nothing}</p>}
          <Problem>{problem}</Problem>
        </section>
      </div>
    </Screen>
  );
}
