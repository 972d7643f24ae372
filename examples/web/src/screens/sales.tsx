// What a merchant has sold in a month: the sum, and each payment, which leads to where it is sent back.
import { useState } from "preact/hooks";
import { type Money, SalesDocument } from "wallet-gql-client";
import { AccountAndMonth, spanOf } from "../months.js";
import { Amount, Lines, More, NoAccount, Problem, Screen, usePages } from "../parts.js";
import { useTexts } from "../texts.js";
import { client, useWallet } from "../wallet.js";

const PAGE = 25;

export function Sales() {
  const { say } = useTexts();
  const { accounts } = useWallet().data.viewer;
  return accounts.length ? <OfAccount /> : <Screen title={say.sales}><NoAccount /></Screen>;
}

function OfAccount() {
  const { say } = useTexts();
  const { data, news } = useWallet();
  const { accounts, merchant } = data.viewer;
  const [chosen, setChosen] = useState({ account: accounts[0]?.id ?? "", ago: 0 });
  const [sum, setSum] = useState<Money | null>(null);
  const { items, isLoading, problem, more } = usePages(JSON.stringify([chosen, news.length]), async (after) => {
    const { account } = await client.ask(SalesDocument, {
      ...spanOf(chosen.ago),
      account: chosen.account,
      first: PAGE,
      after,
      withSummary: after === null,
    });
    const { summary, history } = account ?? {};
    if (summary) setSum(summary.groups.find(({ kind }) => kind === "PAYMENT")?.received ?? null);
    const nodes = history?.nodes.filter(({ transfer }) => transfer.direction === "IN") ?? []; // what the merchant bought is none
    return { nodes, after: history?.pageInfo.hasNextPage ? history.pageInfo.endCursor : null };
  });
  return (
    <Screen title={say.sales} aside={<span class="tag">{merchant?.name}</span>}>
      <AccountAndMonth chosen={chosen} onChange={setChosen} />
      {sum && <dl class="card sums"><div><dt>{say.soldInMonth}</dt><dd><Amount money={sum} /></dd></div></dl>}
      <section class="card">
        <Lines lines={items} withDays />
        <Problem>{problem}</Problem>
        {!isLoading && !items.length && !problem && <p class="muted">{say.nothing}</p>}
        <More more={more} isLoading={isLoading && !items.length} />
      </section>
    </Screen>
  );
}
