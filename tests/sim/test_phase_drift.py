import numpy as np
import pytest

from sim.phase_drift import PhaseDrift, PhaseDriftSettings
from sim.random_walk import BLOCK_STEPS, BLOCKS_KEPT

WALK = PhaseDriftSettings(drift_rad_per_sqrt_s=0.1, slow_amplitude_rad=0.0)


def drift(settings: PhaseDriftSettings = WALK, seed: int = 0) -> PhaseDrift:
    return PhaseDrift(settings, np.random.default_rng(seed), start_s=0.0)


def test_the_variance_of_the_walk_grows_with_time() -> None:
    moved = [one.phase(25.0) - one.phase(0.0) for one in (drift(seed=s) for s in range(400))]
    assert np.var(moved) == pytest.approx(0.1**2 * 25, rel=0.2)


def test_the_path_does_not_depend_on_when_it_is_asked_for() -> None:
    often, once = drift(), drift()
    for now_s in np.linspace(0, 50, 77):
        often.phase(float(now_s))
    assert often.phase(50.0) == once.phase(50.0)


def test_the_path_is_continuous_across_its_blocks() -> None:
    one, seam_s = drift(), BLOCK_STEPS * WALK.step_s
    assert one.phase(seam_s + 1e-9) == pytest.approx(one.phase(seam_s - 1e-9), abs=1e-6)


def test_the_slow_term_comes_and_goes_with_its_period() -> None:
    slow = PhaseDriftSettings(0.0, slow_amplitude_rad=2.0, slow_period_s=40.0)
    one = drift(slow)
    assert one.phase(10.0) - one.phase(0.0) == pytest.approx(2.0)
    assert one.phase(40.0) == pytest.approx(one.phase(0.0))


def test_a_jump_counts_from_its_own_time_on() -> None:
    one, still = drift(), drift()
    one.jump(1.5, now_s=3.0)
    assert one.phase(2.9) == still.phase(2.9)
    assert one.phase(3.1) == pytest.approx(still.phase(3.1) + 1.5)


def test_a_path_long_past_is_forgotten() -> None:
    one = drift()
    one.phase((BLOCKS_KEPT + 2) * BLOCK_STEPS * WALK.step_s)
    with pytest.raises(LookupError, match="forgotten"):
        one.phase(1.0)


@pytest.mark.parametrize(
    "wrong", [{"drift_rad_per_sqrt_s": -1.0}, {"slow_period_s": 0.0}, {"step_s": 0.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"negative|positive"):
        PhaseDriftSettings(**wrong)
