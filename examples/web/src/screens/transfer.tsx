// One transfer, by its link; who received it can send it back.
import { useEffect, useState } from "preact/hooks";
import { TransferDocument, type TransferQuery, failureOf, parseMoney, toDecimal } from "wallet-gql-client";
import { Amount, AskAgain, Field, Problem, Screen, Who, useAct } from "../parts.js";
import { link } from "../route.js";
import { useTexts } from "../texts.js";
import { client, useWallet } from "../wallet.js";

type Transfer = NonNullable<TransferQuery["transfer"]>;

function SendBack({ transfer, onDone }: { transfer: Transfer; onDone: () => void }) {
  const texts = useTexts();
  const { say } = texts;
  const { act, exponent, openOf } = useWallet();
  const { run, isBusy, problem, setProblem } = useAct();
  const left = transfer.reversible;
  const digits = exponent(left?.currency ?? "");
  const [amount, setAmount] = useState(left ? toDecimal(BigInt(left.minorUnits), digits) : "");
  const open = openOf(transfer.id);
  if (!isBusy && open) return <section class="card"><h2>{texts.open(open).what}</h2><AskAgain intent={open} onAnswer={onDone} /></section>;
  if (!left || left.minorUnits === "0") return null;
  const send = () => {
    const minor = parseMoney(amount, digits);
    if (minor === null) return setProblem(say.badAmount(digits));
    const input = { minorUnits: String(minor), reference: "" };
    return run(async () => {
      const answer =
        transfer.kind === "PAYMENT"
          ? await act("refundPayment", { ...input, paymentId: transfer.id })
          : await act("reverseTransfer", { ...input, transferId: transfer.id });
      if (!failureOf(answer)) onDone();
      return answer;
    });
  };
  return (
    <form class="card" onSubmit={(event) => {
      event.preventDefault();
      void send();
    }}>
      <h2>{say.refund}</h2>
      <Field
        label={`${say.amount} (${left.currency})`}
        name="amount"
        required
        inputMode="decimal"
        autoComplete="off"
        value={amount}
        onInput={(event) => {
          setAmount(event.currentTarget.value);
          setProblem("");
        }}
        hint={say.refundLeft(texts.money(left))}
      />
      <Problem>{problem}</Problem>
      <button type="submit" disabled={isBusy}>{isBusy ? say.sending : say.refund}</button>
    </form>
  );
}

export function TransferDetail({ id }: { id: string }) {
  const texts = useTexts();
  const { say } = texts;
  const { news, openOf } = useWallet();
  const open = openOf(id)?.key;
  const [transfer, setTransfer] = useState<Transfer | null | undefined>();
  const [problem, setProblem] = useState("");
  const load = () =>
    client
      .ask(TransferDocument, { id })
      .then((answer) => setTransfer(answer.transfer))
      .catch((error: unknown) => setProblem(texts.thrown(error)));
  useEffect(() => void load(), [id, news.length, open]);
  if (!transfer)
    return (
      <Screen title={say.transfer}>
        {problem ? <Problem>{problem}</Problem> : <p class="muted">{transfer === null ? say.notFound : say.loading}</p>}
      </Screen>
    );
  const rows: [string, preact.ComponentChildren][] = [
    [transfer.direction === "IN" ? say.from : say.to, <Who party={transfer.counterparty} />],
    [say.kind, say.kinds[transfer.kind]],
    [say.when, texts.moment(transfer.createdAt)],
    [say.reference, transfer.reference || "—"],
  ];
  if (transfer.fee.minorUnits !== "0") rows.push([say.fee, <Amount money={transfer.fee} />]);
  if (transfer.reverses) rows.push([say.refundOf, <a href={link("transfers", transfer.reverses.id)}>{say.theOriginal}</a>]);
  rows.push([say.number, <code>{transfer.id}</code>]);
  return (
    <Screen title={transfer.direction === "IN" ? say.gotten : say.sent}>
      <div class="narrow">
        <section class="card">
          <p class="total"><Amount money={transfer.amount} /></p>
          <dl>{rows.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
        </section>
        <SendBack transfer={transfer} onDone={load} key={transfer.reversible?.minorUnits} />
      </div>
    </Screen>
  );
}
