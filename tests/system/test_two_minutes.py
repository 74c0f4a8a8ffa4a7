"""Two minutes in real time: real processes, drivers and wires, and what happens to a link."""

import time
from pathlib import Path
from typing import Any

import pytest

from qkdctl.simulate import ask_bench

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"

CUT_DB = 100.0
DARK_S = 60.0
WHOLE_S = 120.0
SETTLING_S = 4.0
LARGEST_EXCESS_PP = 0.5


def faint(directory: Path) -> Path:
    """Write a testbed file with ten times less light: two minutes of few photons cost little."""
    text = EXAMPLE.read_text()
    for old, new in (
        ("expected_rate_hz = 2e5", "expected_rate_hz = 2e4"),
        ("loss_db = 15.0", "loss_db = 25.0"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = directory / "faint.toml"
    path.write_text(text)
    return path


def disturb(laboratory: Any, **request: Any) -> None:
    ask_bench(laboratory.directory / "bench.sock", request)


def excess_pp_once_held(laboratory: Any) -> float:
    """Wait until the link is tracked again and has had time to settle."""
    laboratory.wait_for_state("tracking")
    time.sleep(SETTLING_S)
    status = laboratory.wait_for_state("tracking")
    assert status["limit_excess"] > 0
    return float(laboratory.truth()["excess_pp"])


@pytest.mark.begins_first
@pytest.mark.timeout(420)
def test_a_link_is_held_through_a_jump_a_dark_minute_and_an_unplugged_tagger(
    laboratory: Any,
) -> None:
    excess_pp: dict[str, float] = {}
    laboratory.serve(faint(laboratory.directory))
    laboratory.start_daemon()
    with laboratory.client() as client:
        for _ in client.stream("calibrate", stages=["polarization"]):
            pass
    began_s = time.monotonic()
    excess_pp["calibration"] = excess_pp_once_held(laboratory)

    disturb(laboratory, do="jump", rotation_rad=[1.0, -0.7, 0.5])
    laboratory.wait_for_state("calibrating")
    excess_pp["jump"] = excess_pp_once_held(laboratory)

    disturb(laboratory, do="bend", loss_db=CUT_DB)
    time.sleep(DARK_S)
    dark = laboratory.status()
    lit_in_the_dark = laboratory.truth()["shutter_open"]
    disturb(laboratory, do="bend", loss_db=0.0)
    excess_pp["darkness"] = excess_pp_once_held(laboratory)

    laboratory.fault("tagger", "unplug")
    laboratory.wait_for_state("degraded")
    dark_without_tagger = not laboratory.truth()["shutter_open"]
    laboratory.fault("tagger", "plug")
    excess_pp["tagger"] = excess_pp_once_held(laboratory)

    time.sleep(max(began_s + WHOLE_S - time.monotonic(), 0))
    excess_pp["end"] = excess_pp_once_held(laboratory)

    with laboratory.client() as client:
        events = client.call("history", kind="events", limit=1000)["rows"]
    alarms = [(event["name"], event.get("cause")) for event in events if event["kind"] == "alarm"]
    assert max(excess_pp.values()) < LARGEST_EXCESS_PP, excess_pp
    assert (dark["state"], lit_in_the_dark, dark_without_tagger) == ("degraded", True, True)
    assert "no light" in dark["alarms"]["link-dark"]
    # Whether the lock has outlasted the dark minute is left to the fibre.
    assert [alarm for alarm in alarms if alarm != ("loss-of-lock", "drift")] == [
        ("loss-of-lock", "jump"),
        ("link-dark", "cut"),
        ("link-dark", None),
        ("instrument", None),
    ]
    assert laboratory.truth()["violations"] == 0
