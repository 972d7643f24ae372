// Reserved money, on both sides: for the user, who takes or releases it, and by the user.
import { useState } from "preact/hooks";
import { type Direction, HoldsDocument } from "wallet-gql-client";
import { HoldLine, More, Problem, Screen, usePages } from "../parts.js";
import { useTexts } from "../texts.js";
import { client, useWallet } from "../wallet.js";

const PAGE = 20;

async function ask(direction: Direction, after: string | null) {
  const { viewer } = await client.ask(HoldsDocument, { first: PAGE, after, direction });
  const { nodes = [], pageInfo } = viewer?.holds ?? {};
  return { nodes, after: pageInfo?.hasNextPage ? pageInfo.endCursor : null };
}

export function Holds() {
  const { say } = useTexts();
  const { holdChanges } = useWallet();
  const [direction, setDirection] = useState<Direction>("IN");
  const { items, isLoading, problem, more, reload } = usePages(`${direction} ${holdChanges}`, (after) => ask(direction, after));
  const choices: [Direction, string][] = [["IN", say.forYou], ["OUT", say.byYou]];
  return (
    <Screen title={say.holds}>
      <div class="choices" role="group" aria-label={say.holds}>
        {choices.map(([each, text]) => (
          <button key={each} type="button" aria-pressed={each === direction} onClick={() => setDirection(each)}>
            {text}
          </button>
        ))}
      </div>
      <section class="card">
        <ul class="lines">{items.map((hold) => <HoldLine key={hold.id} hold={hold} onChanged={reload} />)}</ul>
        <Problem>{problem}</Problem>
        {!isLoading && !items.length && !problem && <p class="muted">{say.nothing}</p>}
        <More more={more} isLoading={isLoading && !items.length} />
      </section>
    </Screen>
  );
}
