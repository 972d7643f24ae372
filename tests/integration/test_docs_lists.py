"""Lists on pages that are written by hand have all that the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wallet_gql.testing.harness import HARNESSES
from wallet_gql.transports.graphql.cost import WORK

ROOT: Final = Path(__file__).resolve().parents[2]


def section(page: str, heading: str) -> str:
    """What stands below a heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.split(rf"^#+ {heading}\n", text, flags=re.MULTILINE)[1].split("\n## ")[0]


def test_the_lab_page_lists_every_harness() -> None:
    """Whoever runs the lab on all backends finds each of them in the table."""
    text = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))

    assert [name for name in HARNESSES if f"`{name}`" not in rows] == []


def test_the_table_of_costs_names_every_dear_field() -> None:
    """A field that costs more than its links is in the table; verbs with a password have a row of their own."""
    rows = [line for line in section("docs/graphql-over-http.md", "Cost").splitlines() if line.startswith("| ")]
    dear = {name: cost for name, cost in WORK.items() if cost > 10 and not name.startswith("Mutation.")}

    for name, cost in dear.items():
        field = name.partition(".")[2]
        assert any(re.search(rf"\b{field}\b", row) and row.endswith(f"| {cost:,} |") for row in rows), name


def test_the_typescript_client_lacks_what_its_page_says() -> None:
    """No document asks for a field of which the page says that there is none for it."""
    page = (ROOT / "clients" / "typescript" / "README.md").read_text(encoding="utf-8")
    (lacking,) = re.findall(r"It has none for\n(.*?)\. Write", page, re.DOTALL)
    documents = (ROOT / "clients" / "typescript" / "src" / "documents.graphql").read_text(encoding="utf-8")

    names = re.findall(r"`(\w+)`", lacking)
    assert len(names) > 3
    assert [name for name in names if re.search(rf"\b{name}\b", documents)] == []
