"""An instrument without a wire: the daemon's check takes it, the simulation refuses it."""

from pathlib import Path

import pytest
import tomlkit

from drivers.transport.connect import Connector
from qkdctl.check import build
from qkdctl.config import load_testbed
from qkdctl.simulate import run_simulate

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"


@pytest.fixture
def testbed(tmp_path: Path) -> Path:
    """The example with a Swabian Time Tagger as its tagger."""
    document = tomlkit.parse(EXAMPLE.read_text())
    document["instruments"]["tagger"] = {
        "kind": "swabian-timetagger",
        "resource": "timetagger://2104000Y0K",
        "sync_channel": 8,
    }
    path = tmp_path / "swabian.toml"
    path.write_text(tomlkit.dumps(document))
    return path


def test_a_testbed_with_a_vendors_library_is_complete(testbed: Path) -> None:
    assert build(testbed, load_testbed(testbed), Connector())


def test_a_vendors_library_cannot_be_simulated_for_another_process(
    testbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_simulate(testbed, seed=None, write=None, control=None) == 2

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "instruments.tagger" in lines[0]
    assert "nobody can serve it" in lines[0]
