"""A daemon that a QKD stack posts to, each a process of its own."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from qkdctl.cli.main import main
from qkdctl.feed_replay import check_file

FEED = Path(__file__).parents[2] / "examples" / "feed.toml"


def windows(count: int) -> str:
    lines = [
        {
            "version": 1,
            "sequence": number,
            "start_s": 100 + 0.5 * number,
            "duration_s": 0.5,
            "origin": "error-correction",
            "bases": {"Z": {"sifted": 1000, "errors": 12}, "X": {"sifted": 990, "errors": 14}},
        }
        for number in range(count)
    ]
    return "\n".join(map(json.dumps, lines))


@pytest.fixture
def testbed(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    record = f'record = "{tmp_path}/record.jsonl"\n'
    path.write_text(FEED.read_text().replace("[feed]\n", f"[feed]\n{record}"))
    return path


def test_what_a_stack_posts_is_answered_counted_and_recorded(
    laboratory: Any, testbed: Path, tmp_path: Path
) -> None:
    laboratory.start_daemon("--simulate", testbed=testbed)
    feed = laboratory.socket.with_suffix(".feed")
    assert stat.S_IMODE(feed.stat().st_mode) == 0o660
    posted = tmp_path / "posted.jsonl"
    posted.write_text(windows(20))

    replay = ["feed", "replay", str(posted), "--socket", str(feed), "--speed", "50"]
    result = CliRunner().invoke(main, replay)

    assert result.output == "20 taken\n"
    assert laboratory.status()["feed"]["accepted"] == 20
    assert check_file(tmp_path / "record.jsonl").messages == 20
