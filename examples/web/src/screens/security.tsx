// Where the user is logged in, and what happened to the access.
import { useEffect, useState } from "preact/hooks";
import { LogOutEverywhereDocument, RevokeSessionDocument, SecurityDocument, type SecurityQuery, failureOf } from "wallet-gql-client";
import { Problem, Screen, useAct } from "../parts.js";
import { useTexts } from "../texts.js";
import { client, useWallet } from "../wallet.js";

const FIRST = 20;
type Viewer = NonNullable<SecurityQuery["viewer"]>;

/** "Firefox · Linux" of a User-Agent, as well as it tells. */
function device(userAgent: string | null, unknown: string): string {
  const browser = /(Firefox|Edg|Chrome|Safari|curl|python)/i.exec(userAgent ?? "")?.[1];
  const system = /(Windows|Android|iPhone|iPad|Mac OS X|Linux)/.exec(userAgent ?? "")?.[1];
  return [browser, system].filter(Boolean).join(" · ") || userAgent || unknown;
}

export function Security() {
  const texts = useTexts();
  const { say } = texts;
  const { leave } = useWallet();
  const { run, isBusy, problem } = useAct();
  const [viewer, setViewer] = useState<Viewer | null>(null);
  const load = async () => setViewer((await client.ask(SecurityDocument, { first: FIRST })).viewer);
  useEffect(() => void run(load), []);
  const revoke = (sessionId: string) =>
    run(async () => {
      const { answer } = await client.ask(RevokeSessionDocument, { input: { sessionId } });
      if (answer && failureOf(answer)) return answer;
      await load();
    });
  const everywhere = () =>
    run(async () => {
      const { answer } = await client.ask(LogOutEverywhereDocument, { input: { keepThis: false } });
      if (answer && failureOf(answer)) return answer;
      leave();
    });
  return (
    <Screen title={say.security}>
      <Problem>{problem}</Problem>
      <div class="halves">
        <section class="card">
          <h2>{say.sessions}</h2>
          <ul class="lines">
            {viewer?.sessions.nodes.map((session) => (
              <li class="line" key={session.id}>
                <span class="what">
                  <strong>
                    {device(session.userAgent, say.unknownDevice)} {session.current && <span class="tag">{say.thisOne}</span>}
                  </strong>
                  <small>{[session.address, say.lastSeen(texts.moment(session.lastSeenAt))].filter(Boolean).join(" · ")}</small>
                </span>
                {!session.current && (
                  <button type="button" class="small quiet" disabled={isBusy} onClick={() => revoke(session.id)}>{say.end}</button>
                )}
              </li>
            ))}
          </ul>
          <p class="muted">{say.everywhereText}</p>
          <button type="button" class="danger" disabled={isBusy} onClick={everywhere}>{say.everywhere}</button>
        </section>
        <section class="card">
          <h2>{say.events}</h2>
          <ul class="lines">
            {viewer?.securityEvents.nodes.map((event) => (
              <li class="line" key={event.id}>
                <span class="what">
                  <strong>{say.eventKinds[event.kind] ?? event.kind}</strong>
                  <small>{[texts.moment(event.createdAt), event.address].filter(Boolean).join(" · ")}</small>
                </span>
              </li>
            ))}
          </ul>
        </section>
      </div>
    </Screen>
  );
}
