import numpy as np
import pytest

from sim.phase_shifter import PhaseShifter, PhaseShifterSettings

EXACT = PhaseShifterSettings(scale_spread=0.0)


def shifter(settings: PhaseShifterSettings = EXACT, seed: int = 0) -> PhaseShifter:
    return PhaseShifter(settings, np.random.default_rng(seed))


def test_the_half_wave_voltage_adds_half_a_turn() -> None:
    one = shifter()
    one.set_voltage(12.0, now_s=1.0)
    assert one.phase(2.0) == pytest.approx(np.pi)


def test_units_differ_within_the_spread() -> None:
    phases = [
        shifter(PhaseShifterSettings(scale_spread=0.1), seed).phase_at(12.0) for seed in range(50)
    ]
    assert 0.9 * np.pi <= min(phases) < 0.95 * np.pi
    assert 1.05 * np.pi < max(phases) <= 1.1 * np.pi


def test_the_voltage_arrives_at_the_slew_rate() -> None:
    one = shifter(PhaseShifterSettings(scale_spread=0.0, slew_v_per_s=10.0))
    one.set_voltage(20.0, now_s=0.0)
    assert one.phase(1.0) == pytest.approx(np.pi * 10 / 12)
    assert one.is_moving(1.9)
    assert not one.is_moving(2.1)


def test_what_was_asked_for_earlier_is_remembered() -> None:
    one = shifter()
    one.set_voltage(12.0, now_s=1.0)
    one.set_voltage(24.0, now_s=2.0)
    assert one.phase(1.5) == pytest.approx(np.pi)
    assert one.changes(0.0, 3.0) == [1.0, 2.0]


def test_play_lags_behind_in_both_directions_and_one_sided_approach_removes_it() -> None:
    one = shifter(PhaseShifterSettings(scale_spread=0.0, hysteresis_v=0.5))
    for at_s, voltage_v in enumerate([30.0, 20.0]):
        one.set_voltage(voltage_v, now_s=float(at_s))
    from_above = one.phase(1.5)
    for at_s, voltage_v in enumerate([18.0, 20.0], start=2):
        one.set_voltage(voltage_v, now_s=float(at_s))
    assert from_above == pytest.approx(np.pi * 20.5 / 12)
    assert one.phase(3.5) == pytest.approx(np.pi * 19.5 / 12)


@pytest.mark.parametrize("phase_rad", [-20.0, 0.0, 1.0, 50.0])
def test_the_voltage_for_a_phase_is_the_one_nearest_to_the_middle(phase_rad: float) -> None:
    one = shifter(PhaseShifterSettings(), 3)
    voltage_v = one.voltage_for(phase_rad)
    assert np.cos(one.phase_at(voltage_v) - phase_rad) == pytest.approx(1.0)
    assert abs(voltage_v - 37.5) < 13.4


def test_no_number_is_no_voltage() -> None:
    with pytest.raises(ValueError, match="no voltage"):
        shifter().set_voltage(float("nan"), 0.0)


@pytest.mark.parametrize("wrong", [{"v_pi_v": 0.0}, {"scale_spread": 1.0}, {"hysteresis_v": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"positive|spread|negative"):
        PhaseShifterSettings(**wrong)
