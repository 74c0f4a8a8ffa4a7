"""Single instruments from the command line, over a real wire and without a daemon."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

KIND = "ozoptics-epc400"
BENCH = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "qkdctl", "instruments", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def resource() -> Iterator[str]:
    """A simulated EPC-400 on a pseudo-terminal."""
    with subprocess.Popen(
        [sys.executable, "-m", "qkdctl", "simulate", str(BENCH)],
        stdout=subprocess.PIPE,
        text=True,
    ) as bench:
        assert bench.stdout is not None
        lines = iter(bench.stdout.readline, "")
        yield next(line.split('"')[1] for line in lines if line.startswith('resource = "serial'))
        bench.terminate()


def test_one_instrument_is_identified(resource: str) -> None:
    done = run("identify", KIND, resource, "--json")
    assert json.loads(done.stdout)["serial"] == "18070042", done.stderr


def test_every_byte_is_shown(resource: str) -> None:
    done = run("trace", KIND, resource)
    assert r"instrument > b'V?\r\n'" in done.stdout
    assert "CH1 +0000" in done.stdout


def test_one_instrument_is_tested_and_a_report_is_written(resource: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run("test", KIND, resource, "--drive", "--report", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["is_good"]
    assert found["trace"]


def test_an_instrument_that_is_not_there_fails_with_one_line() -> None:
    done = run("identify", KIND, "serial:///dev/no-such-port")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_option_that_a_kind_does_not_know_is_wrong_usage() -> None:
    done = run("identify", KIND, "serial:///dev/null", "-o", "slot=1")
    assert done.returncode == 2
    assert "option slot" in done.stderr


def test_an_unknown_kind_is_wrong_usage() -> None:
    done = run("identify", "no-such-kind", "serial:///dev/null")
    assert done.returncode == 2
    assert "known kinds" in done.stderr


def test_kinds_are_listed_with_role_wire_and_certainty() -> None:
    kinds = {each["kind"]: each for each in json.loads(run("list", "--json").stdout)["kinds"]}
    assert kinds[KIND]["roles"] == ["PolarizationController"]
    assert kinds[KIND]["wires"] == ["serial"]
    assert kinds[KIND]["certainty"] == "medium-high"
