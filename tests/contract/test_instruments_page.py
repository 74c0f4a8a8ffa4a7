"""The page that lists the instruments says what the drivers say."""

from pathlib import Path

from drivers.registry import driver_entry, driver_kinds
from drivers.roles import roles_of

PAGE = Path(__file__).parents[2] / "docs" / "instruments.md"


def row(kind: str) -> str:
    entry = driver_entry(kind)
    roles = ", ".join(roles_of(entry.driver)) or "*outputs only*"
    wires = ", ".join(entry.wires)
    summary = entry.summary.rstrip(".")
    return f"| `{kind}` | {summary} | {roles} | {wires} | {entry.certainty} |"


def test_every_kind_stands_on_the_page_as_its_driver_describes_it() -> None:
    lines = PAGE.read_text().splitlines()
    missing = [row(kind) for kind in driver_kinds() if row(kind) not in lines]
    assert missing == []


def test_no_kind_stands_on_the_page_that_there_is_not() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(lines) == len(driver_kinds())
