// The chosen language, and how its people write amounts and times.
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { type Failure, type Money, RequestFailed, formatMoney, toDecimal } from "wallet-gql-client";
import { LANGUAGES, type Language, type Messages } from "./messages.js";

const KEPT = "wallet:language";

/** The language that was chosen, else the browser's. */
export function preferredLanguage(): Language {
  const kept = localStorage.getItem(KEPT);
  const wanted = [kept ?? "", ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase());
  return (wanted.find((tag) => tag in LANGUAGES) ?? "en") as Language;
}

/** On one line. */
const unbroken = (text: string): string => text.replace(/\s/g, "\u00a0");

export class Texts {
  readonly say: Messages;
  /** With the region, which the browser knows: en-GB and en-US write dates in two ways. */
  readonly locale: string;

  constructor(readonly language: Language) {
    this.say = LANGUAGES[language];
    this.locale = navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;
  }

  /** What is said of a decision that has no answer, and of the button that sends it. */
  open({ sent }: { readonly sent: boolean }): { what: string; how: string; send: string } {
    const { unknown, unknownText, askAgain, oldUnsent, unsentText, sendNow } = this.say;
    if (sent) return { what: unknown, how: unknownText, send: askAgain };
    return { what: oldUnsent, how: unsentText, send: sendNow };
  }

  keep(): void {
    localStorage.setItem(KEPT, this.language);
  }

  money(amount: Pick<Money, "decimal" | "currency">, signed = false): string {
    return formatMoney(amount, this.locale, { signed });
  }

  minor(minorUnits: bigint, currency: string, exponent: number): string {
    return this.money({ decimal: toDecimal(minorUnits, exponent), currency });
  }

  day(at: string): string {
    return new Intl.DateTimeFormat(this.locale, { dateStyle: "full" }).format(new Date(at));
  }

  time(at: string): string {
    return unbroken(new Intl.DateTimeFormat(this.locale, { timeStyle: "short" }).format(new Date(at)));
  }

  /** The year is told only if it is not this one. */
  moment(at: string): string {
    const isThisYear = new Date(at).getFullYear() === new Date().getFullYear();
    const style = isThisYear ? ({ month: "short", day: "numeric" } as const) : ({ dateStyle: "medium" } as const);
    return `${unbroken(new Intl.DateTimeFormat(this.locale, style).format(new Date(at)))}, ${this.time(at)}`;
  }

  currencyName(code: string): string {
    return new Intl.DisplayNames(this.locale, { type: "currency" }).of(code) ?? code;
  }

  /** What an error means, in the language, else in the wallet's English. */
  problem(code: string, message: string): string {
    return this.say.errors[code] ?? message;
  }

  failure(failure: Failure): string {
    if ("available" in failure && failure.available) return this.say.only(this.money(failure.available));
    if ("remaining" in failure && failure.remaining)
      return this.say.limited(this.money(failure.remaining), failure.freeAt ? this.moment(failure.freeAt) : null);
    const problems = "problems" in failure ? failure.problems : [];
    if (problems.length) return problems.map(({ code, message }) => this.problem(code, message)).join(" ");
    return this.problem(failure.code, failure.message);
  }

  thrown(error: unknown): string {
    if (!(error instanceof RequestFailed)) return this.say.somethingWrong;
    if (error.code === "UNAUTHENTICATED") return this.say.sessionOver;
    return error.code === "NO_ANSWER" ? this.say.noAnswer : this.problem(error.code, error.message);
  }
}

export const TextsContext = createContext<Texts>(new Texts("en"));
export const useTexts = (): Texts => useContext(TextsContext);
