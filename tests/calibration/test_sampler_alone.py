import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "sampler_alone.py"


def test_the_example_aligns_its_own_bench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "5"])

    runpy.run_path(str(EXAMPLE), run_name="__main__")

    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines()[:5])
    true_qber = float(printed["true QBER"].split("%")[0]) / 100
    assert true_qber < 0.005 + 0.004
    assert int(printed["photons detected"]) < 20_000
