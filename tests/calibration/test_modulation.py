"""The modulation stage at a source whose half-wave voltages are not what they should be."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import pi
from typing import Any

import numpy as np
import pytest

from calibration.account import Account
from calibration.folding import Pattern
from calibration.modulation import ModulationProcedure
from calibration.modulation_parts import IntensitiesPart, Part, StatesPart
from calibration.modulation_settings import ModulationSettings
from calibration.pulses import PulseReader
from calibration.signal_run import SignalRun
from calibration.trials import MemoryTrialLog
from drivers.errors import TransportError
from drivers.roles import TimeTags
from sim.virtual_time import run

Conduct = Callable[..., Any]

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
INPUTS = {"H": 1, "V": 2, "D": 3, "A": 4}
IDEAL_RAD = np.array([0.0, pi, pi / 2, 3 * pi / 2])
SLOT_PS = 1e4
RATE_HZ = 2e5
STATES = {"V": "v", "D": "d", "A": "a"}
START = {"v": 4.0, "d": 2.0, "a": 6.0, "decoy": 1.5}
SETTINGS = ModulationSettings(
    half_wave_v=4.0,
    intensity_half_wave_v=5.0,
    target_deg=2.0,
    target_ratio_percent=6.0,
    figure_photons=200_000,
    photons_per_setting=100_000,
)


@dataclass
class FakeSource:
    """Four phases and three intensities, counted behind interferometers with side peaks."""

    half_wave_v: float = 4.3
    intensity_half_wave_v: float = 4.7
    turn_rad: float = 0.7
    visibility: float = 0.98
    brightness: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    rate_hz: float = RATE_HZ
    dark_hz: float = 100.0
    low_v: float = 0.0
    high_v: float = 8.0
    windows_left: int = 1_000_000
    setting: dict[str, float] = field(default_factory=lambda: dict(START))
    applied: list[dict[str, float]] = field(default_factory=list)
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(4))

    def limits(self, name: str) -> tuple[float, float]:
        return self.low_v, self.high_v

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        await asyncio.sleep(0.01)
        self.setting |= {knob: round(value, 3) for knob, value in setting.items()}
        self.applied.append(dict(self.setting))
        return {knob: self.setting[knob] for knob in setting}

    async def measure(self, photons: int) -> Any:
        raise NotImplementedError

    def delays_ps(self) -> dict[str, float]:
        return dict.fromkeys("HVDA", 0.0)

    def angles_rad(self) -> np.ndarray:
        drives = np.array([0.0, self.setting["v"], self.setting["d"], self.setting["a"]])
        return np.asarray(pi * drives / self.half_wave_v)

    @property
    def spacing_error_deg(self) -> float:
        around = self.angles_rad()[[0, 2, 1, 3]]
        return float(np.degrees(np.abs(np.diff([*around, 2 * pi]) - pi / 2).max()))

    @property
    def decoy_ratio(self) -> float:
        return float(np.sin(pi * self.setting["decoy"] / (2 * self.intensity_half_wave_v)) ** 2)

    async def acquire(self, photons: int) -> TimeTags:
        self.windows_left -= 1
        if self.windows_left < 0:
            raise TransportError("tagger", "link lost")
        duration_s = min(photons / RATE_HZ, 2.0)
        await asyncio.sleep(duration_s)
        levels = np.resize([1.0, 1.0, 1.0, self.decoy_ratio, 0.001], 20)
        states = np.resize(np.arange(4), 20)
        cosine = np.cos(self.angles_rad()[states, None] + self.turn_rad - IDEAL_RAD)
        each = levels * np.array(self.brightness)[states]
        middle = each[:, None] * (1 + self.visibility * cosine) * np.array([1.0, 0.9, 1.1, 0.95])
        side = each[:, None] * np.ones(4) / 2
        scale = self.rate_hz * duration_s / (middle.sum() + 2 * side.sum())
        tags = {
            number: self.stamps(scale * middle[:, column], scale * side[:, column], duration_s)
            for column, number in enumerate(INPUTS.values())
        }
        return TimeTags(duration_s, tags)

    def stamps(self, middle: np.ndarray, side: np.ndarray, duration_s: float) -> np.ndarray:
        """Clicks of one detector: the middle of a slot, a bin before and after, and darkness."""
        arrived = []
        for place, mean in ((0.3, side), (0.5, middle), (0.7, side)):
            slots = np.repeat(np.arange(20), self.noise.poisson(mean))
            arrived.append((slots + place) * SLOT_PS + 100 * self.noise.standard_normal(len(slots)))
        dark = self.noise.poisson(self.dark_hz * duration_s)
        arrived.append(self.noise.uniform(0, 20 * SLOT_PS, dark))
        return np.asarray(np.concatenate(arrived) % (20 * SLOT_PS), dtype=np.uint64)


def states_of(source: FakeSource, settings: ModulationSettings = SETTINGS) -> StatesPart:
    return StatesPart(settings, source, STATES)


def intensities_of(source: FakeSource, settings: ModulationSettings = SETTINGS) -> IntensitiesPart:
    names = PATTERN.intensity_names
    return IntensitiesPart(settings, source, {"decoy": "decoy"}, names, MEANS)


def procedure(
    source: FakeSource, *parts: Part, settings: ModulationSettings = SETTINGS
) -> ModulationProcedure:
    reader = PulseReader(source, PATTERN, INPUTS, 0.16 * SLOT_PS)
    return ModulationProcedure(settings, reader, source, source.setting, parts)


@pytest.mark.parametrize(("half_wave_v", "turn_rad"), [(3.5, 0.0), (4.3, 0.7), (4.6, 4.0)])
def test_states_are_brought_a_quarter_of_a_turn_apart(
    conduct: Conduct, half_wave_v: float, turn_rad: float
) -> None:
    source = FakeSource(half_wave_v=half_wave_v, turn_rad=turn_rad)

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "accepted", result.reason
    assert (result.figure_name, result.unit) == ("state spacing error", "deg")
    assert result.before.low > 10
    assert source.spacing_error_deg < 2.0
    assert result.after.low <= source.spacing_error_deg <= result.after.high
    assert result.setting == {knob: source.setting[knob] for knob in STATES.values()}
    assert f"half-wave voltage {half_wave_v:.1f}" in result.reason
    assert sum(result.photons.values()) < 520_000


def test_states_are_told_where_the_bits_of_a_basis_are_inverted(conduct: Conduct) -> None:
    source = FakeSource()
    exchanged = {**INPUTS, "H": INPUTS["V"], "V": INPUTS["H"]}
    reader = PulseReader(source, PATTERN, exchanged, 0.16 * SLOT_PS, inverted=("Z",))
    parts = [states_of(source)]

    result = conduct(ModulationProcedure(SETTINGS, reader, source, source.setting, parts)).result

    assert result.outcome == "accepted", result.reason
    assert source.spacing_error_deg < 2.0


def test_the_decoy_is_brought_to_its_ratio(conduct: Conduct) -> None:
    source = FakeSource()

    result = conduct(procedure(source, intensities_of(source))).result

    assert result.outcome == "accepted", result.reason
    assert (result.figure_name, result.unit) == ("intensity error", "%")
    assert result.before.low > 10
    assert source.decoy_ratio == pytest.approx(0.2, rel=0.03)
    assert list(result.setting) == ["decoy"]


def test_states_and_intensities_are_set_from_the_same_counts(conduct: Conduct) -> None:
    source = FakeSource()

    conducted = conduct(procedure(source, states_of(source), intensities_of(source)))

    result = conducted.result
    assert result.outcome == "accepted", result.reason
    assert (result.unit, result.target) == ("", 1.0)
    assert result.after.value < 1
    assert source.spacing_error_deg < 2.0
    assert source.decoy_ratio == pytest.approx(0.2, rel=0.03)
    assert len(source.applied) == 2
    assert any(note.startswith("state spacing error") for note in conducted.notes)
    assert sum(result.photons.values()) < 520_000


def test_drives_that_are_right_are_left_alone(conduct: Conduct) -> None:
    source = FakeSource(half_wave_v=4.0)

    result = conduct(procedure(source, states_of(source)), only_if_needed=True).result

    assert result.outcome == "skipped"
    assert source.applied == []


def test_drives_at_zero_are_found_from_the_nominal_half_wave_voltage(conduct: Conduct) -> None:
    source = FakeSource(setting=dict.fromkeys(START, 0.0))

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "accepted", result.reason
    assert source.spacing_error_deg < 2.5


def test_a_state_that_the_knob_reaches_only_backwards_is_driven_there(conduct: Conduct) -> None:
    source = FakeSource(low_v=-5.0, high_v=5.0, setting=START | {"a": -2.0})

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "accepted", result.reason
    assert source.setting["a"] == pytest.approx(-2.15, abs=0.05)


def test_a_state_beyond_the_limits_of_its_knob_is_said_so(conduct: Conduct) -> None:
    source = FakeSource(high_v=6.1)

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "failed"
    assert "state A wants 6.4" in result.reason
    assert "0 to 6.1 V of knob 'a': widen its limits" in result.reason
    assert source.setting == START


def test_an_intensity_beyond_the_limits_of_its_knob_is_said_so(conduct: Conduct) -> None:
    source = FakeSource(high_v=1.2)

    result = conduct(procedure(source, intensities_of(source))).result

    assert result.outcome == "failed"
    assert "intensity 'decoy' wants 1.3" in result.reason


def test_states_that_differ_in_brightness_are_told_about(conduct: Conduct) -> None:
    source = FakeSource(brightness=(1.0, 1.0, 0.9, 1.0))

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "accepted"
    assert "states differ in brightness by 1" in result.reason
    assert source.spacing_error_deg < 2.0


def test_without_light_the_stage_stops_and_says_where_to_look(conduct: Conduct) -> None:
    source = FakeSource(rate_hz=0.0)

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "failed"
    assert "no light" in result.reason


def test_zero_counts_are_no_light(conduct: Conduct) -> None:
    source = FakeSource(rate_hz=0.0, dark_hz=0.0)

    assert "no light" in conduct(procedure(source, states_of(source))).result.reason


def test_detectors_that_click_at_nearly_every_pulse_are_not_believed(conduct: Conduct) -> None:
    source = FakeSource()
    source.rate_hz = 500 * RATE_HZ
    settings = SETTINGS.model_copy(update={"figure_photons": 1000})

    result = conduct(procedure(source, states_of(source), settings=settings)).result

    assert result.outcome == "failed"
    assert "saturates" in result.reason


def test_a_link_that_is_not_aligned_at_all_is_not_measured(conduct: Conduct) -> None:
    source = FakeSource(visibility=0.3)

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "failed"
    assert "does not tell the states apart: see to the alignment" in result.reason
    assert source.setting == START


def test_a_half_wave_voltage_that_leaps_during_the_stage_is_rolled_back(conduct: Conduct) -> None:
    source = FakeSource(half_wave_v=4.1)
    begin = source.acquire

    async def leaping(photons: int) -> TimeTags:
        if len(source.applied) == 2:
            source.half_wave_v = 5.0
        return await begin(photons)

    source.acquire = leaping  # type: ignore[method-assign]

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "rolled-back"
    assert source.setting == START


def test_a_budget_that_is_spent_puts_the_start_back(conduct: Conduct) -> None:
    source = FakeSource()

    result = conduct(procedure(source, states_of(source)), max_photons=350_000).result

    assert result.outcome == "failed"
    assert "max_photons" in result.reason
    assert source.setting == START


@pytest.mark.parametrize("windows", [0, 1, 2])
def test_a_tagger_that_dies_puts_the_start_back(conduct: Conduct, windows: int) -> None:
    source = FakeSource(windows_left=windows)

    result = conduct(procedure(source, states_of(source))).result

    assert result.outcome == "failed"
    assert result.reason.startswith("tagger: link lost")
    assert source.setting == START


def test_a_cancellation_puts_the_start_back() -> None:
    source = FakeSource()

    async def main() -> None:
        account = Account("m", "m", SETTINGS, MemoryTrialLog(), lambda progress: None)
        work = SignalRun(procedure(source, states_of(source)), account)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work.run())
            while not source.applied:
                await asyncio.sleep(0.01)
            task.cancel()

    run(main())

    assert source.setting == START
