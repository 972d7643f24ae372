// Stripe's form, on a page of its own at `/card`: its policy alone lets Stripe's script in. Not tried against Stripe itself.
import { useEffect, useRef, useState } from "preact/hooks";
import { type Money, ToPayDocument } from "wallet-gql-client";
import { Problem, Screen, useAct } from "../parts.js";
import { link } from "../route.js";
import { Texts, TextsContext, preferredLanguage, useTexts } from "../texts.js";
import { client } from "../wallet.js";

/** What is used of Stripe.js. */
interface Stripe {
  elements(options: { clientSecret: string; locale: string }): Elements;
  confirmPayment(options: { elements: Elements; confirmParams: { return_url: string }; redirect: "if_required" }): Promise<{ error?: { message?: string } }>;
}
interface Elements {
  create(type: "payment"): { mount(place: HTMLElement): void };
}
declare global {
  interface Window {
    Stripe?: (key: string) => Stripe;
  }
}

const stripeKey = (): string => document.querySelector<HTMLMetaElement>("meta[name=stripe-key]")?.content ?? "";
export const isCardPage = (): boolean => Boolean(stripeKey());

/** The top-up that is paid here. */
const topUpId = (): string => new URLSearchParams(location.search).get("topUp") ?? "";
/** Back to the wallet, which says what became of it; the address of this page may have a secret of Stripe's by now. */
const leave = () => location.replace(`./${link("funds", topUpId())}`);

function CardForm() {
  const texts = useTexts();
  const { say } = texts;
  const { run, isBusy, problem, setProblem } = useAct();
  const place = useRef<HTMLDivElement>(null);
  const [form, setForm] = useState<{ stripe: Stripe; elements: Elements; amount: Money } | null>(null);
  const show = async () => {
    if (new URLSearchParams(location.search).has("redirect_status")) return leave(); // Stripe has sent the person back
    const { topUp } = await client.ask(ToPayDocument, { id: topUpId() });
    if (!topUp?.clientSecret || !place.current) return leave(); // paid already, or of somebody else
    const stripe = window.Stripe?.(stripeKey());
    if (!stripe) return setProblem(say.noStripe);
    const elements = stripe.elements({ clientSecret: topUp.clientSecret, locale: texts.language });
    elements.create("payment").mount(place.current);
    setForm({ stripe, elements, amount: topUp.amount });
  };
  useEffect(() => void run(show), []);
  const pay = (stripe: Stripe, elements: Elements) =>
    run(async () => {
      const back = `${location.origin}${location.pathname}?topUp=${encodeURIComponent(topUpId())}`;
      const { error } = await stripe.confirmPayment({ elements, confirmParams: { return_url: back }, redirect: "if_required" });
      if (error) setProblem(error.message ?? say.somethingWrong);
      else leave();
    });
  return (
    <form class="card" onSubmit={(event) => {
      event.preventDefault();
      if (form) void pay(form.stripe, form.elements);
    }}>
      {form && <p class="total">{texts.money(form.amount)}</p>}
      <div ref={place} />
      <Problem>{problem}</Problem>
      {form && <button type="submit" class="wide" disabled={isBusy}>{isBusy ? say.sending : say.confirmPay(texts.money(form.amount))}</button>}
      <button type="button" class="quiet wide" disabled={isBusy} onClick={() => location.replace(`./${link("funds")}`)}>{say.notNow}</button>
    </form>
  );
}

export function CardPage() {
  const [texts] = useState(() => new Texts(preferredLanguage()));
  useEffect(() => {
    document.documentElement.lang = texts.language;
  }, []);
  return (
    <TextsContext.Provider value={texts}>
      <main id="content">
        <div class="enter">
          <Screen title={texts.say.payByCard}>
            <CardForm />
          </Screen>
        </div>
      </main>
    </TextsContext.Provider>
  );
}
