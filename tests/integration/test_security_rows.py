"""Each row of SECURITY.md with its protection taken away: a test that the row names fails then."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.integration._protections import BOUND_SECONDS, Mutation, check_noticed, check_rows, each_mutation

PROBES: Final = "integration/test_graphql_probes.py"
HTTP: Final = "integration/test_security_http.py"
LOG_IN: Final = "integration/test_security_log_in.py"
LIMITS: Final = "transports.graphql.limits"

OTHERS_TRANSFERS: Final = Mutation(
    "verbs.lookups",
    "if found is None or not (actor == OPERATOR or await own_side(store, actor, found)):",
    "if found is None:",
    "integration/test_rest_ownership.py::test_ids_of_others_are_like_unknown_ids",
)
UNKNOWN_MEMBERS: Final = Mutation(
    "transports.rest.values",
    'extra="forbid"',
    'extra="ignore"',
    f"{PROBES}::test_inputs_take_nothing_that_is_not_theirs",
)
NO_THROTTLE: Final = Mutation(
    "identity.throttle", "if found.count >= most:", "if False:", f"{LOG_IN}::test_ten_failures_are_enough"
)
UNCOUNTED_PAYMENTS: Final = Mutation(
    "transports.graphql.counting",
    "yield from repeat(MONEY, _payments(field, variables))",
    "yield from ()",
    "integration/test_rate_limits.py::test_each_money_mutation_of_a_document_counts",
)
ANY_ADDRESS: Final = Mutation(
    "integrations.webhooks.targets",
    "return found.is_global and not special and not found.is_link_local",
    "return True or bool(special)",
    "integration/test_merchant_webhooks.py::test_addresses_that_are_not_public",
)
MISMATCHES: Final = Mutation(
    "domain.rules.topups",
    "if is_paid(seen) and seen.received_minor != top_up.amount_minor:",
    "if False:",
    "integration/test_stripe_webhooks.py::test_a_payment_that_does_not_match_is_put_aside",
)
ROWS: Final = {
    "1": OTHERS_TRANSFERS,
    "2": UNKNOWN_MEMBERS,
    "3": Mutation(
        LIMITS,
        "MONEY_MUTATIONS_MAX: Final = 5",
        "MONEY_MUTATIONS_MAX: Final = 500",
        f"{PROBES}::test_many_attempts_in_one_document",
    ),
    "4": Mutation(
        LIMITS, "FIELDS_MAX: Final = 400", "FIELDS_MAX: Final = 4_000", f"{PROBES}::test_documents_beyond_the_limits"
    ),
    "5": Mutation(
        "transports.graphql.introspection",
        "if settings.mode is Mode.PRODUCTION and",
        "if False and",
        f"{PROBES}::test_introspection",
    ),
    "6": Mutation(
        "transports.http.origins",
        'return site == "none" or not has_cookie',
        "return True",
        f"{HTTP}::test_which_site_it_comes_from",
    ),
    "7": Mutation(
        "transports.graphql.view",
        "            check_same_site(socket)\n",
        "            pass\n",
        f"{HTTP}::test_websocket_handshakes_from_other_sites_are_refused",
    ),
    "8": Mutation(
        "identity.sessions",
        "found[0].expires_at <= now or found[0].epoch",
        "found[0].epoch",
        "property/test_users.py::TestSessions::test_sessions_end_by_idling_and_by_age",
    ),
    "9": Mutation(
        "identity.strength",
        "SCORE_MIN: Final = 3",
        "SCORE_MIN: Final = 0",
        "property/test_passwords.py::test_weak_passwords_are_refused",
    ),
    "10": Mutation(
        "identity.access",
        "matches = await self.passwords.verify(stored, password[:PASSWORD_SENT_MAX]",
        "matches = bool(stored) and await self.passwords.verify(stored, password[:PASSWORD_SENT_MAX]",
        f"{LOG_IN}::test_every_log_in_costs_one_verification_and_as_many_reads_and_writes",
    ),
    "11": NO_THROTTLE,
    "12": Mutation(
        "domain.rules.checks",
        "if amount_minor > spendable_minor:",
        "if False:",
        "integration/test_graphql_races.py::test_one_wins",
    ),
    "13": Mutation(
        "domain.money",
        "if amount_minor <= 0:",
        "if amount_minor < -(10**30):",
        "integration/test_graphql_bad_input.py::test_amounts_that_cannot_be_paid",
    ),
    "14": Mutation(
        "integrations.stripe.signature",
        'raise BadSignature("its signature is by none of the secrets, or the body was changed")',
        "pass",
        "integration/test_stripe_webhooks.py::test_a_forged_event_is_refused_and_writes_nothing",
    ),
    "15": Mutation(
        "identity.access",
        "if self._clock() - session.logged_in_at > FRESH:",
        "if False:",
        "integration/test_security_checks.py::test_withdrawals_need_a_fresh_log_in",
    ),
    "16": Mutation(
        "transports.graphql.failures",
        'message, code = "something went wrong on our side; the request id helps us find it", INTERNAL.name',
        "message, code = str(cause), INTERNAL.name",
        "integration/test_http.py::test_our_own_bugs_are_masked",
    ),
    "17": Mutation(
        "identity.events",
        'log.info("%s of %s from %s"',
        'log.debug("%s of %s from %s"',
        "integration/test_security_checks.py::test_logs_tell_who_and_no_secrets",
    ),
    "18": Mutation(
        "transports.graphql.asked",
        "if tuple(map(type, found)) not in _FITTING:",
        "if False:",
        f"{PROBES}::test_unhandled_errors",
    ),
    "19": Mutation(
        "setting_checks",
        "if os.environ.get(failpoints.VARIABLE) and settings.mode is not Mode.TEST:",
        "if False:",
        "property/test_settings.py::test_failpoints_are_for_test_mode_only",
    ),
    "20": ANY_ADDRESS,
    "API1": OTHERS_TRANSFERS,
    "API2": NO_THROTTLE,
    "API3": UNKNOWN_MEMBERS,
    "API4": Mutation(
        LIMITS, "DEPTH_MAX: Final = 12", "DEPTH_MAX: Final = 1_200", f"{PROBES}::test_documents_beyond_the_limits"
    ),
    "API5": Mutation(
        "transports.catalogue.operations",
        '    Operation("readAccount",',
        '    Operation("freezeAccount"),\n    Operation("readAccount",',
        "integration/test_security_checks.py::test_the_api_has_no_operators_functions",
    ),
    "API6": UNCOUNTED_PAYMENTS,
    "API7": Mutation(
        "integrations.webhooks.targets",
        'schemes = ("https", "http") if allow_private else ("https",)',
        'schemes = ("https", "http")',
        "integration/test_merchant_webhooks.py::test_urls_that_are_refused",
    ),
    "API8": Mutation(
        "transports.http.tls",
        "elif not settings.insecure_http and not",
        "elif False and not",
        "integration/test_tls.py::test_plain_http_beyond_this_machine_is_refused",
    ),
    "API9": Mutation(
        "transports.graphql.accounts",
        "oldest first: closed ones, too; one in use for each currency.",
        "in some order.",
        "integration/test_cli.py::test_the_committed_schema_is_current",
    ),
    "API10": MISMATCHES,
    "alias overloading": Mutation(
        LIMITS, "ALIASES_MAX: Final = 15", "ALIASES_MAX: Final = 1_500", f"{PROBES}::test_alias_overloading"
    ),
    "batch queries": Mutation(
        "transports.graphql.asked", "if not isinstance(given, Mapping):", "if False:", f"{PROBES}::test_batch_queries"
    ),
    "directive overloading": Mutation(
        LIMITS,
        "DIRECTIVES_MAX: Final = 50",
        "DIRECTIVES_MAX: Final = 5_000",
        f"{PROBES}::test_directives_at_many_fields",
    ),
    "field duplication": Mutation(
        LIMITS, "LEAVES_MAX: Final = 100", "LEAVES_MAX: Final = 1_000", f"{PROBES}::test_field_duplication"
    ),
    "circular query by introspection": Mutation(
        "transports.graphql.introspection",
        '_HIDDEN: Final = ("__schema", "__type")',
        '_HIDDEN: Final = ("__type",)',
        f"{PROBES}::test_circular_query_by_introspection",
    ),
    "introspection": Mutation(
        "transports.graphql.introspection",
        "self.found or node.name.value in _HIDDEN",
        "self.found",
        f"{PROBES}::test_introspection",
    ),
    "field suggestions": Mutation(
        "transports.graphql.failures",
        '_HINT.sub("", error.message[: 2 * MESSAGE_MAX])',
        "error.message[: 2 * MESSAGE_MAX]",
        f"{PROBES}::test_field_suggestions",
    ),
    "GraphiQL": Mutation(
        "transports.server.app",
        "return None if settings.mode is Mode.PRODUCTION else graphiql.start_tabs()",
        "return ()",
        f"{PROBES}::test_graphiql",
    ),
    "tracing": Mutation(
        "transports.graphql.http_spec",
        "    if result.extensions:\n",
        '    shown["extensions"] = {"tracing": {"version": 1}}\n    if result.extensions:\n',
        f"{PROBES}::test_tracing",
    ),
    "queries by GET": Mutation(
        "transports.graphql.view", "        check_same_site(request)\n", "        pass\n", f"{PROBES}::test_get_queries"
    ),
    "mutations by GET": Mutation(
        "transports.graphql.view",
        '"GET": (OperationType.QUERY,)',
        '"GET": (OperationType.QUERY, OperationType.MUTATION)',
        f"{PROBES}::test_get_mutations",
    ),
    "POST as a form": Mutation(
        "transports.graphql.view",
        "            check_body_type(request.headers)\n",
        "            pass\n",
        f"{PROBES}::test_posts_that_a_form_can_send",
    ),
}
"""By the first cell of the row."""


def test_every_row_has_a_mutation() -> None:
    """A new row comes with a way to take its protection away, and names the test that notices."""
    check_rows("SECURITY.md", ROWS)


@pytest.mark.soak
@pytest.mark.timeout(2 * BOUND_SECONDS)
@each_mutation(ROWS)
def test_without_its_protection_the_row_fails(mutation: Mutation, compiled: Path) -> None:
    """Rows that share a mutation are tried once."""
    check_noticed(mutation, compiled)
