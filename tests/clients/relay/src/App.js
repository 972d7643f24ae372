// A list that pages through a history, and pays: what relay-compiler checks against the schema.
import { graphql } from "relay-runtime";

export const account = graphql`
  query AppAccountQuery($id: ID!) {
    node(id: $id) {
      ...App_history @alias(as: "account")
    }
  }
`;

export const history = graphql`
  fragment App_history on Account
  @argumentDefinitions(first: { type: "Int", defaultValue: 20 }, after: { type: "String" })
  @refetchable(queryName: "AppHistoryQuery") {
    id
    available {
      minorUnits
      currency
    }
    history(first: $first, after: $after) @connection(key: "App_history_history") {
      edges {
        node {
          id
          sequence
          amount {
            minorUnits
          }
          transfer {
            id
            counterparty {
              name
            }
          }
        }
      }
    }
  }
`;

export const viewer = graphql`
  query AppViewerQuery {
    viewer {
      id
      accounts {
        id
        ...App_history
      }
    }
  }
`;

export const pay = graphql`
  mutation AppPayMutation($input: TransferInput!) {
    transfer(input: $input) {
      __typename
      ... on TransferSuccess {
        replayed
        transfer {
          id
        }
        fromAccount {
          id
          available {
            minorUnits
          }
        }
      }
      ... on WalletError {
        code
        retryable
      }
    }
  }
`;

export const watch = graphql`
  subscription AppWatchSubscription($id: ID!, $after: BigInt) {
    accountEvents(accountId: $id, afterSequence: $after) {
      sequence
      account {
        id
        available {
          minorUnits
        }
      }
    }
  }
`;
