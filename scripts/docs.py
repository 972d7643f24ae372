"""Write what is made from code in the docs; with `--check`, only say what is out of date.

That is `docs/errors.md`, made from `wallet_gql.domain.errors` and `wallet_gql.transports.catalogue.errors`;
`docs/metrics.md`, made from `wallet_gql.metrics`; and on every page the blocks that follow a line
`<!-- from path/of/file -->`: they show that file, or what stands in it between `# docs: begin` and `# docs: end`. After
`<!-- from path/of/file#part -->` it is what stands between `// docs: begin part` and the next `// docs: end`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import dedent
from typing import Final

from wallet_gql import metrics
from wallet_gql.domain.errors import (
    EmailTaken,
    InDoubt,
    InvalidInput,
    RateLimited,
    Rejected,
    Unavailable,
    UsernameTaken,
    WalletError,
    error_classes,
)
from wallet_gql.domain.errors.reasons import REASONS
from wallet_gql.transports.catalogue.errors import CODES, WITH_PROBLEMS, Code, camel, status_of
from wallet_gql.transports.graphql.errors import Refusal, own_fields, type_of

ROOT: Final = Path(__file__).resolve().parents[1]
ERRORS: Final = ROOT / "docs" / "errors.md"
METRICS: Final = ROOT / "docs" / "metrics.md"

_INCLUDED: Final = re.compile(
    r"^(?P<head><!-- from (?P<path>[^\s#]+)(#(?P<part>\S+))? -->\n```[a-z]*\n)(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SHOWN: Final = r"^ *(#|//) docs: begin{part}\n(?P<text>.*?)^ *(#|//) docs: end$"

_HEAD: Final = """\
# Errors

<!-- Made by scripts/docs.py from wallet_gql.domain.errors and wallet_gql.transports.catalogue.errors. Do not edit. -->

Every answer that is not a yes tells whether to retry, and with which idempotency key:

| answer | has money moved? | what to do |
|---|---|---|
| `Rejected`, remembered | no | correct the request; the next attempt needs a **new key** |
| `Rejected`, not remembered | no | correct the request; the key is still free |
| `Unavailable` | no, nothing changed | retry with the **same key** |
| `RateLimited` | no, nothing changed | wait for `Retry-After` seconds, then retry with the **same key** |
| `InDoubt` | unknown | ask again with the **same key**, never with a new one |
| `Unauthenticated`, `FRESH_LOG_IN_REQUIRED` | no | log in, then send the same request with the **same key** |
| `INTERNAL` | unknown | a bug of ours: ask again later with the **same key**, never with a new one |

`code` is stable and meant for programs; new codes may come, old ones are not renamed. The message says what to do next,
in the language that `Accept-Language` wants: English or German. An answer with a message has `Content-Language`.

A refusal that is *remembered* is stored under its key, so the same key gives the same refusal for ever, even when the
account has enough money by then: the next attempt needs a new key. One that is not remembered (`INVALID_INPUT`,
`INVALID_AMOUNT`, `BATCH_ABORTED`, `PAYMENTS_NOT_CONFIGURED`) leaves the key free: the next attempt may use it, or a new
one. After `FRESH_LOG_IN_REQUIRED` send the same request with the same key. After `IDEMPOTENCY_KEY_REUSED` the key
belongs to its first input: another input needs a new key. Only money commands have keys; for the rest the column says
nothing. A capture, void or reversal of an id that does not exist is refused before anything could be stored.

*Status* is that of REST. The values of an error have the names that are listed here; amounts in `…Minor` are text of
digits. GraphQL gives the error as the type that is named; `Refusal` has no values beside `code` and `message`.
"""

_TRANSPORTS: Final = """\
## Codes of the transports

These come before any operation is run: from HTTP itself, from REST as the same `application/problem+json`, from GraphQL
in the top-level `errors`. The status of GraphQL's own depends on what the client accepts: 200, 400 or 422. A code that
is also in a table above means here what this table says.

| code | status | sent by | retry | meaning |
|---|---|---|---|---|
"""

_REASONS: Final = """\
## Reasons of problems

Each of `problems`, in GraphQL (`InvalidInput`) and REST, has a `reason`: one of the words below, for programs that have
texts of their own. New ones may come. Where a problem is an error of its own, such as `USERNAME_TAKEN`, the reason is
its code.

REST also has a `reason` outside `problems`, beside `code`: with `INVALID_INPUT` and `INVALID_AMOUNT`. That one is a
sentence for people, such as a message below. Programs must not compare it.

| reason | message |
|---|---|
"""

_METRICS: Final = """\
# Metrics, logs and traces

<!-- Made by scripts/docs.py from wallet_gql.metrics. Do not edit. -->

With `WALLET_METRICS_ADDRESS=127.0.0.1:9464` the server answers `GET /metrics` on that port, in the text format of
Prometheus. The workers of one server answer as one; what a worker counted stays when it dies. Without the setting
nothing is measured. The port has no log-in and no TLS: open it to Prometheus alone. Metrics hold no name, no amount of
a user, no id and no secret.

- `verb` is an operation of [the API](../schema.graphql), with the same name in GraphQL and REST; `-` is anything else.
- `code` is `OK` or a code of [errors](errors.md).
- `node` is a node of the store; a store with one node calls it `local`.
- Metrics of connections exist on postgres and redis+postgres only. Those of commits in doubt, pending credits and
  clocks exist on postgres, redis+postgres and mongodb only ([table](operations.md#watch-it)).
- One process of each server looks at the store every `WALLET_SURVEY_SECONDS`. Every `WALLET_BOOKS_SECONDS` it sums the
  books, which reads all accounts. With several servers, set that to 0 on all but one.

Log lines go to standard error. With `WALLET_LOG_FORMAT=json` each is one JSON object: `time`, `level`, `logger`,
`message`, and of a request `requestId`, `userId`, `verb` and, in its last line, `outcome`. Every answer `IN_DOUBT`,
`UNAVAILABLE`, `NODE_UNAVAILABLE` or `CONTENDED` has a line of level `WARNING`, and so has every worker that died.
Calls of `/healthz` and `/readyz` have none. No line holds a password, a token, a key or an e-mail address.

## Traces

With `WALLET_TRACES_URL=http://127.0.0.1:4318` the server sends spans of OpenTelemetry there, by OTLP over HTTP. That
needs the extra `otel` ([how to install](../README.md#install)); the image has it. Without the setting nothing is
traced, and the library is not loaded. These are the spans:

- One for each request but `/healthz` and `/readyz`, and for each operation on a WebSocket. It is called like the
  operation, such as `transfer`; without one `graphql`, `rest` or `http`. `wallet.api` is as above, `wallet.outcome` is
  `OK` or a code.
- Below it `commit`, for each commit of the store that one of its commands was in. `wallet.batch_commands` is how many
  commands the commit had. `wallet.outcome` is the command's; `AGAIN` means that it is tried once more.
- `stripe write`, `stripe read` and `webhook`: each call to Stripe or to a merchant's server. Those of sweeps are traces
  of their own.

No span holds a name, an id of a user, an amount, an address or a secret. JSON log lines have the `traceId` of what they
belong to. `traceparent` counts only from `WALLET_TRUSTED_PROXIES`: others could choose whose traces they join, and have
everything sampled. A collector that does not answer loses spans. It delays no request, and a stop of the server by two
seconds at most.

The standard variables do the rest. `OTEL_SERVICE_NAME` is `wallet-gql` by default. `OTEL_EXPORTER_OTLP_HEADERS` has the
key of a collector that wants one. `OTEL_TRACES_SAMPLER=parentbased_traceidratio` with `OTEL_TRACES_SAMPLER_ARG=0.01`
traces one request of a hundred.

## All metrics

| metric | type | labels | meaning |
|---|---|---|---|
"""


def errors_page() -> str:
    """The whole page of errors."""
    rejected = error_classes(Rejected)
    unavailable: list[type[WalletError]] = [Unavailable, *error_classes(Unavailable)]
    others = [kind for kind in error_classes() if kind not in {Rejected, *rejected, *unavailable, InDoubt}]
    parts = [
        _HEAD,
        _section("Rejected: no money moved", rejected, remembered=True),
        _section("Unavailable: nothing changed, retry with the same key", unavailable),
        _section("InDoubt: unknown, ask again with the same key", [InDoubt]),
        _section("The rest", others),
        _REASONS + "".join(f"| `{one.code}` | {one.words} |\n" for one in REASONS),
        _TRANSPORTS + "".join(map(_code, CODES)),
    ]
    return "\n".join(parts)


def _section(title: str, kinds: list[type[WalletError]], *, remembered: bool = False) -> str:
    heads = ["code", "status", "meaning", "values in REST", "in GraphQL", *(["remembered"] if remembered else [])]
    lines = [f"## {title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kind in kinds:
        meaning = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
        cells = [f"`{kind.code}`", str(int(status_of(kind))), meaning, _names(_rest_values(kind)), _graphql(kind)]
        if remembered:
            cells.append("yes" if issubclass(kind, Rejected) and kind.remembered else "no")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _names(fields: Iterable[str]) -> str:
    return ", ".join(f"`{camel(name)}`" for name in fields)


def _rest_values(kind: type[WalletError]) -> list[str]:
    """The values that REST gives: `rest/openapi.py` adds the problems of an input."""
    return [*kind.field_types, *(["problems"] if kind in WITH_PROBLEMS else [])]


def _graphql(kind: type[WalletError]) -> str:
    """The type and its own fields. Names that are taken are problems of an input: see the verb `signUp`."""
    found = type_of(InvalidInput if kind in {UsernameTaken, EmailTaken} else kind)
    if found is None:
        return "top-level `errors`"
    own = _names(own_fields(found))
    if kind is RateLimited:  # whoever sends too much is refused before any operation, except for wrong passwords
        return f"top-level `errors` with {own} in `extensions`; in `logIn` and `changePassword` also `{found.__name__}`"
    return f"`{found.__name__}`: {own}" if own and found is not Refusal else f"`{found.__name__}`"


def _code(code: Code) -> str:
    sent_by = ", ".join(where.value for where in code.where)
    retry = "same request" if code.retryable else "no"
    return f"| `{code.name}` | {int(code.status)} | {sent_by} | {retry} | {code.docs} |\n"


def metrics_page() -> str:
    """The whole page of metrics."""
    return _METRICS + "".join(map(_metric, metrics.ALL))


def _metric(metric: metrics.Metric) -> str:
    name = f"{metric.name}_total" if isinstance(metric, metrics.Count) else metric.name
    return f"| `{name}` | {metric.kind.lower()} | {', '.join(f'`{one}`' for one in metric.labels)} | {metric.about} |\n"


def with_files(text: str) -> str:
    """A page with the files that it shows as they are now."""

    def anew(match: re.Match[str]) -> str:
        path = ROOT / match["path"]
        if not path.exists():
            raise SystemExit(f"a page shows {match['path']}, which does not exist")
        source = path.read_text(encoding="utf-8")
        part = f" {match['part']}" if match["part"] else ""
        marked = re.search(_SHOWN.format(part=re.escape(part)), source, re.MULTILINE | re.DOTALL)
        if part and marked is None:
            raise SystemExit(f"a page shows the part{part} of {match['path']}, which has none")
        return match["head"] + dedent(marked["text"] if marked else source).strip("\n") + "\n```"

    return _INCLUDED.sub(anew, text)


def main() -> int:
    """Write or check."""
    wanted = {page: with_files(page.read_text(encoding="utf-8")) for page in ROOT.glob("docs/**/*.md")}
    wanted[ERRORS] = errors_page()
    wanted[METRICS] = metrics_page()
    stale = [page for page, text in wanted.items() if not page.exists() or page.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for page in stale:
            page.write_text(wanted[page], encoding="utf-8")
        return 0
    for page in stale:
        print(f"{page.relative_to(ROOT)} is not what the code says; run scripts/docs.py", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
