// Every entry of all accounts, newest first: page after page, by filters, and live.
import { useState } from "preact/hooks";
import { type HistoryFilterInput, HistoryDocument, type TransferKind } from "wallet-gql-client";
import { DraftField, Lines, More, Problem, Screen, Select, usePages } from "../parts.js";
import { useTexts } from "../texts.js";
import { client, useWallet } from "../wallet.js";

const PAGE = 25;

interface Wanted {
  readonly reference: string;
  readonly counterparty: string;
  readonly kind: string;
  readonly since: string;
  readonly until: string;
}

const ALL: Wanted = { reference: "", counterparty: "", kind: "", since: "", until: "" };

/** The start of a day where the user is, so many days later. */
function moment(day: string, later = 0): string {
  const start = new Date(`${day}T00:00`);
  start.setDate(start.getDate() + later);
  return start.toISOString();
}

function filterOf(wanted: Wanted): HistoryFilterInput | null {
  const filter: HistoryFilterInput = {
    ...(wanted.reference ? { reference: wanted.reference } : {}),
    ...(wanted.counterparty ? { counterparty: wanted.counterparty } : {}),
    ...(wanted.kind ? { kinds: [wanted.kind as TransferKind] } : {}),
    ...(wanted.since ? { since: moment(wanted.since) } : {}),
    ...(wanted.until ? { until: moment(wanted.until, 1) } : {}),
  };
  return Object.keys(filter).length ? filter : null;
}

async function ask(filter: HistoryFilterInput | null, after: string | null) {
  const { viewer } = await client.ask(HistoryDocument, { first: PAGE, after, filter });
  const { nodes = [], pageInfo } = viewer?.history ?? {};
  return { nodes, after: pageInfo?.hasNextPage ? pageInfo.endCursor : null };
}

export function History() {
  const { say } = useTexts();
  const { news } = useWallet();
  const [wanted, setWanted] = useState(ALL);
  const filter = filterOf(wanted);
  const { items, isLoading, problem, more } = usePages(JSON.stringify(filter), (after) => ask(filter, after));
  const known = new Set(items.map(({ transfer }) => transfer.id));
  const lines = filter ? items : [...news.filter(({ transfer }) => !known.has(transfer.id)), ...items];
  const set = (name: keyof Wanted) => (value: string) => setWanted({ ...wanted, [name]: value });
  return (
    <Screen title={say.history}>
      <details class="card filters">
        <summary>{say.filters}{filter && <span class="tag">{Object.keys(filter).length}</span>}</summary>
        <div class="grid">
          <DraftField label={say.search} type="search" value={wanted.reference} maxLength={140} onCommit={set("reference")} />
          <DraftField label={say.person} value={wanted.counterparty} hint={say.payToHint} onCommit={set("counterparty")} />
          <Select
            label={say.kind}
            value={wanted.kind}
            options={[["", say.anyKind], ...Object.entries(say.kinds)]}
            onChange={(kind) => setWanted({ ...wanted, kind })}
          />
          <DraftField label={say.since} type="date" value={wanted.since} onCommit={set("since")} />
          <DraftField label={say.until} type="date" value={wanted.until} onCommit={set("until")} />
        </div>
        <button type="button" class="quiet" onClick={() => setWanted(ALL)}>{say.reset}</button>
      </details>
      <section class="card">
        <Lines lines={lines} withDays />
        <Problem>{problem}</Problem>
        {!isLoading && !lines.length && !problem && <p class="muted">{filter ? say.nothingFound : say.nothing}</p>}
        <More more={more} isLoading={isLoading} />
      </section>
    </Screen>
  );
}
