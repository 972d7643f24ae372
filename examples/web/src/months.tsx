// Choosing an account and a month: of a statement, of a merchant's sales.
import { Select } from "./parts.js";
import { useTexts } from "./texts.js";
import { useWallet } from "./wallet.js";

const MONTHS = 12;

/** The first of a month where the user is; `ago` 0 is this month's. */
export function firstOf(ago: number): Date {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth() - ago, 1);
}

/** A month as the wallet is asked for it. */
export const spanOf = (ago: number) => ({ since: firstOf(ago).toISOString(), until: firstOf(ago - 1).toISOString() });

export interface Chosen {
  readonly account: string;
  readonly ago: number;
}

export function AccountAndMonth({ chosen, onChange }: { chosen: Chosen; onChange: (chosen: Chosen) => void }) {
  const texts = useTexts();
  const { say } = texts;
  const { accounts } = useWallet().data.viewer;
  const months = Array.from({ length: MONTHS }, (_, each): [string, string] => {
    const month = new Intl.DateTimeFormat(texts.locale, { month: "long", year: "numeric" }).format(firstOf(each));
    return [String(each), month];
  });
  return (
    <div class="card grid">
      <Select
        label={say.account}
        value={chosen.account}
        options={accounts.map(({ id, currency }) => [id, `${currency} · ${texts.currencyName(currency)}`])}
        onChange={(account) => onChange({ ...chosen, account })}
      />
      <Select label={say.month} value={String(chosen.ago)} options={months} onChange={(ago) => onChange({ ...chosen, ago: Number(ago) })} />
    </div>
  );
}
