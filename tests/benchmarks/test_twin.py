import numpy as np
import pytest

from benchmarks.twin import Twin, TwinOptions
from calibration.clicks import Clicks

SETTING = np.array([1.0, -2.0, 0.5, 3.0])


def test_the_reference_twin_has_the_floor_and_rate_it_should() -> None:
    twin = Twin(1)

    assert twin.floor == pytest.approx(0.00521, abs=1e-5)
    assert twin.detections_hz == pytest.approx(1e6, rel=0.01)


def test_the_same_seed_gives_the_same_counts() -> None:
    once, again = (Twin(3).measure(SETTING, 1000) for _ in range(2))

    assert np.array_equal(once, again)
    assert not np.array_equal(once, Twin(4).measure(SETTING, 1000))


def test_counts_follow_the_true_qber() -> None:
    twin = Twin(5)

    clicks = Clicks(twin.measure(SETTING, 1e6))

    assert clicks.photons == pytest.approx(1e6, rel=0.01)
    mean = (clicks.qber_z.value + clicks.qber_x.value) / 2
    assert mean == pytest.approx(twin.qber(SETTING), abs=0.003)


def test_no_setting_is_better_than_the_floor() -> None:
    twin, rng = Twin(6), np.random.default_rng(1)

    assert all(twin.excess(rng.uniform(-5, 5, 4)) > 0 for _ in range(200))


def test_drift_turns_the_fibre_as_a_random_walk() -> None:
    before = Twin(7).qber(SETTING)
    twin = Twin(7)
    twin.drift(0.2, 4.0)
    assert twin.qber(SETTING) != pytest.approx(before, abs=1e-4)

    twin = Twin(7)
    twin.drift(0.2, 0.0)
    assert twin.qber(SETTING) == pytest.approx(before)


def test_a_whole_turn_of_the_fibre_changes_nothing() -> None:
    twin = Twin(8)
    before = twin.qber(SETTING)

    twin.kick(np.array([0, 2 * np.pi, 0]))

    assert twin.qber(SETTING) == pytest.approx(before)


def test_play_makes_the_way_to_a_setting_matter_unless_it_is_one_sided() -> None:
    def gap(options: TwinOptions) -> float:
        twin = Twin(9, options)
        twin.qber(SETTING + 1)
        from_above = twin.qber(SETTING)
        twin.qber(SETTING - 1)
        return abs(twin.qber(SETTING) - from_above)

    assert gap(TwinOptions(hysteresis_v=0.2)) > 1e-3
    assert gap(TwinOptions(hysteresis_v=0.2, one_sided=True)) == 0
    assert gap(TwinOptions()) == 0
