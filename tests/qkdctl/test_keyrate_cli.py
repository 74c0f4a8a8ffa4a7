"""``qkdctl keyrate``: tables, blocks and pictures from formulas alone."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from qkdctl.cli.main import main

BLOCK = "block 100 --efficiency 0.1 --dark-probability 6e-7 --misalignment 0.005 --afterpulses 0.04"


def told(command: str) -> str:
    result = CliRunner().invoke(main, ["keyrate", *command.split()], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_table_has_general_security_first() -> None:
    lines = told("table 50").splitlines()

    classes = [line.split()[-2] for line in lines[1:]]
    assert classes == sorted(classes, key=lambda each: each != "general")
    assert lines[1].startswith("decoy-bb84")


def test_a_table_as_json_names_what_it_is_of() -> None:
    found = json.loads(told("table 50 --efficiency 0.3 --json"))

    assert found["hardware"]["efficiency"] == 0.3
    assert {row["protocol"] for row in found["rows"]} >= {"decoy-bb84", "gg02", "mdi"}
    assert all(row["share_of_ceiling"] < 1 for row in found["rows"])


def test_a_block_is_at_least_as_good_as_the_worked_example() -> None:
    found = json.loads(told(f"{BLOCK} --json"))

    assert found["secret_bits"] > 5_410_201
    assert sum(found["probabilities"]) == pytest.approx(1)


def test_a_block_is_told_in_words() -> None:
    assert "bits by error correction" in told(BLOCK)
    assert "no key from 1e+11 pulses over 300 km: send more" in told("block 300")


def test_a_picture_is_saved(tmp_path: Path) -> None:
    told(f"plot --out {tmp_path}/rates.png --to-km 300")

    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_saved_is_one_clear_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["keyrate", "plot", "--out", f"{tmp_path}/no/rates.png"])

    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot save")
