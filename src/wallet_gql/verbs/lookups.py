"""What verbs read before they decide: payees and merchants by name, transfers, holds and owners."""

from __future__ import annotations

from ..domain.changes import ReadSet, Snapshot
from ..domain.commands import Payee
from ..domain.errors import HoldNotFound, InvalidInput, TransferNotFound, reasons
from ..domain.frozen import frozen
from ..domain.ids import OPERATOR, AccountId, HoldId, TransferId, UserId, is_id, is_system, parse_account_id, slot_of
from ..domain.merchants import Merchant, Terms, merchant_key, terms_key
from ..domain.model import AccountStatus, Hold, Transfer, TransferKind
from ..domain.rules.checks import account_in
from ..domain.users import User, user_key
from ..people import read_called
from ..records import read
from ..storage import Store


@frozen
class To:
    """The payee: exactly one of an account id and a username."""

    account_id: AccountId | None = None
    username: str | None = None

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        if (self.account_id is None) == (self.username is None):
            raise InvalidInput("to", reasons.ONE_PAYEE())


def check_payee(to: To) -> None:
    """Raise InvalidInput unless an account id has the right shape. A malformed username is treated as unknown."""
    if to.account_id is not None:
        parse_account_id(to.account_id, "to.accountId")


async def find_payee(store: Store, to: To, currency: str) -> Payee:
    """The payee that `to` names. Not finding it is no error here: the rule refuses it, which is remembered."""
    if to.account_id is not None:
        return Payee(to.account_id, to.account_id)
    name = to.username or ""
    found = await read_called(store, name, user_key)
    return _nobody(name) if found is None else _payee(*found, name, currency)


async def find_merchant(store: Store, username: str, currency: str) -> tuple[Payee, Merchant | None]:
    """The user as payee, and its merchant record; None if the user is not a merchant."""
    found = await read_called(store, username, user_key, merchant_key)
    if found is None:
        return _nobody(username), None
    owner, snapshot = found
    return _payee(owner, snapshot, username, currency), Merchant.from_record(snapshot.record(merchant_key(owner)))


def _payee(owner: UserId, snapshot: Snapshot, name: str, currency: str) -> Payee:
    if User.from_record(snapshot.record(user_key(owner))) is None:
        return _nobody(name)
    account = account_in(snapshot.wallet(owner), currency)
    return Payee(name, account.id if account else None)


def _nobody(name: str) -> Payee:
    return Payee(name[:40], None, known=False)


async def in_use(store: Store, account_id: AccountId) -> AccountId:
    """The account; if it is closed, the one that its owner has opened in the same currency since, if there is one."""
    if is_system(account_id):
        return account_id
    facts = (await store.fetch(ReadSet(credits=(account_id,)))).facts(account_id)
    if facts is None or facts.status is not AccountStatus.CLOSED:
        return account_id
    wallet = (await store.fetch(ReadSet(wallets=(facts.owner,)))).wallet(facts.owner)
    found = account_in(wallet, facts.currency)
    return account_id if found is None else found.id


async def header_of(store: Store, transfer_id: TransferId) -> Transfer | None:
    """The transfer as stored at its payer's home; None if there is none."""
    return (await store.fetch(ReadSet(transfers=(transfer_id,)))).transfer(transfer_id)


async def transfer_seen_by(store: Store, actor: str, transfer_id: TransferId) -> Transfer:
    """A transfer that the actor paid or received; an operator may read any. Raises TransferNotFound."""
    found = await header_of(store, transfer_id)
    if found is None or not (actor == OPERATOR or await own_side(store, actor, found)):
        raise TransferNotFound(transfer_id)
    return found


async def hold_of(store: Store, hold_id: HoldId) -> Hold | None:
    """A hold as it is now; None if there is none."""
    return (await store.fetch(ReadSet(holds=(hold_id,)))).hold(hold_id)


async def hold_seen_by(store: Store, actor: str, hold_id: HoldId) -> Hold:
    """A hold that the actor placed or may close. Raises HoldNotFound."""
    found = await hold_of(store, hold_id)
    if found is None or not (actor == found.closer or await owns(store, actor, found.account_id)):
        raise HoldNotFound(hold_id)
    return found


async def terms_of(store: Store, transfer: Transfer) -> Terms:
    """The terms of a transfer, which never change."""
    if transfer.kind not in (TransferKind.PAYMENT, TransferKind.SPLIT):
        return Terms()
    return Terms.from_record(await read(store, terms_key(transfer.id)))


async def owns(store: Store, actor: str, account_id: AccountId) -> bool:
    """Whether the actor owns the account. An account of another slot cannot be the actor's, and is not read."""
    if is_system(account_id) or not is_id("usr", actor) or slot_of(account_id) != slot_of(actor):
        return False
    facts = (await store.fetch(ReadSet(credits=(account_id,)))).facts(account_id)
    return facts is not None and facts.owner == actor


async def own_side(store: Store, actor: str, transfer: Transfer) -> AccountId | None:
    """The account of the actor that a transfer debits or credits; None if it is of others. Raises Unavailable."""
    for account_id in (transfer.debit_account_id, transfer.credit_account_id):
        if await owns(store, actor, account_id):
            return account_id
    return None
