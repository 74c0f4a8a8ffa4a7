"""``qkdctl feed``, and the example that turns a public stack's log into messages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from qkdctl.cli.main import main
from qkdctl.feed import schema
from qkdctl.feed_replay import check_file, read_messages

ROOT = Path(__file__).parents[2]
ADAPTER = ROOT / "examples" / "feed" / "qcrypto.py"
PAGE = ROOT / "docs" / "feed.md"

BLOCKS = """\
b2331bef 5217 2103 0.0312 21
b2331c04 5102 0 0.1204 19
"""
SERVICE = "b2331bef 5 41 93 38 44 3 40 90 95 42 6 40 39 91 44 2 713 750 20 17\n"
"""Alice by Bob, each V, -, H, +, anticorrelated; then totals."""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["feed", *map(str, arguments)])


def adapted(log: str, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ADAPTER), *options],
        input=log,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "feed.jsonl"
    path.write_text(adapted(BLOCKS).stdout)
    return path


def test_check_says_what_a_file_holds(recorded: Path) -> None:
    result = run("check", recorded)

    assert result.exit_code == 0
    assert "2 messages (2 error-correction)" in result.output


def test_check_names_the_first_fault_and_its_line(recorded: Path) -> None:
    recorded.write_text(recorded.read_text() + '{"version": 1}\n')

    result = run("check", recorded)

    assert result.exit_code == 1
    assert f"{recorded}, line 3: sequence: Field required" in result.output


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    assert run("check", tmp_path / "none.jsonl").output.count("\n") == 1


def test_replay_without_a_daemon_says_so(recorded: Path, tmp_path: Path) -> None:
    result = run("replay", recorded, "--socket", tmp_path / "none.feed")

    assert result.exit_code == 3
    assert "is the daemon running?" in result.output


def test_the_schema_is_printed_and_knows_every_field() -> None:
    printed = json.loads(run("schema").output)

    assert printed == schema()
    assert set(printed["required"]) == {"version", "sequence", "start_s", "duration_s", "origin"}
    assert printed["additionalProperties"] is False


def blocks_of(page: str) -> list[str]:
    """The JSON of the page, one text per fenced block."""
    parts = page.split("```")
    return [part.removeprefix("json\n") for part in parts[1::2] if part.startswith("json\n")]


def test_every_example_of_the_page_is_a_message_or_an_answer(tmp_path: Path) -> None:
    lines = [
        json.loads(line) for block in blocks_of(PAGE.read_text()) for line in block.splitlines()
    ]
    posted = [line for line in lines if "version" in line]
    path = tmp_path / "page.jsonl"
    path.write_text("\n".join(map(json.dumps, posted)))

    assert set(check_file(path).by_origin) == {
        "calibration",
        "mismatched",
        "sampled",
        "error-correction",
    }
    assert all("ok" in line for line in lines if "version" not in line)


def test_the_page_explains_every_field() -> None:
    page = PAGE.read_text()
    fields: dict[str, Any] = schema()["properties"]

    assert [name for name in fields if f"`{name}`" not in page] == []


def test_blocks_of_error_correction_become_pooled_errors(recorded: Path) -> None:
    first, second = read_messages(recorded)

    assert first.bases is not None
    assert first.bases.both is not None
    assert (first.bases.both.sifted, first.bases.both.errors) == (5217, 163)
    assert first.duration_s == pytest.approx(21 * 0.536870912)
    assert first.start_s == pytest.approx(0xB2331BEF * 0.536870912)
    assert (first.sequence, second.sequence) == (0, 1)
    assert second.start_s == pytest.approx(first.end_s)


def test_a_block_that_does_not_tell_its_length_is_given_one(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text(adapted("b2331bef 5217 2103 0.0312\n", "--epochs", "10").stdout)
    (message,) = read_messages(path)

    assert message.duration_s == pytest.approx(5.36870912)


def test_service_mode_becomes_a_table_of_sent_state_by_detector(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text(adapted(SERVICE).stdout)
    (message,) = read_messages(path)

    assert message.origin == "calibration"
    assert message.counts == [[93, 5, 38, 41], [6, 95, 40, 42], [40, 44, 90, 3], [44, 39, 2, 91]]


def test_a_line_of_another_kind_is_passed_over_with_a_word_on_stderr() -> None:
    done = adapted("starting up\n" + BLOCKS)

    assert done.stdout.count("\n") == 2
    assert "passed over" in done.stderr
