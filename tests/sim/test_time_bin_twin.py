from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.phase_drift import PhaseDriftSettings
from sim.phase_shifter import PhaseShifterSettings
from sim.receiver import ReceiverSettings
from sim.source import SourceSettings
from sim.time_bin import Encoding, TimeBinTwin, TimeBinTwinSettings

SLOT_PS, BIN_PS = 10_000, 2_000
ENCODINGS: tuple[Encoding, ...] = ("time-bin", "four-phase")
CLEAN = ReceiverSettings(dark_hz=(0.0,) * 4, dead_time_s=0.0, jitter_ps=50.0, visibility=0.98)


def lit(encoding: Encoding = "time-bin", *, seed: int = 0, **changes: Any) -> TimeBinTwin:
    """Build a still link with light; it is in phase at the voltage ``best_drives`` names."""
    settings: dict[str, Any] = {
        "source": SourceSettings(intensities=("signal",), mean_photon_numbers={"signal": 0.5}),
        "drift": PhaseDriftSettings(drift_rad_per_sqrt_s=0.0, slow_amplitude_rad=0.0),
        "shifter": PhaseShifterSettings(scale_spread=0.0),
        "receiver": CLEAN,
    }
    twin = TimeBinTwinSettings(encoding=encoding, seed=seed, **(settings | changes)).build(
        start_s=0.0
    )
    twin.attenuator.set_shutter(is_open=True, now_s=0.0)
    return twin


def turned(encoding: Encoding, phase_rad: float, **changes: Any) -> TimeBinTwin:
    twin = lit(encoding, **changes)
    best_v = float(twin.best_drives(1.0)[0])
    twin.phase_shifter.set_voltage(best_v + 12 * phase_rad / np.pi, now_s=0.5)
    return twin


def bins(tags: dict[int, NDArray[np.uint64]], channel: int, state: int) -> NDArray[np.int64]:
    """Count one input's tags in the slots of one state (of four, in turn) by bin of the slot."""
    times = tags[channel].astype(np.int64)
    of_state = times[times // SLOT_PS % 4 == state]
    return np.bincount(of_state % SLOT_PS // BIN_PS, minlength=5)


def test_early_and_late_pulses_arrive_one_bin_apart_at_the_first_detector() -> None:
    tags = turned("time-bin", 0.0).tags(1.0, 0.2)
    early, late = bins(tags, 1, 0), bins(tags, 1, 1)
    assert early[1] > 100 * early[2] > 0
    assert late[2] > 100 * late[1] > 0
    assert early[[0, 3, 4]].sum() + late[[0, 3, 4]].sum() == 0


def test_half_of_what_an_interferometer_gets_falls_into_side_peaks() -> None:
    tags = turned("time-bin", 0.0).tags(1.0, 0.5)
    both = bins(tags, 2, 2) + bins(tags, 3, 2)
    assert both[1] / both.sum() == pytest.approx(0.25, abs=0.01)
    assert both[2] / both.sum() == pytest.approx(0.5, abs=0.01)
    assert both[3] / both.sum() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("phase_rad", [0.0, 0.7, 2.0, np.pi])
def test_the_middle_bin_of_phase_states_shows_the_cosine(phase_rad: float) -> None:
    tags = turned("time-bin", phase_rad).tags(1.0, 0.5)
    plus, minus = bins(tags, 2, 2)[2], bins(tags, 3, 2)[2]
    contrast = (plus - minus) / (plus + minus)
    assert contrast == pytest.approx(0.98 * np.cos(phase_rad), abs=0.06)


def test_early_pulses_do_not_interfere() -> None:
    tags = turned("time-bin", 0.0).tags(1.0, 0.5)
    plus, minus = bins(tags, 2, 0)[2], bins(tags, 3, 0)[2]
    assert (plus - minus) / (plus + minus) == pytest.approx(0.0, abs=0.08)


def test_the_fourth_input_of_a_time_bin_receiver_is_free() -> None:
    assert turned("time-bin", 0.0, receiver=ReceiverSettings()).tags(1.0, 0.2)[4].size == 0


@pytest.mark.parametrize("phase_rad", [0.0, 0.5, -1.0])
def test_four_phases_show_cosine_and_sine(phase_rad: float) -> None:
    tags = turned("four-phase", phase_rad).tags(1.0, 0.5)

    def contrast(state: int, first: int) -> float:
        one, other = bins(tags, first, state)[2], bins(tags, first + 1, state)[2]
        return float((one - other) / (one + other))

    assert contrast(0, 1) == pytest.approx(0.98 * np.cos(phase_rad), abs=0.06)
    assert contrast(2, 3) == pytest.approx(0.98 * np.cos(phase_rad), abs=0.06)
    assert contrast(0, 3) == pytest.approx(0.98 * np.sin(phase_rad), abs=0.06)
    assert contrast(2, 1) == pytest.approx(-0.98 * np.sin(phase_rad), abs=0.06)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_best_voltage_reaches_the_floor(encoding: Encoding) -> None:
    twin = turned(encoding, 0.0, seed=4)
    assert twin.qber(1.0) == pytest.approx(twin.qber_floor(), abs=1e-5)


@pytest.mark.parametrize(("encoding", "share"), [("time-bin", 0.5), ("four-phase", 1.0)])
def test_a_phase_costs_what_the_bases_that_see_it_lose(encoding: Encoding, share: float) -> None:
    twin = turned(encoding, 0.4)
    excess = twin.qber(1.0) - twin.qber_floor()
    assert excess == pytest.approx(share * 0.98 * (1 - np.cos(0.4)) / 2, rel=0.01)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_rate_is_that_of_the_tags_and_of_the_counts(encoding: Encoding) -> None:
    twin = turned(encoding, 0.3, receiver=ReceiverSettings(afterpulse_probability=0.01))
    rate_hz = twin.detection_rate_hz(1.0)
    tagged = sum(each.size for each in twin.tags(1.0, 0.5).values()) / 0.5
    counted = twin.counts(1.0, 0.5).sum() / 0.5
    assert tagged == pytest.approx(rate_hz, rel=0.02)
    assert counted == pytest.approx(rate_hz, rel=0.02)


def test_arrivals_are_the_tags_without_the_sync() -> None:
    one, other = turned("time-bin", 0.3), turned("time-bin", 0.3)
    arrivals = one.arrivals(1.0, 0.1)
    tags = other.tags(1.0, 0.1)
    for channel, times in arrivals.items():
        assert np.array_equal((times % one.sync_period_ps).astype(np.uint64), tags[channel])


def test_a_held_state_is_what_every_slot_carries() -> None:
    twin = turned("time-bin", 0.0)
    twin.source.set_state("V", now_s=0.9)
    tags = twin.tags(1.0, 0.1)
    assert all(bins(tags, 1, slot)[1] < bins(tags, 1, slot)[2] / 50 for slot in range(4))


def test_a_drift_and_a_knock_turn_the_phase() -> None:
    twin = lit("time-bin")
    before = twin.phase(2.0)
    twin.disturb(np.array([0.8, 0.0, 0.0]), now_s=3.0)
    assert twin.phase(2.9) == before
    assert twin.phase(3.1) == pytest.approx(before + 0.8)


def test_the_same_seed_gives_the_same_tags() -> None:
    one, other = (turned("four-phase", 0.2, seed=8).tags(1.0, 0.05) for _ in range(2))
    assert all(np.array_equal(one[channel], other[channel]) for channel in one)


def test_it_has_no_polarization_controller() -> None:
    with pytest.raises(ValueError, match="no squeezers"):
        _ = lit().squeezers
    with pytest.raises(ValueError, match="no fibre paddles"):
        _ = lit().paddles


@pytest.mark.parametrize(
    "wrong", [{"bins_per_slot": 4}, {"bins_per_slot": 1}, {"leakage": 0.5}, {"loss_db": -1.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"odd|leakage|loss_db"):
        TimeBinTwinSettings(**wrong)
