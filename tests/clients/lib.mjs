// What the scripts of all clients share: who they are, what they ask, and how one resumes.
import { randomUUID } from "node:crypto";
import { WebSocket } from "ws";

export const { URL: ORIGIN, TOKEN, ACCOUNT, PAYEE } = process.env;
export const HTTP = `${ORIGIN}/graphql`;
export const WS = HTTP.replace(/^http/, "ws");
export const authorization = `Bearer ${TOKEN}`;
export const webSocketImpl = WebSocket;

export const ACCOUNTS = /* GraphQL */ `
  query Accounts {
    viewer {
      id
      accounts {
        id
        available {
          minorUnits
        }
      }
    }
  }
`;
export const PAY = /* GraphQL */ `
  mutation Pay($input: TransferInput!) {
    transfer(input: $input) {
      __typename
      ... on TransferSuccess {
        fromAccount {
          id
          available {
            minorUnits
          }
        }
      }
      ... on WalletError {
        code
        message
      }
    }
  }
`;
export const WATCH = /* GraphQL */ `
  subscription Watch($id: ID!, $after: BigInt) {
    accountEvents(accountId: $id, afterSequence: $after) {
      sequence
      entry {
        sequence
      }
      account {
        id
        available {
          minorUnits
        }
      }
    }
  }
`;
export const WRONG = "query Wrong { viewer { shoeSize } }";

/** The variables of a payment; a new key for each call, which is a new intent. */
export function payment(minorUnits = 1) {
  const amount = { minorUnits: String(minorUnits), currency: "EUR" };
  return { input: { idempotencyKey: randomUUID(), fromAccountId: ACCOUNT, to: { username: PAYEE }, amount } };
}

/** fetch that counts, and keeps what it was sent and answered. */
export function counting() {
  const sent = [];
  const counted = async (url, options) => {
    const answer = await fetch(url, options);
    sent.push({ body: options.body && JSON.parse(options.body), status: answer.status, type: answer.headers.get("content-type") });
    return answer;
  };
  return { fetch: counted, sent };
}

/**
 * Follow the account from its first entry on until `count` entries came, with a torn connection after every `pause`th.
 * `subscribe(after, sink)` starts and gives back what stops; `tear()` breaks the connection under it.
 */
export async function follow({ subscribe, tear, count, pause }) {
  const seen = [];
  let torn = 0;
  while (seen.length < count) {
    const after = seen.at(-1) ?? "0";
    await new Promise((resolve) => {
      let over = false;
      const end = () => {
        if (over) return;
        over = true;
        setTimeout(() => {
          stop?.();
          resolve();
        });
      };
      const stop = subscribe(after, {
        next: (event) => {
          if (over || !event.entry) return; // the first event of each subscription is the account as it is
          seen.push(event.sequence);
          if (seen.length >= count) end();
          else if (seen.length % pause === 0) {
            torn += 1;
            tear();
            end();
          }
        },
        error: end,
        complete: end,
      });
    });
  }
  return { seen, torn };
}

/** Write down what happened, and leave. */
export function report(result) {
  console.log(JSON.stringify(result));
  process.exit(0);
}
