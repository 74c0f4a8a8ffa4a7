"""Drives of states and intensities, and what they do to the light."""

from math import cos, pi, sin
from typing import Any

import numpy as np
import pytest

from sim.instruments.gs200 import Gs200Settings
from sim.instruments.keysight33500 import Keysight33500Settings
from sim.instruments.sdg import SdgSettings
from sim.instruments.sim928 import Sim928Settings
from sim.levels import IDEAL_RAD, LevelSettings
from sim.phase_drift import PhaseDriftSettings
from sim.polarization_twin import PolarizationTwinSettings
from sim.receiver import ReceiverSettings
from sim.record import Record
from sim.time_bin import TimeBinTwin, TimeBinTwinSettings

EXACT = LevelSettings(half_wave_v=4.0, intensity_half_wave_v=5.0, spread=0.0)
VISIBILITY = 0.98
CLEAN = ReceiverSettings(dark_hz=(0.0,) * 4, dead_time_s=0.0, visibility=VISIBILITY)


def four_phase(**changes: Any) -> TimeBinTwin:
    """A still four-phase link in phase, its light on."""
    still = PhaseDriftSettings(drift_rad_per_sqrt_s=0.0, slow_amplitude_rad=0.0)
    settings: dict[str, Any] = {"levels": EXACT, "receiver": CLEAN, "drift": still}
    twin = TimeBinTwinSettings(encoding="four-phase", **(settings | changes)).build(start_s=0.0)
    twin.attenuator.set_shutter(is_open=True, now_s=0.0)
    twin.phase_shifter.set_voltage(float(twin.best_drives(1.0)[0]), now_s=0.0)
    return twin


def test_states_that_nobody_drives_are_right() -> None:
    assert four_phase().levels.state_rad(1.0) == pytest.approx(IDEAL_RAD)


def test_a_half_wave_voltage_turns_a_state_by_half_the_circle() -> None:
    twin = four_phase()
    twin.levels.level("state V").set_bias(4.0, 1.0)
    twin.levels.level("state D").set_bias(1.0, 1.0)

    assert twin.levels.state_rad(1.0) == pytest.approx([0, pi, pi / 4, 3 * pi / 2])


@pytest.mark.parametrize("off_rad", [0.1, 0.3])
def test_a_state_that_is_off_leaves_a_floor_that_no_phase_removes(off_rad: float) -> None:
    twin = four_phase()
    twin.levels.level("state A").set_bias(4.0 * (1.5 + off_rad / pi), 1.0)

    one_of_four = VISIBILITY * (1 - cos(off_rad)) / 2 / 4
    assert twin.qber(2.0) - twin.qber_floor() == pytest.approx(one_of_four, rel=0.05)


def test_polarization_states_lie_on_a_great_circle() -> None:
    twin = PolarizationTwinSettings(levels=EXACT).build(start_s=0.0)
    twin.levels.level("state D").set_bias(1.0, 1.0)

    vectors = twin.sent_vectors(1.0)

    assert vectors[2] == pytest.approx([np.sqrt(0.5), np.sqrt(0.5), 0])
    assert vectors[[0, 1, 3]] == pytest.approx(np.array([[1, 0, 0], [-1, 0, 0], [0, -1, 0]]))


def test_an_intensity_follows_its_drive_by_the_sine_of_the_modulator() -> None:
    twin = four_phase()
    twin.levels.level("intensity decoy").set_bias(1.0, 1.0)

    means = twin.mean_photons(1.0)

    assert means[3] / means[0] == pytest.approx(sin(pi / 10) ** 2, rel=0.01)


def test_a_state_that_loses_light_is_darker_than_the_others() -> None:
    loss_db = np.array([0.0, 0.0, 3.0, 0.0])
    means = four_phase(levels=LevelSettings(state_loss_db=loss_db)).mean_photons(1.0)

    assert means[2] / means[0] == pytest.approx(0.5, rel=0.01)


def test_the_half_wave_voltages_are_drawn_within_the_spread() -> None:
    drawn = [four_phase(levels=LevelSettings(), seed=seed).levels for seed in range(20)]

    volts = [each.half_wave_v for each in drawn]
    assert min(volts) > 3.6
    assert max(volts) < 4.4
    assert max(volts) - min(volts) > 0.4


def test_a_drive_that_the_source_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no drive 'state X'"):
        four_phase().electrode("state X")


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        (Gs200Settings(level="state D"), [":SOUR:LEV 1.5", ":OUTP ON"]),
        (
            Keysight33500Settings(level="state D"),
            [":OUTP1:LOAD INF", ":SOUR1:FUNC DC", ":SOUR1:VOLT:OFFS 1.5", ":OUTP1 ON"],
        ),
        (SdgSettings(level="state D"), ["C1:BSWV WVTP,DC", "C1:BSWV OFST,1.5", "C1:OUTP ON"]),
        (Sim928Settings(level="state D"), ['SNDT 1,"VOLT 1.5"', 'SNDT 1,"OPON"']),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_voltage_source_on_the_wire_drives_a_state(settings: Any, lines: list[str]) -> None:
    twin = four_phase()
    unit = settings.front_end("level", twin, Record({}))

    assert settings.acts_on == "state D"
    assert twin.levels.level("state D").voltage(0.0) == 0.0
    for line in lines:
        list(unit.handle(line.encode() + b"\n", 1.0))

    assert twin.levels.level("state D").voltage(2.0) == pytest.approx(1.5)
