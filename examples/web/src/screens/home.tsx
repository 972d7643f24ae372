// Balances, the latest entries, what is reserved for the user: one request, then events.
import { useEffect, useRef, useState } from "preact/hooks";
import { type AccountStateFragment as Account, OpenAccountDocument, failureOf } from "wallet-gql-client";
import { HoldLine, Icon, Lines, Problem, Screen, Select, useAct } from "../parts.js";
import { link } from "../route.js";
import { useTexts } from "../texts.js";
import { client, useWallet } from "../wallet.js";

function Balance({ account }: { account: Account }) {
  const texts = useTexts();
  const { available, exponent } = useWallet();
  const { say } = texts;
  return (
    <li class="balance" data-currency={account.currency}>
      <span class="code">{texts.currencyName(account.currency)}</span>
      <strong class="big">{texts.minor(available(account), account.currency, exponent(account.currency))}</strong>
      <small>
        {account.state !== "OPEN" && <span class="tag">{account.state === "FROZEN" ? say.frozen : say.closed}</span>}{" "}
        {account.held.minorUnits !== "0" ? say.reservedOf(texts.money(account.held)) : say.available}
      </small>
    </li>
  );
}

const FIRST = ["EUR", "USD", "GBP", "CHF", "JPY", "KWD"];

/** @param wanted what somebody was led here for: a currency, or any */
function AddCurrency({ wanted }: { wanted: string | undefined }) {
  const texts = useTexts();
  const { say } = texts;
  const { data, reload } = useWallet();
  const { run, isBusy, problem, setProblem } = useAct();
  const own = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    if (wanted) own.current?.querySelector("select")?.focus();
  }, []);
  const had = new Set(data.viewer.accounts.filter(({ state }) => state !== "CLOSED").map(({ currency }) => currency));
  const codes = [...new Set([...FIRST, ...data.exponents.keys()])].filter((code) => data.exponents.has(code) && !had.has(code));
  const [chosen, setChosen] = useState(wanted);
  const currency = codes.find((code) => code === chosen) ?? codes[0] ?? "";
  const open = () =>
    run(async (lead) => {
      const { answer } = await client.ask(OpenAccountDocument, { input: { currency } });
      if (answer && failureOf(answer)) return answer;
      await reload();
      if (wanted) lead(() => (location.hash = link(""))); // where the new balance is
    });
  return (
    <details class="card add" ref={own} open={Boolean(wanted) || had.size === 0}>
      <summary>{say.openAccount}</summary>
      <Select
        label={say.currency}
        value={currency}
        options={codes.map((code) => [code, `${code} · ${texts.currencyName(code)}`])}
        onChange={(code) => {
          setChosen(code);
          setProblem("");
        }}
      />
      <Problem>{problem}</Problem>
      <button type="button" disabled={isBusy} onClick={open}>{say.open}</button>
    </details>
  );
}

function Receive() {
  const { say } = useTexts();
  const { data } = useWallet();
  const [isCopied, setCopied] = useState(false);
  const { username } = data.viewer;
  const copy = async () => {
    await navigator.clipboard.writeText(`${location.origin}${location.pathname}${link("pay", username)}`);
    setCopied(true);
  };
  return (
    <section class="card receive">
      <h2>{say.receive}</h2>
      <p><strong class="name">{username}</strong></p>
      <p class="muted">{say.receiveText}</p>
      <button type="button" class="quiet" onClick={copy}>{isCopied ? say.copied : say.copyLink}</button>
      <span class="sr" role="status">{isCopied ? say.copied : ""}</span>
    </section>
  );
}

/** @param add the currency that is to be added here, or `any` */
export function Home({ add }: { add?: string }) {
  const { say } = useTexts();
  const { data, reload } = useWallet();
  const { accounts, history, holds } = data.viewer;
  const shown = accounts.filter(({ state }) => state !== "CLOSED");
  return (
    <Screen title={say.home} aside={
      <span class="acts">
        <a class="button quiet" href={link("funds")}><Icon name="funds" />{say.funds}</a>
        <a class="button" href={link("pay")}><Icon name="pay" />{say.pay}</a>
      </span>
    }>
      <div class="home">
        <div>
          <section class="balances">
            <h2 class="sr">{say.balances}</h2>
            {shown.length ? (
              <ul>{shown.map((account) => <Balance key={account.id} account={account} />)}</ul>
            ) : (
              <p class="muted">{say.firstAccount}</p>
            )}
          </section>
        </div>
        <div class="activity">
          {holds.nodes.length > 0 && (
            <section class="card">
              <h2>{say.incomingHolds(holds.nodes.length)}</h2>
              <ul class="lines">
                {holds.nodes.map((hold) => <HoldLine key={hold.id} hold={hold} onChanged={reload} />)}
              </ul>
            </section>
          )}
          <section class="card">
            <header class="row">
              <h2>{say.recent}</h2>
              <a href={link("history")}>{say.all}</a>
            </header>
            {history.nodes.length ? <Lines lines={history.nodes} /> : <p class="muted">{say.nothing}</p>}
          </section>
        </div>
        <div>
          <AddCurrency wanted={add} />
          <Receive />
        </div>
      </div>
    </Screen>
  );
}
