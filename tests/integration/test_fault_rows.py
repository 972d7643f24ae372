"""Each row of docs/faults.md with what prevents the fault taken away: a test that the row names fails then."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.integration._protections import BOUND_SECONDS, Mutation, check_noticed, check_rows, each_mutation

BOUNDED: Final = "integration/test_bounded_mutants.py::test_a_mistake_is_convicted"
BROKEN: Final = "integration/test_mutants.py::test_a_mutant_is_convicted"

ROWS: Final[dict[str, Mutation | str]] = {
    "A1": Mutation(
        "idempotency.keys",
        "    key = given\n",
        "    return check_key(given, field)\n    key = given\n",
        "property/test_idempotency_keys.py::test_a1_what_a_spelling_means",
    ),
    "A5": Mutation(
        "urls",
        "        return WITHHELD\n",
        "        return text\n",
        "property/test_urls.py::test_a5_every_printable_character_in_every_part",
    ),
    "A6": Mutation(
        "urls",
        'who = "" if self.user is None else "***@"',
        'who = "" if self.user is None else f"{self.user}:{self.password}@"',
        "integration/test_benchmarks.py::test_a6_no_password_of_a_store_is_shown",
    ),
    "A7": Mutation(
        "integrations.webhooks.sealing",
        "return secret if self._first is None else PREFIX",
        "return secret if True or self._first is None else PREFIX",
        "integration/test_sealed_secrets.py::test_a7_sealed_at_rest_and_in_exports",
    ),
    "A8": Mutation(
        "domain.errors.system",
        'words = f"the wallet cannot do this now{_SO}"',
        'words = f"the wallet cannot do this now{_SO} {{detail}}"',
        "integration/test_store_words.py::test_a8_no_argument_of_such_an_error_is_among_what_clients_see",
    ),
    "A9": Mutation(
        "identity.access",
        'refuse_reserved(check_username(username), "username")',
        "check_username(username)",
        "property/test_reserved.py::test_a9_nobody_signs_up_like_the_wallet",
    ),
    "B1": Mutation(
        "transports.graphql.failures",
        "ERRORS_MAX: Final = 5\n",
        "ERRORS_MAX: Final = 101\n",
        "integration/test_graphql_hostile.py::test_b1_time_over_http",
    ),
    "B2": BOUNDED,
    "B3": BOUNDED,
    "B4": BOUNDED,
    "B5": Mutation(
        "backends.sqlite.file",
        "if not self.is_final and (self.lost or self.changed()):",
        "if False:",
        "integration/test_file_replaced.py::test_b5_a_payment_is_refused_at_once",
    ),
    "B6": "integration/test_postgres_sessions.py::test_b6_the_checks_are_needed",
    "B7": Mutation(
        "transports.server.workers",
        "            os.kill(os.getpid(), signal.SIGTERM)\n",
        "            return\n",
        "integration/test_workers.py::test_b7_a_worker_notices_the_end_of_its_parent",
    ),
    "B8": Mutation(
        "settings",
        "        75, ge=1, le=3600,",
        "        5, ge=1, le=3600,",
        "integration/test_slow_clients.py::test_b8_idle_connections_outlast_the_balancer",
    ),
    "B10": "integration/test_security_mutants.py::test_a_mistake_is_convicted",
    "C1": Mutation(
        "domain.text",
        "found = _REFUSED.search(text)",
        'found = next((one for one in re.finditer("(?s).", text) if not one[0].isprintable()), None)',
        "property/test_text.py::test_c1_what_people_write_passes",
    ),
    "C2": Mutation(
        "domain.text",
        'return unicodedata.normalize("NFC", spaced)',
        "return password",
        "property/test_text.py::test_c2_a_password_is_known_however_it_is_typed",
    ),
    "C3": Mutation(
        "domain.rules.accounts",
        "is not None and not account.is_closed:",
        "is not None:",
        "property/test_reopened_accounts.py::test_c3_a_merchant_is_told_of_the_new_account",
    ),
    "C4": Mutation(
        "domain.currencies",
        " XCD XCG YER",
        " XCD YER",
        "property/test_currencies.py::test_c4_no_currency_is_missing_or_stale",
    ),
    "C5": Mutation(
        "domain.provider_amounts",
        '_WHOLE_OUT: Final = frozenset({"HUF", "TWD"})',
        "_WHOLE_OUT: Final = frozenset()",
        "property/test_provider_amounts.py::test_c5_what_stripe_would_refuse",
    ),
    "C11": Mutation(
        "transports.http.security",
        "allow_headers=(*ASKED_HEADERS, *TOOL_HEADERS, *settings.more_headers)",
        "allow_headers=ASKED_HEADERS",
        "integration/test_security_http.py::test_c11_preflights_with_headers_that_clients_add",
    ),
    "C14": Mutation(
        "identity.strength",
        "user_inputs=[*words, *CONTEXT]",
        "user_inputs=[]",
        "property/test_passwords.py::test_weak_passwords_are_refused",
    ),
    "D1": Mutation(
        "backends.sqlite.store",
        "return Path(where.file)",
        "return Path(where.file[1:])",
        "property/test_urls.py::test_d1_a_sqlite_file_is_the_one_that_is_named",
    ),
    "D2": Mutation(
        "backends.kit.versions",
        "if found == known or migrates:",
        "if found == known or found is None or migrates:",
        "integration/test_cli.py::test_d2_only_some_commands_make_a_ledger",
    ),
    "D3": Mutation(
        "backends.postgres.parameters",
        "url.check_parameters(_TAKEN | _OURS | _IGNORED | {POOL})",
        "url.check_parameters(_TAKEN | _OURS | {POOL})",
        "property/test_urls.py::test_d3_parameters_of_libpq",
    ),
    "D4": Mutation(
        "transports.cli.app",
        'stream.reconfigure(errors="replace")',
        'stream.reconfigure(errors="strict")',
        "integration/test_cli.py::test_d4_a_terminal_lacks_a_character",
    ),
    "D5": Mutation(
        "environment",
        "    except UnicodeDecodeError as error:",
        "    except ZeroDivisionError as error:",
        "integration/test_config_check.py::test_d5_an_env_file_that_cannot_be_read_whole",
    ),
    "D6": Mutation(
        "backends",
        "    except ImportError as error:",
        "    except ZeroDivisionError as error:",
        "property/test_systems.py::test_d6_a_driver_that_is_missing",
    ),
    "D9": Mutation(
        "transports.http.hosts",
        "name not in self._allowed",
        "False",
        "integration/test_hosts.py::test_d9_other_hosts_are_refused",
    ),
    "D10": "integration/test_security_rows.py::test_without_its_protection_the_row_fails",
    **dict.fromkeys(("E1", "E2", "E3", "E4", "E5", "E6", "E7"), BROKEN),
    "E8": Mutation(
        "testing.report",
        '''or "not tried"''',
        '''or "holds"''',
        "integration/test_report.py::test_e8_a_cell_says_what_was_tried",
    ),
    "F1": Mutation(
        "backends.postgres.errors",
        '("20", "21", "22", "23", "25",',
        '("20", "28", "21", "22", "23", "25",',
        "property/test_driver_errors.py::test_f1_what_postgres_answers",
    ),
    "F2": Mutation(
        "backends.sqlite.store",
        '                    connection.execute(f"PRAGMA user_version = {stamp}")  #',
        "                    #",
        "integration/test_store_refuses.py::test_b5_sqlite_that_cannot_grow",
    ),
    "F3": Mutation(
        "transports.http.logs",
        'log.warning("%s is answered with',
        'log.debug("%s is answered with',
        "integration/test_store_words.py::test_f3_each_item_of_a_batch_has_its_line",
    ),
    "F4": Mutation(
        "environment",
        "if name.upper() not in known and",
        "if False and",
        "integration/test_config_check.py::test_f5_all_faults_at_once",
    ),
    "F5": Mutation(
        "transports.server.checks",
        '    _check("WALLET_HOST", "host", by=lambda settings: _check_host(settings.host)),\n',
        "",
        "integration/test_config_check.py::test_f5_all_faults_at_once",
    ),
    "F10": Mutation(
        "transports.server.workers",
        'log.warning("worker %s %s; another one is started in',
        'log.debug("worker %s %s; another one is started in',
        "integration/test_workers.py::test_f10_a_worker_that_dies_again_and_again",
    ),
    "K1": Mutation(
        "transports.http.opening",
        "if self.is_open:  # the failure is one of closing",
        "if True:",
        "property/test_opening.py::test_k1_opening_is_tried_again",
    ),
    "K2": Mutation(
        "background",
        "    except Exception as error:  # noqa: BLE001",
        "    except WalletError as error:  #",
        "property/test_background.py::test_k2_a_loop_survives_anything",
    ),
    "K3": Mutation(
        "backends.mongodb.errors",
        "    if isinstance(error, ConfigurationError):",
        "    if isinstance(error, ConfigurationError):\n        return Meaning.OURS\n    if False:",
        "property/test_driver_errors.py::test_k3_a_mongodb_that_is_changing_roles_is_unavailable",
    ),
    "K5": Mutation(
        "identity.names",
        'return found.due_at <= now or found.body.get("request") == claim.body["request"]',
        "return found.due_at <= now",
        "property/test_sign_up_faults.py::test_k5_a_process_that_dies",
    ),
}
"""By the first cell of the row; a text is the test that takes the prevention away itself."""


def test_every_row_has_a_mutation() -> None:
    """A new row comes with a way to take the prevention away, and names the test that notices."""
    check_rows("docs/faults.md", ROWS)


@pytest.mark.soak
@pytest.mark.timeout(2 * BOUND_SECONDS)
@each_mutation(ROWS)
def test_without_its_prevention_the_row_fails(mutation: Mutation, compiled: Path) -> None:
    """Rows that name a test of mutants instead are tried there."""
    check_noticed(mutation, compiled)
