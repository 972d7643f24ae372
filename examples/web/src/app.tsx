// The frame: who is logged in, where one is, and what one is told meanwhile.
import { useEffect, useState } from "preact/hooks";
import { type Intent, LogOutDocument, type Money, RequestFailed, failureOf } from "wallet-gql-client";
import { LANGUAGES, type Language } from "./messages.js";
import { Icon, type IconName, Problem, useAct } from "./parts.js";
import { type Route, link, useRoute } from "./route.js";
import { Enter } from "./screens/enter.js";
import { Funds } from "./screens/funds.js";
import { History } from "./screens/history.js";
import { Holds } from "./screens/holds.js";
import { Home } from "./screens/home.js";
import { Pay } from "./screens/pay.js";
import { Sales } from "./screens/sales.js";
import { Security } from "./screens/security.js";
import { Statement } from "./screens/statement.js";
import { TransferDetail } from "./screens/transfer.js";
import { Texts, TextsContext, preferredLanguage, useTexts } from "./texts.js";
import { WalletContext, client, isLeft, useWallet, useWalletState } from "./wallet.js";

const SCREENS: readonly (readonly [screen: string, icon: IconName])[] = [
  ["", "home"],
  ["history", "history"],
  ["pay", "pay"],
  ["holds", "holds"],
  ["statement", "statement"],
  ["security", "security"],
];
/** Where the menu leads a merchant, too. */
const SALES: readonly [string, IconName] = ["sales", "sales"];
/** Screens that are not in the menu, and that which leads there. */
const PARENTS: Readonly<Record<string, string>> = { add: "", funds: "", transfers: "history" };
const NOTICE_MS = 6_000;

function Content({ route }: { route: Route }) {
  switch (route.screen) {
    case "history":
      return <History />;
    case "transfers":
      return <TransferDetail id={route.argument} />;
    case "pay":
      return <Pay to={route.argument} />;
    case "funds":
      return <Funds back={route.argument} />;
    case "sales":
      return <Sales />;
    case "holds":
      return <Holds />;
    case "statement":
      return <Statement />;
    case "security":
      return <Security />;
    case "add":
      return <Home add={route.argument || "any"} />;
    default:
      return <Home />;
  }
}

function Navigation({ route }: { route: Route }) {
  const { say } = useTexts();
  const { merchant } = useWallet().data.viewer;
  const here = PARENTS[route.screen] ?? route.screen;
  return (
    <nav aria-label={say.nav}>
      {[...SCREENS, ...(merchant ? [SALES] : [])].map(([screen, icon]) => (
        <a key={screen} href={link(screen)} aria-current={here === screen ? "page" : undefined}>
          <Icon name={icon} />
          <span>{say[icon as "home"]}</span>
        </a>
      ))}
    </nav>
  );
}

function Languages({ onChange }: { onChange: (language: Language) => void }) {
  const { say, language } = useTexts();
  return (
    <select
      class="language"
      aria-label={say.language}
      value={language}
      onChange={(event) => onChange(event.currentTarget.value as Language)}
    >
      {Object.keys(LANGUAGES).map((each) => <option key={each} value={each}>{each.toUpperCase()}</option>)}
    </select>
  );
}

/** One that is not sent by itself: what it was, and the person says what becomes of it. */
function Left({ intent }: { intent: Intent }) {
  const texts = useTexts();
  const { say } = texts;
  const { again, discard, exponent } = useWallet();
  const { run, isBusy, problem } = useAct();
  const { to, merchant, amount } = intent.input as { to?: { username?: string }; merchant?: string; amount?: Omit<Money, "decimal"> };
  const money = amount && texts.minor(BigInt(amount.minorUnits), amount.currency, exponent(amount.currency));
  const what = [say.operations[intent.operation], money, to?.username ?? merchant, texts.moment(intent.decidedAt)];
  return (
    <aside class="card unanswered" role="status">
      <p>{what.filter(Boolean).join(" · ")}<br />{intent.sent ? say.oldUnknown : say.oldUnsent}</p>
      <div class="acts">
        <button type="button" class="small" disabled={isBusy} onClick={() => run(() => again(intent))}>{isBusy ? say.asking : say.sendNow}</button>
        {!intent.sent && <button type="button" class="small quiet" disabled={isBusy} onClick={() => discard(intent)}>{say.discard}</button>}
      </div>
      <Problem>{problem}</Problem>
    </aside>
  );
}

/** What has no answer yet: it is asked again with its key, by itself after a reload, and by a click. */
function Unanswered() {
  const { say } = useTexts();
  const { pending, resume } = useWallet();
  const { run, isBusy, problem } = useAct();
  const left = pending.filter(isLeft);
  const recent = pending.length - left.length;
  return (
    <>
      {left.map((intent) => <Left key={intent.key} intent={intent} />)}
      {recent > 0 && (
        <aside class="card unanswered" role="status">
          <p>{say.unanswered(recent)}</p>
          <button type="button" class="small" disabled={isBusy} onClick={() => run(resume)}>{isBusy ? say.asking : say.askAgain}</button>
          <Problem>{problem}</Problem>
        </aside>
      )}
    </>
  );
}

/** Tells of money that has just arrived. */
function Notices() {
  const texts = useTexts();
  const { news } = useWallet();
  const [hidden, setHidden] = useState(0);
  useEffect(() => {
    const timer = setTimeout(() => setHidden(news.length), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [news.length]);
  const shown = news.slice(0, Math.max(0, news.length - hidden)).filter(({ transfer }) => transfer.direction === "IN");
  return (
    <div class="notices" role="status" aria-live="polite">
      {shown.slice(0, 3).map(({ transfer, amount }) => (
        <a class="notice" key={transfer.id} href={link("transfers", transfer.id)}>
          {texts.say.received(texts.money(amount), transfer.counterparty?.name ?? "")}
        </a>
      ))}
    </div>
  );
}

function Account() {
  const { say } = useTexts();
  const { data, isLive, leave } = useWallet();
  const { run, isBusy, problem } = useAct();
  const out = () =>
    run(async () => {
      const { answer } = await client.ask(LogOutDocument, {});
      if (!answer) throw new RequestFailed("NO_ANSWER", "", true); // the session may still be there
      if (failureOf(answer)) return answer;
      leave();
    });
  return (
    <>
      <span class={isLive ? "live on" : "live"} role="status">{isLive ? say.live : say.offline}</span>
      <span class="me">{data.viewer.username}</span>
      <button type="button" class="small quiet" disabled={isBusy} onClick={out}>{say.logOut}</button>
      <Problem>{problem}</Problem>
    </>
  );
}

export function App() {
  const [texts, setTexts] = useState(() => new Texts(preferredLanguage()));
  const { state, wallet, enter } = useWalletState();
  const route = useRoute();
  const { say } = texts;
  useEffect(() => {
    document.documentElement.lang = texts.language;
  }, [texts]);
  const choose = (language: Language) => {
    const chosen = new Texts(language);
    chosen.keep();
    setTexts(chosen);
  };
  return (
    <TextsContext.Provider value={texts}>
      <WalletContext.Provider value={wallet}>
        <a class="skip" href="#content" onClick={(event) => {
          event.preventDefault(); // the part after # is the address
          document.getElementById("content")?.focus();
        }}>{say.skip}</a>
        <header class="top">
          <a class="brand" href={link("")}><span aria-hidden="true" class="mark" />{say.appName}</a>
          {wallet && <Navigation route={route} />}
          <div class="me-and-more">
            {wallet && <Account />}
            <Languages onChange={choose} />
          </div>
        </header>
        <main id="content" tabIndex={-1}>
          {wallet && <Problem>{state.error ? texts.thrown(state.error) : ""}</Problem>}
          {wallet && <Unanswered />}
          {wallet ? <Content key={route.visit} route={route} /> : <Outside phase={state.phase} error={state.error} enter={enter} />}
        </main>
        {wallet && <Notices />}
      </WalletContext.Provider>
    </TextsContext.Provider>
  );
}

function Outside({ phase, error, enter }: { phase: string; error: unknown; enter: () => Promise<void> }) {
  const texts = useTexts();
  if (phase === "out") return <Enter onEntered={enter} reason={error} />;
  if (phase !== "failed") return <p class="muted center" role="status">{texts.say.loading}</p>;
  return (
    <div class="enter">
      <Problem>{texts.thrown(error)}</Problem>
      <button type="button" onClick={() => void enter()}>{texts.say.askAgain}</button>
    </div>
  );
}
