"""The webhook endpoint over real HTTP: what is accepted, what is refused, and that a refusal writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest

from tests.integration._server import counted, new_key
from tests.integration._stripe import READ_TOP_UP, Town, now, signed, town_in
from wallet_gql.integrations.stripe_stand_in.state import Body

TABLES = ("accounts", "entries", "transfers", "records", "receipts", "holds")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One server for all of them."""
    with town_in(tmp_path_factory.mktemp("webhooks")) as made:
        yield made


def forged(town: Town, raw: bytes) -> dict[str, tuple[bytes, str | None]]:
    """The event with everything that can be wrong with its signature: name -> (body, header)."""
    good = signed(raw, "whsec_today")
    changed = raw.replace(b'"livemode": false', b'"livemode": fAlse')
    assert changed != raw
    moment, _, digest = good.partition(",")
    return {
        "none": (raw, None),
        "empty": (raw, ""),
        "of somebody else": (raw, signed(raw, "whsec_yesterday")),
        "of the key": (raw, signed(raw, town.fake.key)),
        "one byte of the body changed": (changed, good),
        "a space more": (raw + b" ", good),
        "stale": (raw, signed(raw, "whsec_today", now() - 301 - 5)),
        "from the future": (raw, signed(raw, "whsec_today", now() + 301 + 5)),
        "another moment": (raw, f"t={now() - 1},{digest}"),
        "another scheme": (raw, good.replace("v1=", "v0=")),
        "no moment": (raw, digest),
        "two moments": (raw, f"t=1,{good}"),
        "no number": (raw, f"t=x,{digest}"),
        "cut": (raw, good[:-1]),
        "no ASCII": (raw, f"{moment},v1=\xe9\xe9"),
    }


FORGERIES = (
    "none",
    "empty",
    "of somebody else",
    "of the key",
    "one byte of the body changed",
    "a space more",
    "stale",
    "from the future",
    "another moment",
    "another scheme",
    "no moment",
    "two moments",
    "no number",
    "cut",
    "no ASCII",
)


def test_a_forged_event_is_refused_and_writes_nothing(town: Town) -> None:
    """Each is 400, is logged once without anything secret, and leaves every table as it was; the true one credits."""
    person = town.person()
    town.earn(person, 1_000)
    raw, _ = town.fake.signed(town.fake.state.events[-1], at=now())
    cases = forged(town, raw)
    assert tuple(cases) == FORGERIES
    for name, (body, header) in cases.items():
        before = counted(town.server.path, *TABLES)
        lines = town.server.log.count("a webhook was refused")
        try:
            answer = town.post(body, header)
        except UnicodeEncodeError:
            answer = town.post(body, "t=1,v1=%e9")
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_EVENT"), name
        assert counted(town.server.path, *TABLES) == before, name
        assert town.server.log.count("a webhook was refused") == lines + 1, name
    for secret in (*town.fake.secrets, town.fake.key):
        assert secret not in town.server.log

    good = town.post(raw, signed(raw, "whsec_today"))
    assert good.status_code == 200
    assert town.account(person).posted_minor == 1_000


def test_both_live_secrets_are_good(town: Town) -> None:
    """While a secret is rotated, events signed by the old one, the new one, or both are taken in."""
    for secrets in (["whsec_today"], ["whsec_tomorrow"], ["whsec_today", "whsec_tomorrow"], ["whsec_x", "whsec_today"]):
        person = town.person()
        town.earn(person, 700)
        raw, header = town.fake.signed(town.fake.state.events[-1], at=now(), secrets=secrets)
        assert town.post(raw, header).status_code == 200
        assert town.account(person).posted_minor == 700


def test_an_event_counts_once_however_it_comes(town: Town) -> None:
    """Doubled, replayed under new event ids, and out of order with older events: one credit."""
    person = town.person()
    _, intent_id = town.earn(person, 500)
    about = [one for one in town.fake.state.events if one["data"]["object"].get("id") == intent_id]
    created, succeeded = about[0], about[-1]
    for event in (succeeded, succeeded, created, {**succeeded, "id": "evt_another"}, created):
        assert town.tell(event) == 200
    account = town.account(person)
    assert (account.posted_minor, account.sequence) == (500, 1)


def test_unknown_events_are_taken_in_and_forgotten(town: Town) -> None:
    """Kinds nobody knows, objects of other products, and bodies with holes: 200, and nothing is written."""
    town.earn(town.person(), 100)
    known = deepcopy(town.fake.state.events[0])
    strange: list[Body] = [
        {**known, "type": "customer.created", "data": {"object": {"id": "cus_1", "object": "customer"}}},
        {**known, "data": {"object": {"id": "pi_nobodys", "object": "payment_intent"}}},
        {**known, "data": {"object": {"id": 7, "object": "payment_intent"}}},
        {**known, "data": {"object": {"id": "ch_1", "object": "charge"}}},
        {**known, "data": {"object": {"id": "po_1", "object": "payout"}}},
        {**known, "account": "acct_nobodys", "data": {"object": {"id": "po_1", "object": "payout"}}},
        {**known, "data": []},
        {"object": "event", "livemode": False},
    ]
    before = counted(town.server.path, *TABLES)
    statuses = [town.tell(event) for event in strange]
    # A connected account that is not ours is refused to our key, which may also be a fault of the key: it comes again.
    assert statuses == [200, 200, 200, 200, 200, 503, 200, 200]
    assert counted(town.server.path, *TABLES) == before


def test_what_is_signed_and_no_event_is_refused(town: Town) -> None:
    """Not JSON, or JSON of another kind: 400. Larger than any event: 413, before anybody reads it."""
    for raw in (b"", b"{", b"[]", b"null", b'{"object": "charge"}', b"\xff\xfe"):
        assert town.post(raw, signed(raw, "whsec_today")).status_code == 400, raw
    raw = b'{"object": "event", "x": "' + b"x" * 300_000 + b'"}'
    assert town.post(raw, signed(raw, "whsec_today")).status_code == 413


def test_a_live_event_for_a_test_key_is_put_aside(town: Town) -> None:
    """200, so that it does not come again, and an alarm; nothing is credited."""
    person = town.person()
    town.earn(person, 900)
    event = {**town.fake.state.events[-1], "livemode": True, "id": "evt_live"}
    assert town.tell(event) == 200
    assert town.account(person).posted_minor == 0
    assert any(one.about == "evt_live" for one in town.alarms())


@pytest.mark.parametrize("wrong", ["received less", "asked for more", "another currency", "another top-up"])
def test_a_payment_that_does_not_match_is_put_aside(town: Town, wrong: str) -> None:
    """200 and one alarm, logged once, however often it comes; the money is not credited to anybody."""
    person, other = town.person(), town.person()
    top_up_id, intent_id = town.earn(person, 800)
    intent, paid = town.fake.state.objects[intent_id], town.fake.state.events[-1]
    if wrong == "received less":
        intent["amount_received"] = 799
    elif wrong == "asked for more":
        intent["amount"] = intent["amount_received"] = 80_000
    elif wrong == "another currency":
        intent["currency"] = "jpy"
    else:
        intent["metadata"]["wallet_top_up"] = town.top_up(other, 800)["topUp"]["id"]
    for _ in range(3):
        assert town.tell(paid) == 200
    assert [town.account(one).posted_minor for one in (person, other)] == [0, 0]
    assert sum(one.about == intent_id for one in town.alarms()) == 1
    assert town.server.log.count(f"payments need an operator: {intent_id}") == 1
    if wrong != "another top-up":
        assert town.ask(person, READ_TOP_UP, id=top_up_id)["state"] == "QUARANTINED"


def test_an_intent_that_names_nobodys_top_up_is_put_aside(town: Town) -> None:
    """Its metadata name a top-up that does not exist, or no id at all."""
    for named in ("top_0193a1b2c3d47f00812345678abcdef0", "nonsense"):
        _, intent_id = town.earn(town.person(), 600)
        town.fake.state.objects[intent_id]["metadata"]["wallet_top_up"] = named
        assert town.tell() == 200
        assert any(one.about == intent_id and named in one.reason for one in town.alarms())


@pytest.mark.parametrize("wrong", ["another account", "amount", "currency", "another withdrawal"])
def test_a_payout_that_does_not_match_is_put_aside(town: Town, wrong: str) -> None:
    """A payout of another user's connected account, or of another amount, captures no hold."""
    person = town.person(5_000)
    withdrawal_id = town.withdraw(person, 1_000)["withdrawal"]["id"]
    payout_id = town.payout_of(withdrawal_id)
    payout = town.fake.state.objects[payout_id]
    if wrong == "another account":
        payout["account"] = town.fake.state.connect("acct_somebodyelse")
    elif wrong == "amount":
        payout["amount"] = 999
    elif wrong == "currency":
        payout["currency"] = "usd"
    else:
        payout["metadata"]["wallet_withdrawal"] = town.withdraw(person, 1_000)["withdrawal"]["id"]
    town.fake.state.settle_payout(payout_id, "paid")
    assert town.tell() == 200
    account = town.account(person)
    assert account.posted_minor == 5_000
    assert account.held_minor >= 1_000
    assert any(one.about == payout_id for one in town.alarms())


def test_an_event_that_fails_comes_again(town: Town) -> None:
    """While Stripe's API does not answer the event is not done: 503, and the next delivery credits."""
    person = town.person()
    town.earn(person, 650)
    for fault in ("lose_request", "lose_answer", "error", "busy"):
        town.fake.faults.append(fault)
        assert town.tell() == 503
        assert town.account(person).posted_minor == 0
    assert town.tell() == 200
    assert town.account(person).posted_minor == 650


def test_the_browsers_word_credits_nothing(town: Town) -> None:
    """A client that claims a payment, by asking again or by reading, gets a secret and no money."""
    person, key = town.person(), new_key()
    first = town.top_up(person, 400, key)
    for _ in range(3):
        again = town.top_up(person, 400, key)
        assert (again["replayed"], again["topUp"]["state"]) == (True, "AWAITING_PAYMENT")
        assert town.ask(person, READ_TOP_UP, id=first["topUp"]["id"])["clientSecret"] == first["clientSecret"]
    town.fake.state.fail_payment(town.intent_of(first["topUp"]["id"]))
    assert town.tell() == 200
    assert town.account(person).posted_minor == 0
