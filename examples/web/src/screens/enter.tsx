// Log in and sign up. The answer sets the session's cookie, which no script can read.
import { useState } from "preact/hooks";
import { LogInDocument, RequestFailed, SignUpDocument, byField, failureOf } from "wallet-gql-client";
import { Field, Problem, Screen, useAct, values } from "../parts.js";
import { useTexts } from "../texts.js";
import { client } from "../wallet.js";

interface Person {
  readonly login: string;
  readonly password: string;
}

/** Those of the demo, who the server puts into its page; elsewhere nobody. */
function demoPeople(): readonly Person[] {
  const text = document.querySelector<HTMLMetaElement>("meta[name=demo-people]")?.content;
  return text ? (JSON.parse(text) as Person[]) : [];
}

async function logIn({ login, password }: Person) {
  const { answer } = await client.ask(LogInDocument, { input: { login, password, session: "COOKIE" } });
  if (!answer) throw new RequestFailed("NO_ANSWER", "", true);
  return answer;
}

export function Enter({ onEntered, reason }: { onEntered: () => Promise<void>; reason: unknown }) {
  const texts = useTexts();
  const { say } = texts;
  const [isNew, setNew] = useState(false);
  const [wrong, setWrong] = useState<Record<string, string>>({});
  const { run, isBusy, problem, setProblem } = useAct();
  const people = demoPeople();

  const enter = (person: Person) =>
    run(async () => {
      const answer = await logIn(person);
      if (failureOf(answer)) return answer;
      await onEntered();
    });
  const join = (given: Record<string, string>) =>
    run(async () => {
      const { username = "", email = "", password = "" } = given;
      const { answer } = await client.ask(SignUpDocument, { input: { username, email, password } });
      const failure = answer && failureOf(answer);
      if (!failure) {
        const logged = await logIn({ login: username, password });
        return failureOf(logged) ? logged : onEntered();
      }
      const fields = Object.fromEntries(
        ("problems" in failure ? failure.problems : []).map(({ path, code, message }) => [path.join("."), texts.problem(code, message)]),
      );
      setWrong(fields);
      return Object.keys(byField(failure)).length ? undefined : failure;
    });
  const turn = () => {
    setNew(!isNew);
    setWrong({});
    setProblem("");
  };

  return (
    <div class="enter">
      <Screen title={isNew ? say.join : say.welcome}>
        <p class="muted">{isNew ? say.joinText : say.welcomeText}</p>
        {reason && !problem ? <Problem>{texts.thrown(reason)}</Problem> : null}
        <form class="card" onSubmit={(event) => {
          const given = values(event);
          setWrong({});
          return isNew ? join(given) : enter({ login: given["login"] ?? "", password: given["password"] ?? "" });
        }}>
          {isNew ? (
            <>
              <Field label={say.username} name="username" required autoComplete="username" error={wrong["username"]} key="username" />
              <Field label={say.email} name="email" type="email" required autoComplete="email" error={wrong["email"]} key="email" />
            </>
          ) : (
            <Field label={say.login} name="login" required autoComplete="username" key="login" />
          )}
          <Field
            label={say.passwordLabel}
            name="password"
            type="password"
            required
            key="password"
            autoComplete={isNew ? "new-password" : "current-password"}
            hint={isNew ? say.passwordHint : undefined}
            error={wrong["password"]}
          />
          <Problem>{problem}</Problem>
          <button type="submit" class="wide" disabled={isBusy}>{isNew ? say.signUp : say.logIn}</button>
          <button type="button" class="quiet wide" onClick={turn}>{isNew ? say.haveWallet : say.noWallet}</button>
        </form>
        {!isNew && people.length > 0 && (
          <div class="demo">
            <p class="muted">{say.tryHint}</p>
            <div class="acts">
              {people.map((person) => (
                <button key={person.login} type="button" class="quiet" disabled={isBusy} onClick={() => enter(person)}>
                  {say.tryAs(person.login)}
                </button>
              ))}
            </div>
          </div>
        )}
      </Screen>
    </div>
  );
}
