import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "sampler_alone.py"
TARGET_EXCESS = 0.002


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """Run the example as a user would, warnings being errors, and read what it prints."""
    command = [sys.executable, "-W", "error", str(EXAMPLE), "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return {line[:20].strip(): line[20:] for line in done.stdout.splitlines()}


def percentage(text: str) -> float:
    return float(text.split("%")[0]) / 100


def test_the_example_aligns_its_own_bench(printed: dict[str, str]) -> None:
    assert percentage(printed["true excess"]) < 0.005


def test_the_example_stops_once_its_claim_is_met(printed: dict[str, str]) -> None:
    assert percentage(printed["claimed excess"]) < TARGET_EXCESS


def test_the_example_pays_few_photons(printed: dict[str, str]) -> None:
    assert int(printed["photons detected"]) < 20_000


def test_the_example_prints_a_setting_within_the_limits(printed: dict[str, str]) -> None:
    settings = [text for name, text in printed.items() if name.startswith("squeezer-")]

    assert len(settings) == 4
    assert all(abs(float(setting.split()[0])) <= 5 for setting in settings)


def test_the_example_needs_nothing_of_the_daemon() -> None:
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    ours = {"benchmarks", "calibration", "drivers", "qkdctl", "sim"}
    assert {name for name in imported if name and name.split(".")[0] in ours} == {
        "calibration.clicks",
        "calibration.sampler",
    }
