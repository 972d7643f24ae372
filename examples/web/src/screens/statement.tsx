// One account in one month: balances before and after, all entries, and the same as CSV.
import { useEffect, useState } from "preact/hooks";
import { type LineFragment as Line, type Money, StatementDocument } from "wallet-gql-client";
import { download, toCsv } from "../csv.js";
import { AccountAndMonth, firstOf, spanOf } from "../months.js";
import { Amount, Lines, NoAccount, Problem, Screen } from "../parts.js";
import { useTexts } from "../texts.js";
import { client, useWallet } from "../wallet.js";

interface Found {
  readonly opening: Money;
  readonly closing: Money;
  readonly lines: readonly Line[];
}

async function load(account: string, ago: number): Promise<Found | null> {
  const span = spanOf(ago);
  const lines: Line[] = [];
  for (let after: string | null = null; ; ) {
    const answer: { account: { statement: Found & { entries: Page } } | null } = await client.ask(StatementDocument, {
      ...span,
      account,
      after,
    }) as never;
    if (!answer.account) return null;
    const { opening, closing, entries } = answer.account.statement;
    lines.push(...entries.nodes);
    if (!entries.pageInfo.hasNextPage) return { opening, closing, lines };
    after = entries.pageInfo.endCursor;
  }
}

interface Page {
  readonly nodes: Line[];
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
}

export function Statement() {
  const { say } = useTexts();
  const { accounts } = useWallet().data.viewer;
  return accounts.length ? <OfAccount /> : <Screen title={say.statement}><NoAccount /></Screen>;
}

function OfAccount() {
  const texts = useTexts();
  const { say } = texts;
  const { data } = useWallet();
  const { accounts } = data.viewer;
  const [chosen, setChosen] = useState({ account: accounts[0]?.id ?? "", ago: 0 });
  const { account, ago } = chosen;
  const [found, setFound] = useState<Found | null | undefined>();
  const [problem, setProblem] = useState("");
  const currency = accounts.find(({ id }) => id === account)?.currency ?? "";
  useEffect(() => {
    let isWanted = Boolean(account);
    setFound(undefined);
    setProblem("");
    if (isWanted)
      load(account, ago)
        .then((statement) => isWanted && setFound(statement))
        .catch((error: unknown) => isWanted && setProblem(texts.thrown(error)));
    return () => {
      isWanted = false;
    };
  }, [account, ago]);
  const save = () => {
    const month = firstOf(ago);
    const name = `statement-${currency}-${month.getFullYear()}-${String(month.getMonth() + 1).padStart(2, "0")}.csv`;
    download(name, toCsv(say.csvColumns, found?.lines ?? [], say.kinds));
  };
  return (
    <Screen title={say.statement} aside={<button type="button" disabled={!found} onClick={save}>{say.csv}</button>}>
      <AccountAndMonth chosen={chosen} onChange={setChosen} />
      <Problem>{problem}</Problem>
      {found ? (
        <>
          <dl class="card sums">
            <div><dt>{say.opening}</dt><dd><Amount money={found.opening} /></dd></div>
            <div><dt>{say.entries}</dt><dd>{found.lines.length}</dd></div>
            <div><dt>{say.closing}</dt><dd><Amount money={found.closing} /></dd></div>
          </dl>
          <section class="card">
            {found.lines.length ? <Lines lines={found.lines} withDays /> : <p class="muted">{say.nothing}</p>}
          </section>
        </>
      ) : (
        !problem && <p class="muted" role="status">{say.loading}</p>
      )}
    </Screen>
  );
}
