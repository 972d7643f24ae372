/* eslint-disable */
/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
export interface DocumentTypeDecoration<Result, Variables> {
  __apiType?: (variables: Variables) => Result;
}
/** What an account may still do. */
export type AccountStatus =
  /** Closed for good; only a credit that was already decided still arrives. */
  | 'CLOSED'
  /** Receives, but neither pays, holds nor captures until an operator unfreezes it. */
  | 'FROZEN'
  /** Pays and receives. */
  | 'OPEN';

/** What to take of a hold. */
export type CaptureHoldInput = {
  /** The hold; only its payee captures it. */
  holdId: string;
  /** 1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: however often the request arrives, it is done once. `k` and `"k"` are the same key. */
  idempotencyKey: string;
  /** How much, in the minor unit of its currency; all of it if absent. The rest is released. */
  minorUnits?: string | null | undefined;
};

/** Which way money goes, seen from your account. */
export type Direction =
  /** To you. */
  | 'IN'
  /** From you. */
  | 'OUT';

/** What went wrong, for programs. Codes are never renamed; new ones may come. */
export type ErrorCode =
  /** The account is closed. Use another one. */
  | 'ACCOUNT_CLOSED'
  /** The user has an account in this currency that is not closed. Only an operator can unfreeze a frozen one. */
  | 'ACCOUNT_EXISTS'
  /** The account is frozen: no debits, holds or captures. Credits still arrive. Ask the operator. */
  | 'ACCOUNT_FROZEN'
  /** Only an account at zero with no open holds can be closed. Move the money out first. */
  | 'ACCOUNT_NOT_EMPTY'
  /** There is no such account of yours. Other people's accounts look the same as absent ones. */
  | 'ACCOUNT_NOT_FOUND'
  /** Another item of an ATOMIC batch was refused, so nothing moved. This item's key was not used up. */
  | 'BATCH_ABORTED'
  /** More than the held amount was asked for. Capture at most what was held. */
  | 'CAPTURE_EXCEEDS_HOLD'
  /** Too many commands wanted the same rows in the time given. Nothing changed; retry with the same key. */
  | 'CONTENDED'
  /** The account holds another currency than the request names. Nothing is ever converted. */
  | 'CURRENCY_MISMATCH'
  /** An account with this e-mail address exists. Log in instead. */
  | 'EMAIL_TAKEN'
  /** The password was given too long ago for this. Log in anew, then send the same request with the same key. */
  | 'FRESH_LOG_IN_REQUIRED'
  /** There is no such hold that concerns you. */
  | 'HOLD_NOT_FOUND'
  /** The hold was already captured, voided or has expired. Each hold closes once. */
  | 'HOLD_NOT_OPEN'
  /** The key was used before with another input. Use a new key for each intent, the same one for its retries. */
  | 'IDEMPOTENCY_KEY_REUSED'
  /** The account's available amount (posted minus held) is too small. Top up, then try again under a new key. */
  | 'INSUFFICIENT_FUNDS'
  /** The amount is zero, negative, too large or not a whole number of minor units. The key was not used up. */
  | 'INVALID_AMOUNT'
  /** Unknown user or wrong password: the two are never told apart. */
  | 'INVALID_CREDENTIALS'
  /** Values have the wrong shape. Correct the named fields; the key was not used up. */
  | 'INVALID_INPUT'
  /** The outcome is unknown: it may have happened. Ask again with the same key, never with a new one. */
  | 'IN_DOUBT'
  /** A limit of the wallet would be passed. Use a smaller amount under a new key. */
  | 'LIMIT_EXCEEDED'
  /** You are a merchant already. Change what there is. */
  | 'MERCHANT_EXISTS'
  /** A server of the store does not answer. Nothing changed; retry with the same key. */
  | 'NODE_UNAVAILABLE'
  /** There is no merchant of that name. Pay a user by a transfer. */
  | 'NOT_A_MERCHANT'
  /** You may see it, but this act belongs to somebody else (the payee, or an operator). */
  | 'NOT_PERMITTED'
  /** This kind of transfer is not reversed this way (a reversal, a deposit or a withdrawal). */
  | 'NOT_REVERSIBLE'
  /** The payee has no open account in that currency. Ask them to open one, or send another currency. */
  | 'PAYEE_CANNOT_RECEIVE'
  /** There is nobody of that name or id to be paid. Check the spelling. */
  | 'PAYEE_NOT_FOUND'
  /** This wallet has no payment provider: nothing can be paid in or out. The key was not used up. */
  | 'PAYMENTS_NOT_CONFIGURED'
  /** Nobody has said yet to which account your money is to be paid out. Ask support; then use a new key. */
  | 'PAYOUT_ACCOUNT_MISSING'
  /** Too many requests in too short a time. Nothing changed; wait as long as it says, then retry with the same key. */
  | 'RATE_LIMITED'
  /** Reversals of a transfer add up to at most its amount. */
  | 'REVERSAL_EXCEEDS_ORIGINAL'
  /** Payer and payee are the same account. Choose another payee. */
  | 'SAME_ACCOUNT'
  /** A spending limit of yours would be passed. Pay what remains of it, or wait, under a new key. */
  | 'SPENDING_LIMIT_EXCEEDED'
  /** There is no such top-up of yours. */
  | 'TOP_UP_NOT_FOUND'
  /** There is no such transfer that concerns you. */
  | 'TRANSFER_NOT_FOUND'
  /** Nothing changed. Retry with the same idempotency key. */
  | 'UNAVAILABLE'
  /** Somebody has this username. Choose another. */
  | 'USERNAME_TAKEN'
  /** There is no such withdrawal of yours. */
  | 'WITHDRAWAL_NOT_FOUND';

/** What happened to a user's access. New kinds may come. */
export type EventKind =
  /** An account was closed, for good. */
  | 'ACCOUNT_CLOSED'
  /** An operator froze an account: it pays nothing until it is unfrozen. */
  | 'ACCOUNT_FROZEN'
  /** An operator unfroze an account. */
  | 'ACCOUNT_UNFROZEN'
  /** A session began. */
  | 'LOGGED_IN'
  /** A session was ended by itself. */
  | 'LOGGED_OUT'
  /** Somebody gave a wrong password for this user. */
  | 'LOG_IN_FAILED'
  /** A new password was chosen; all other sessions have ended. */
  | 'PASSWORD_CHANGED'
  /** Somebody with a session gave a wrong old password. */
  | 'PASSWORD_CHANGE_FAILED'
  /** All sessions were ended, but perhaps for the one that did it. */
  | 'SESSIONS_REVOKED'
  /** A session got a new token. */
  | 'SESSION_RENEWED'
  /** A session was ended by another one of the user's. */
  | 'SESSION_REVOKED'
  /** The user was created. */
  | 'SIGNED_UP'
  /** The user's spending limits were set, by the user or an operator. */
  | 'SPENDING_LIMITS_CHANGED';

/** Which entries to keep: those that fit all that is given. What is null does not count. */
export type HistoryFilterInput = {
  /** The username of the other side; of nobody, nothing fits. */
  counterparty?: string | null | undefined;
  /** Why the money moved: any of these. */
  kinds?: Array<TransferKind> | null | undefined;
  /** At most so much, in minor units and without the sign. */
  maxMinorUnits?: string | null | undefined;
  /** At least so much, in minor units and without the sign: 500 finds what was paid and received. */
  minMinorUnits?: string | null | undefined;
  /** A part of the reference, in any case; at most 140 characters. */
  reference?: string | null | undefined;
  /** Entered at this moment or later. */
  since?: string | null | undefined;
  /** Entered before this moment. */
  until?: string | null | undefined;
};

/** How long the merchant may wait before taking the money. */
export type HoldInput = {
  /** 1 to 2592000. */
  expiresInSeconds: number;
};

/** What became of a hold. It closes once, for good. */
export type HoldState =
  /** The payee took the money, or a part of it; the rest was released. */
  | 'CAPTURED'
  /** Its time was over before the payee took the money. */
  | 'EXPIRED'
  /** The money is reserved; the payee may capture or void. */
  | 'OPEN'
  /** The payee released the money. */
  | 'VOIDED';

/** Who wants a session. */
export type LogInInput = {
  /** The username or the e-mail address. */
  login: string;
  /** The password. */
  password: string;
  /** How the session is kept. */
  session?: SessionKind;
};

/** Which sessions to spare. */
export type LogOutEverywhereInput = {
  /** Whether the session of this request goes on. */
  keepThis?: boolean;
};

/** An exact amount of one currency. */
export type MoneyInput = {
  /** The currency; it must be the account's. */
  currency: string;
  /** The amount in the currency's minor unit: 1230 is 12.30 EUR. Greater than zero. */
  minorUnits: string;
};

/** Which account to open. */
export type OpenAccountInput = {
  /** The currency it shall hold. */
  currency: string;
};

/** What somebody on one side of a transfer or a hold is. */
export type PartyKind =
  /** A user who takes payments as a merchant; `name` is the merchant's. */
  | 'MERCHANT'
  /** A user. */
  | 'USER'
  /** The wallet itself: the money entered or left it. */
  | 'WALLET';

/** A payment to a merchant from one of your accounts. */
export type PayMerchantInput = {
  /** How much in all. */
  amount: MoneyInput;
  /** Your account that pays. */
  fromAccountId: string;
  /** If given the money is only reserved: the merchant takes it with `captureHold`. Not with `splits`. */
  hold?: HoldInput | null | undefined;
  /** 1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: however often the request arrives, it is done once. `k` and `"k"` are the same key. */
  idempotencyKey: string;
  /** The merchant's username. */
  merchant: string;
  /** What it is for, at most 140 characters; the merchant sees it. */
  reference?: string | null | undefined;
  /** Who shares in it, 10 at most; the merchant has the rest, and pays the fee. */
  splits?: Array<SplitInput> | null | undefined;
};

/** Money of one of your accounts to reserve for a payee. */
export type PlaceHoldInput = {
  /** How much. */
  amount: MoneyInput;
  /** When it ends by itself, from now on: 1 second to 30 days; a week if absent. */
  expiresInSeconds?: number;
  /** Your account whose money is reserved. */
  fromAccountId: string;
  /** 1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: however often the request arrives, it is done once. `k` and `"k"` are the same key. */
  idempotencyKey: string;
  /** What it is for, at most 140 characters; the payee sees it. */
  reference?: string | null | undefined;
  /** Whom to reserve it for. */
  to: Recipient;
};

/** A payment that is not made yet. */
export type PreviewInput = {
  /** How much. */
  amount: MoneyInput;
  /** Your account that would pay. */
  fromAccountId: string;
  /** Whom it would pay. */
  to: PreviewRecipient;
};

/** Whom a previewed payment is to: exactly one of these. */
export type PreviewRecipient =
  {   /** An account by its id, as in `transfer`. */
  accountId: string; merchant?: never; username?: never; }
  |  { accountId?: never;   /** A merchant by username, as in `payMerchant`. */
  merchant: string; username?: never; }
  |  { accountId?: never; merchant?: never;   /** A user, as in `transfer`. */
  username: string; };

/** Whom to pay: exactly one of these. */
export type Recipient =
  {   /** An account by its id. */
  accountId: string; username?: never; }
  |  { accountId?: never;   /** A user, into the account that holds the currency. */
  username: string; };

/** What to refund of a payment that you received as merchant. */
export type RefundPaymentInput = {
  /** 1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: however often the request arrives, it is done once. `k` and `"k"` are the same key. */
  idempotencyKey: string;
  /** How much, in the minor unit of its currency; all that is left if absent. */
  minorUnits?: string | null | undefined;
  /** The payment: the transfer that you received. */
  paymentId: string;
  /** What it is for, at most 140 characters; the payer sees it. */
  reference?: string | null | undefined;
};

/** What to send back of a transfer that you received. */
export type ReverseTransferInput = {
  /** 1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: however often the request arrives, it is done once. `k` and `"k"` are the same key. */
  idempotencyKey: string;
  /** How much, in the minor unit of its currency; all that is left if absent. */
  minorUnits?: string | null | undefined;
  /** What it is for, at most 140 characters; the payer sees it. */
  reference?: string | null | undefined;
  /** The transfer; only its payee sends it back. */
  transferId: string;
};

/** Which session to end. */
export type RevokeSessionInput = {
  /** The id of one of your sessions, from `viewer { sessions }`. */
  sessionId: string;
};

/** How a session is kept. */
export type SessionKind =
  /** For other clients: the token comes in the answer and goes into `Authorization: Bearer …`. Lasts 30 days. */
  | 'BEARER'
  /** For browsers: in the cookie `__Host-wallet`, which scripts cannot read. Ends after 30 idle minutes or 12 hours. */
  | 'COOKIE';

/** Who wants to join. */
export type SignUpInput = {
  /** An e-mail address; nobody else sees it. */
  email: string;
  /** 8 to 128 characters, hard to guess. */
  password: string;
  /** 3 to 32 letters, digits, dots, dashes or underscores; others pay you under it. */
  username: string;
};

/** Somebody who shares in a payment. */
export type SplitInput = {
  /** Which part of the amount, in 1/10,000. */
  basisPoints: number;
  /** Who. */
  to: Recipient;
};

/** A payment from one of your accounts. */
export type TransferInput = {
  /** How much. */
  amount: MoneyInput;
  /** Your account that pays. */
  fromAccountId: string;
  /** 1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: however often the request arrives, it is done once. `k` and `"k"` are the same key. */
  idempotencyKey: string;
  /** What it is for, at most 140 characters; the payee sees it. */
  reference?: string | null | undefined;
  /** Whom to pay. */
  to: Recipient;
};

/** Why money moved. */
export type TransferKind =
  /** A payee took money that was held for them. */
  | 'CAPTURE'
  /** Money came in from outside the wallet. */
  | 'DEPOSIT'
  /** A user paid a merchant; of a split payment the merchant's part. */
  | 'PAYMENT'
  /** A payee sent a transfer back, all of it or a part. */
  | 'REVERSAL'
  /** Somebody shared in a payment to a merchant. */
  | 'SPLIT'
  /** One user paid another. */
  | 'TRANSFER'
  /** Money left the wallet. */
  | 'WITHDRAWAL';

/** Which hold to let go. */
export type VoidHoldInput = {
  /** The hold; only its payee voids it. */
  holdId: string;
  /** 1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: however often the request arrives, it is done once. `k` and `"k"` are the same key. */
  idempotencyKey: string;
};

export type AmountFragment = { minorUnits: string, decimal: string, currency: string };

export type AccountStateFragment = { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } };

export type LineFragment = { sequence: string, at: string, amount: { minorUnits: string, decimal: string, currency: string }, balanceAfter: { minorUnits: string, decimal: string, currency: string }, transfer: { id: string, kind: TransferKind, direction: Direction, reference: string, counterparty: { kind: PartyKind, name: string, username: string | null } | null } };

export type HoldStateFragment = { id: string, direction: Direction, state: HoldState, closable: boolean, createdAt: string, expiresAt: string | null, reference: string, amount: { minorUnits: string, decimal: string, currency: string }, captured: { minorUnits: string, decimal: string, currency: string }, counterparty: { kind: PartyKind, name: string, username: string | null } | null };

type Failure_AccountExists_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_AccountNotEmpty_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_BatchAborted_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_CaptureExceedsHold_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_CurrencyMismatch_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_HoldNotOpen_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_IdempotencyKeyReused_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_InDoubt_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_InsufficientFunds_Fragment = { code: ErrorCode, message: string, retryable: boolean, available: { minorUnits: string, decimal: string, currency: string } };

type Failure_InvalidInput_Fragment = { code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> };

type Failure_PayeeCannotReceive_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_PayeeNotFound_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_PaymentsNotConfigured_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_PayoutAccountMissing_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_RateLimited_Fragment = { retryAfterSeconds: number, code: ErrorCode, message: string, retryable: boolean };

type Failure_Refusal_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_ReversalExceedsOriginal_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_SpendingLimitExceeded_Fragment = { code: ErrorCode, message: string, retryable: boolean };

type Failure_Unavailable_Fragment = { code: ErrorCode, message: string, retryable: boolean };

export type FailureFragment =
  | Failure_AccountExists_Fragment
  | Failure_AccountNotEmpty_Fragment
  | Failure_BatchAborted_Fragment
  | Failure_CaptureExceedsHold_Fragment
  | Failure_CurrencyMismatch_Fragment
  | Failure_HoldNotOpen_Fragment
  | Failure_IdempotencyKeyReused_Fragment
  | Failure_InDoubt_Fragment
  | Failure_InsufficientFunds_Fragment
  | Failure_InvalidInput_Fragment
  | Failure_PayeeCannotReceive_Fragment
  | Failure_PayeeNotFound_Fragment
  | Failure_PaymentsNotConfigured_Fragment
  | Failure_PayoutAccountMissing_Fragment
  | Failure_RateLimited_Fragment
  | Failure_Refusal_Fragment
  | Failure_ReversalExceedsOriginal_Fragment
  | Failure_SpendingLimitExceeded_Fragment
  | Failure_Unavailable_Fragment
;

export type HomeQueryVariables = Exact<{
  entries: number;
}>;


export type HomeQuery = { currencies: Array<{ code: string, exponent: number }>, viewer: { id: string, username: string, accounts: Array<{ id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } }>, history: { nodes: Array<{ sequence: string, at: string, amount: { minorUnits: string, decimal: string, currency: string }, balanceAfter: { minorUnits: string, decimal: string, currency: string }, transfer: { id: string, kind: TransferKind, direction: Direction, reference: string, counterparty: { kind: PartyKind, name: string, username: string | null } | null } }> }, holds: { nodes: Array<{ id: string, direction: Direction, state: HoldState, closable: boolean, createdAt: string, expiresAt: string | null, reference: string, amount: { minorUnits: string, decimal: string, currency: string }, captured: { minorUnits: string, decimal: string, currency: string }, counterparty: { kind: PartyKind, name: string, username: string | null } | null }> } } | null };

export type HistoryQueryVariables = Exact<{
  first: number;
  after?: string | null | undefined;
  filter?: HistoryFilterInput | null | undefined;
}>;


export type HistoryQuery = { viewer: { history: { pageInfo: { hasNextPage: boolean, endCursor: string | null }, nodes: Array<{ sequence: string, at: string, amount: { minorUnits: string, decimal: string, currency: string }, balanceAfter: { minorUnits: string, decimal: string, currency: string }, transfer: { id: string, kind: TransferKind, direction: Direction, reference: string, counterparty: { kind: PartyKind, name: string, username: string | null } | null } }> } } | null };

export type TransferQueryVariables = Exact<{
  id: string;
}>;


export type TransferQuery = { transfer: { id: string, kind: TransferKind, direction: Direction, at: string, reference: string, amount: { minorUnits: string, decimal: string, currency: string }, fee: { minorUnits: string, decimal: string, currency: string }, reversible: { minorUnits: string, decimal: string, currency: string } | null, counterparty: { kind: PartyKind, name: string, username: string | null } | null, reverses: { id: string } | null, hold: { id: string } | null, merchant: { name: string } | null } | null };

export type PayeeQueryVariables = Exact<{
  username: string;
}>;


export type PayeeQuery = { payee: { kind: PartyKind, name: string, username: string, currencies: Array<string> } | null };

export type PreviewQueryVariables = Exact<{
  input: PreviewInput;
}>;


export type PreviewQuery = { preview: { amount: { minorUnits: string, decimal: string, currency: string } | null, fee: { minorUnits: string, decimal: string, currency: string } | null, received: { minorUnits: string, decimal: string, currency: string } | null, remaining: { minorUnits: string, decimal: string, currency: string } | null, refusal:
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean, available: { minorUnits: string, decimal: string, currency: string } }
      | { code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { retryAfterSeconds: number, code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
      | { code: ErrorCode, message: string, retryable: boolean }
     | null } };

export type HoldsQueryVariables = Exact<{
  first: number;
  after?: string | null | undefined;
  direction?: Direction | null | undefined;
}>;


export type HoldsQuery = { viewer: { holds: { pageInfo: { hasNextPage: boolean, endCursor: string | null }, nodes: Array<{ id: string, direction: Direction, state: HoldState, closable: boolean, createdAt: string, expiresAt: string | null, reference: string, amount: { minorUnits: string, decimal: string, currency: string }, captured: { minorUnits: string, decimal: string, currency: string }, counterparty: { kind: PartyKind, name: string, username: string | null } | null }> } } | null };

export type StatementQueryVariables = Exact<{
  account: string;
  since: string;
  until: string;
  after?: string | null | undefined;
}>;


export type StatementQuery = { account: { statement: { opening: { minorUnits: string, decimal: string, currency: string }, closing: { minorUnits: string, decimal: string, currency: string }, entries: { pageInfo: { hasNextPage: boolean, endCursor: string | null }, nodes: Array<{ sequence: string, at: string, amount: { minorUnits: string, decimal: string, currency: string }, balanceAfter: { minorUnits: string, decimal: string, currency: string }, transfer: { id: string, kind: TransferKind, direction: Direction, reference: string, counterparty: { kind: PartyKind, name: string, username: string | null } | null } }> } } } | null };

export type SecurityQueryVariables = Exact<{
  first: number;
}>;


export type SecurityQuery = { viewer: { email: string, sessions: { nodes: Array<{ id: string, current: boolean, kind: SessionKind, address: string | null, userAgent: string | null, createdAt: string, lastSeenAt: string }> }, securityEvents: { nodes: Array<{ id: string, kind: EventKind, at: string, address: string | null }> } } | null };

export type SignUpMutationVariables = Exact<{
  input: SignUpInput;
}>;


export type SignUpMutation = { answer:
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'SignUpSuccess', user: { id: string } | null }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type LogInMutationVariables = Exact<{
  input: LogInInput;
}>;


export type LogInMutation = { answer:
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'LogInSuccess', token: string | null, expiresAt: string }
    | { __typename: 'RateLimited', retryAfterSeconds: number, code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type LogOutMutationVariables = Exact<{ [key: string]: never; }>;


export type LogOutMutation = { answer:
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'LogOutSuccess', ended: boolean }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type LogOutEverywhereMutationVariables = Exact<{
  input: LogOutEverywhereInput;
}>;


export type LogOutEverywhereMutation = { answer:
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'LogOutEverywhereSuccess', ended: number }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type RevokeSessionMutationVariables = Exact<{
  input: RevokeSessionInput;
}>;


export type RevokeSessionMutation = { answer:
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'RevokeSessionSuccess', ended: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type OpenAccountMutationVariables = Exact<{
  input: OpenAccountInput;
}>;


export type OpenAccountMutation = { answer:
    | { __typename: 'AccountExists', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'OpenAccountSuccess', account: { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } } | null }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type PayMutationVariables = Exact<{
  input: TransferInput;
}>;


export type PayMutation = { answer:
    | { __typename: 'CurrencyMismatch', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'IdempotencyKeyReused', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InsufficientFunds', code: ErrorCode, message: string, retryable: boolean, available: { minorUnits: string, decimal: string, currency: string } }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'PayeeCannotReceive', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'PayeeNotFound', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'SpendingLimitExceeded', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'TransferSuccess', replayed: boolean, credited: boolean, transfer: { id: string } | null, fromAccount: { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } } | null }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type PayMerchantMutationVariables = Exact<{
  input: PayMerchantInput;
}>;


export type PayMerchantMutation = { answer:
    | { __typename: 'CurrencyMismatch', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'IdempotencyKeyReused', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InsufficientFunds', code: ErrorCode, message: string, retryable: boolean, available: { minorUnits: string, decimal: string, currency: string } }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'PayMerchantSuccess', replayed: boolean, credited: boolean, payment: { id: string } | null, hold: { id: string } | null, fromAccount: { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } } | null }
    | { __typename: 'PayeeCannotReceive', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'PayeeNotFound', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'SpendingLimitExceeded', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type PlaceHoldMutationVariables = Exact<{
  input: PlaceHoldInput;
}>;


export type PlaceHoldMutation = { answer:
    | { __typename: 'CurrencyMismatch', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'IdempotencyKeyReused', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InsufficientFunds', code: ErrorCode, message: string, retryable: boolean, available: { minorUnits: string, decimal: string, currency: string } }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'PayeeCannotReceive', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'PayeeNotFound', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'PlaceHoldSuccess', replayed: boolean, hold: { id: string } | null, fromAccount: { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } } | null }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'SpendingLimitExceeded', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type CaptureHoldMutationVariables = Exact<{
  input: CaptureHoldInput;
}>;


export type CaptureHoldMutation = { answer:
    | { __typename: 'CaptureExceedsHold', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'CaptureHoldSuccess', replayed: boolean, credited: boolean, transfer: { id: string } | null, toAccount: { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } } | null }
    | { __typename: 'HoldNotOpen', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'IdempotencyKeyReused', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'PayeeCannotReceive', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type VoidHoldMutationVariables = Exact<{
  input: VoidHoldInput;
}>;


export type VoidHoldMutation = { answer:
    | { __typename: 'HoldNotOpen', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'IdempotencyKeyReused', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'VoidHoldSuccess', replayed: boolean, hold: { id: string } | null }
   | null };

export type SendBackMutationVariables = Exact<{
  input: ReverseTransferInput;
}>;


export type SendBackMutation = { answer:
    | { __typename: 'IdempotencyKeyReused', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InsufficientFunds', code: ErrorCode, message: string, retryable: boolean, available: { minorUnits: string, decimal: string, currency: string } }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'ReversalExceedsOriginal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'ReverseTransferSuccess', replayed: boolean, credited: boolean, transfer: { id: string } | null, fromAccount: { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } } | null }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type RefundPaymentMutationVariables = Exact<{
  input: RefundPaymentInput;
}>;


export type RefundPaymentMutation = { answer:
    | { __typename: 'IdempotencyKeyReused', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InDoubt', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'InsufficientFunds', code: ErrorCode, message: string, retryable: boolean, available: { minorUnits: string, decimal: string, currency: string } }
    | { __typename: 'InvalidInput', code: ErrorCode, message: string, retryable: boolean, problems: Array<{ path: Array<string>, code: ErrorCode, message: string }> }
    | { __typename: 'RefundPaymentSuccess', replayed: boolean, credited: boolean, refund: { id: string } | null, fromAccount: { id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } } | null }
    | { __typename: 'Refusal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'ReversalExceedsOriginal', code: ErrorCode, message: string, retryable: boolean }
    | { __typename: 'Unavailable', code: ErrorCode, message: string, retryable: boolean }
   | null };

export type ViewerEventsSubscriptionVariables = Exact<{
  after?: string | null | undefined;
}>;


export type ViewerEventsSubscription = { event: { cursor: string, snapshot: boolean, accounts: Array<{ id: string, currency: string, status: AccountStatus, sequence: string, available: { minorUnits: string, decimal: string, currency: string }, held: { minorUnits: string, decimal: string, currency: string } }>, entries: Array<{ sequence: string, at: string, amount: { minorUnits: string, decimal: string, currency: string }, balanceAfter: { minorUnits: string, decimal: string, currency: string }, transfer: { id: string, kind: TransferKind, direction: Direction, reference: string, counterparty: { kind: PartyKind, name: string, username: string | null } | null } }>, holds: Array<{ id: string, direction: Direction, state: HoldState, closable: boolean, createdAt: string, expiresAt: string | null, reference: string, amount: { minorUnits: string, decimal: string, currency: string }, captured: { minorUnits: string, decimal: string, currency: string }, counterparty: { kind: PartyKind, name: string, username: string | null } | null }> } };

export class TypedDocumentString<TResult, TVariables>
  extends String
  implements DocumentTypeDecoration<TResult, TVariables>
{
  __apiType?: NonNullable<DocumentTypeDecoration<TResult, TVariables>['__apiType']>;
  private value: string;
  public __meta__?: Record<string, any> | undefined;

  constructor(value: string, __meta__?: Record<string, any> | undefined) {
    super(value);
    this.value = value;
    this.__meta__ = __meta__;
  }

  override toString(): string & DocumentTypeDecoration<TResult, TVariables> {
    return this.value;
  }
}
export const AmountFragmentDoc = new TypedDocumentString(`
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
    `, {"fragmentName":"Amount"}) as unknown as TypedDocumentString<AmountFragment, unknown>;
export const AccountStateFragmentDoc = new TypedDocumentString(`
    fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}`, {"fragmentName":"AccountState"}) as unknown as TypedDocumentString<AccountStateFragment, unknown>;
export const LineFragmentDoc = new TypedDocumentString(`
    fragment Line on Entry {
  sequence
  at
  amount {
    ...Amount
  }
  balanceAfter {
    ...Amount
  }
  transfer {
    id
    kind
    direction
    reference
    counterparty {
      kind
      name
      username
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}`, {"fragmentName":"Line"}) as unknown as TypedDocumentString<LineFragment, unknown>;
export const HoldStateFragmentDoc = new TypedDocumentString(`
    fragment HoldState on Hold {
  id
  direction
  state
  closable
  createdAt
  expiresAt
  reference
  amount {
    ...Amount
  }
  captured {
    ...Amount
  }
  counterparty {
    kind
    name
    username
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}`, {"fragmentName":"HoldState"}) as unknown as TypedDocumentString<HoldStateFragment, unknown>;
export const FailureFragmentDoc = new TypedDocumentString(`
    fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}`, {"fragmentName":"Failure"}) as unknown as TypedDocumentString<FailureFragment, unknown>;
export const HomeDocument = new TypedDocumentString(`
    query Home($entries: Int!) {
  currencies {
    code
    exponent
  }
  viewer {
    id
    username
    accounts {
      ...AccountState
    }
    history(first: $entries) {
      nodes {
        ...Line
      }
    }
    holds(first: 20, direction: IN, states: [OPEN]) {
      nodes {
        ...HoldState
      }
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Line on Entry {
  sequence
  at
  amount {
    ...Amount
  }
  balanceAfter {
    ...Amount
  }
  transfer {
    id
    kind
    direction
    reference
    counterparty {
      kind
      name
      username
    }
  }
}
fragment HoldState on Hold {
  id
  direction
  state
  closable
  createdAt
  expiresAt
  reference
  amount {
    ...Amount
  }
  captured {
    ...Amount
  }
  counterparty {
    kind
    name
    username
  }
}`) as unknown as TypedDocumentString<HomeQuery, HomeQueryVariables>;
export const HistoryDocument = new TypedDocumentString(`
    query History($first: Int!, $after: String, $filter: HistoryFilterInput) {
  viewer {
    history(first: $first, after: $after, filter: $filter) {
      pageInfo {
        hasNextPage
        endCursor
      }
      nodes {
        ...Line
      }
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Line on Entry {
  sequence
  at
  amount {
    ...Amount
  }
  balanceAfter {
    ...Amount
  }
  transfer {
    id
    kind
    direction
    reference
    counterparty {
      kind
      name
      username
    }
  }
}`) as unknown as TypedDocumentString<HistoryQuery, HistoryQueryVariables>;
export const TransferDocument = new TypedDocumentString(`
    query Transfer($id: ID!) {
  transfer(id: $id) {
    id
    kind
    direction
    at
    reference
    amount {
      ...Amount
    }
    fee {
      ...Amount
    }
    reversible {
      ...Amount
    }
    counterparty {
      kind
      name
      username
    }
    reverses {
      id
    }
    hold {
      id
    }
    merchant {
      name
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}`) as unknown as TypedDocumentString<TransferQuery, TransferQueryVariables>;
export const PayeeDocument = new TypedDocumentString(`
    query Payee($username: String!) {
  payee(username: $username) {
    kind
    name
    username
    currencies
  }
}
    `) as unknown as TypedDocumentString<PayeeQuery, PayeeQueryVariables>;
export const PreviewDocument = new TypedDocumentString(`
    query Preview($input: PreviewInput!) {
  preview(input: $input) {
    amount {
      ...Amount
    }
    fee {
      ...Amount
    }
    received {
      ...Amount
    }
    remaining {
      ...Amount
    }
    refusal {
      ...Failure
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<PreviewQuery, PreviewQueryVariables>;
export const HoldsDocument = new TypedDocumentString(`
    query Holds($first: Int!, $after: String, $direction: Direction) {
  viewer {
    holds(first: $first, after: $after, direction: $direction) {
      pageInfo {
        hasNextPage
        endCursor
      }
      nodes {
        ...HoldState
      }
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment HoldState on Hold {
  id
  direction
  state
  closable
  createdAt
  expiresAt
  reference
  amount {
    ...Amount
  }
  captured {
    ...Amount
  }
  counterparty {
    kind
    name
    username
  }
}`) as unknown as TypedDocumentString<HoldsQuery, HoldsQueryVariables>;
export const StatementDocument = new TypedDocumentString(`
    query Statement($account: ID!, $since: DateTime!, $until: DateTime!, $after: String) {
  account(id: $account) {
    statement(since: $since, until: $until) {
      opening {
        ...Amount
      }
      closing {
        ...Amount
      }
      entries(first: 100, after: $after) {
        pageInfo {
          hasNextPage
          endCursor
        }
        nodes {
          ...Line
        }
      }
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Line on Entry {
  sequence
  at
  amount {
    ...Amount
  }
  balanceAfter {
    ...Amount
  }
  transfer {
    id
    kind
    direction
    reference
    counterparty {
      kind
      name
      username
    }
  }
}`) as unknown as TypedDocumentString<StatementQuery, StatementQueryVariables>;
export const SecurityDocument = new TypedDocumentString(`
    query Security($first: Int!) {
  viewer {
    email
    sessions(first: $first) {
      nodes {
        id
        current
        kind
        address
        userAgent
        createdAt
        lastSeenAt
      }
    }
    securityEvents(first: $first) {
      nodes {
        id
        kind
        at
        address
      }
    }
  }
}
    `) as unknown as TypedDocumentString<SecurityQuery, SecurityQueryVariables>;
export const SignUpDocument = new TypedDocumentString(`
    mutation SignUp($input: SignUpInput!) {
  answer: signUp(input: $input) {
    __typename
    ... on SignUpSuccess {
      user {
        id
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<SignUpMutation, SignUpMutationVariables>;
export const LogInDocument = new TypedDocumentString(`
    mutation LogIn($input: LogInInput!) {
  answer: logIn(input: $input) {
    __typename
    ... on LogInSuccess {
      token
      expiresAt
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<LogInMutation, LogInMutationVariables>;
export const LogOutDocument = new TypedDocumentString(`
    mutation LogOut {
  answer: logOut {
    __typename
    ... on LogOutSuccess {
      ended
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<LogOutMutation, LogOutMutationVariables>;
export const LogOutEverywhereDocument = new TypedDocumentString(`
    mutation LogOutEverywhere($input: LogOutEverywhereInput!) {
  answer: logOutEverywhere(input: $input) {
    __typename
    ... on LogOutEverywhereSuccess {
      ended
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<LogOutEverywhereMutation, LogOutEverywhereMutationVariables>;
export const RevokeSessionDocument = new TypedDocumentString(`
    mutation RevokeSession($input: RevokeSessionInput!) {
  answer: revokeSession(input: $input) {
    __typename
    ... on RevokeSessionSuccess {
      ended
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<RevokeSessionMutation, RevokeSessionMutationVariables>;
export const OpenAccountDocument = new TypedDocumentString(`
    mutation OpenAccount($input: OpenAccountInput!) {
  answer: openAccount(input: $input) {
    __typename
    ... on OpenAccountSuccess {
      account {
        ...AccountState
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<OpenAccountMutation, OpenAccountMutationVariables>;
export const PayDocument = new TypedDocumentString(`
    mutation Pay($input: TransferInput!) {
  answer: transfer(input: $input) {
    __typename
    ... on TransferSuccess {
      replayed
      credited
      transfer {
        id
      }
      fromAccount {
        ...AccountState
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<PayMutation, PayMutationVariables>;
export const PayMerchantDocument = new TypedDocumentString(`
    mutation PayMerchant($input: PayMerchantInput!) {
  answer: payMerchant(input: $input) {
    __typename
    ... on PayMerchantSuccess {
      replayed
      credited
      payment {
        id
      }
      hold {
        id
      }
      fromAccount {
        ...AccountState
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<PayMerchantMutation, PayMerchantMutationVariables>;
export const PlaceHoldDocument = new TypedDocumentString(`
    mutation PlaceHold($input: PlaceHoldInput!) {
  answer: placeHold(input: $input) {
    __typename
    ... on PlaceHoldSuccess {
      replayed
      hold {
        id
      }
      fromAccount {
        ...AccountState
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<PlaceHoldMutation, PlaceHoldMutationVariables>;
export const CaptureHoldDocument = new TypedDocumentString(`
    mutation CaptureHold($input: CaptureHoldInput!) {
  answer: captureHold(input: $input) {
    __typename
    ... on CaptureHoldSuccess {
      replayed
      credited
      transfer {
        id
      }
      toAccount {
        ...AccountState
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<CaptureHoldMutation, CaptureHoldMutationVariables>;
export const VoidHoldDocument = new TypedDocumentString(`
    mutation VoidHold($input: VoidHoldInput!) {
  answer: voidHold(input: $input) {
    __typename
    ... on VoidHoldSuccess {
      replayed
      hold {
        id
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<VoidHoldMutation, VoidHoldMutationVariables>;
export const SendBackDocument = new TypedDocumentString(`
    mutation SendBack($input: ReverseTransferInput!) {
  answer: reverseTransfer(input: $input) {
    __typename
    ... on ReverseTransferSuccess {
      replayed
      credited
      transfer {
        id
      }
      fromAccount {
        ...AccountState
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<SendBackMutation, SendBackMutationVariables>;
export const RefundPaymentDocument = new TypedDocumentString(`
    mutation RefundPayment($input: RefundPaymentInput!) {
  answer: refundPayment(input: $input) {
    __typename
    ... on RefundPaymentSuccess {
      replayed
      credited
      refund {
        id
      }
      fromAccount {
        ...AccountState
      }
    }
    ...Failure
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Failure on WalletError {
  code
  message
  retryable
  ... on InvalidInput {
    problems {
      path
      code
      message
    }
  }
  ... on InsufficientFunds {
    available {
      ...Amount
    }
  }
  ... on RateLimited {
    retryAfterSeconds
  }
}`) as unknown as TypedDocumentString<RefundPaymentMutation, RefundPaymentMutationVariables>;
export const ViewerEventsDocument = new TypedDocumentString(`
    subscription ViewerEvents($after: String) {
  event: viewerEvents(after: $after) {
    cursor
    snapshot
    accounts {
      ...AccountState
    }
    entries {
      ...Line
    }
    holds {
      ...HoldState
    }
  }
}
    fragment Amount on Money {
  minorUnits
  decimal
  currency
}
fragment AccountState on Account {
  id
  currency
  status
  sequence
  available {
    ...Amount
  }
  held {
    ...Amount
  }
}
fragment Line on Entry {
  sequence
  at
  amount {
    ...Amount
  }
  balanceAfter {
    ...Amount
  }
  transfer {
    id
    kind
    direction
    reference
    counterparty {
      kind
      name
      username
    }
  }
}
fragment HoldState on Hold {
  id
  direction
  state
  closable
  createdAt
  expiresAt
  reference
  amount {
    ...Amount
  }
  captured {
    ...Amount
  }
  counterparty {
    kind
    name
    username
  }
}`) as unknown as TypedDocumentString<ViewerEventsSubscription, ViewerEventsSubscriptionVariables>;