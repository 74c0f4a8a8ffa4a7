import math

import numpy as np
import pytest

from sim.modulator import IntensityModulator, ModulatorSettings

NOMINAL = np.array([0.5, 0.5, 0.1, 0.0005])


def test_until_its_bias_is_driven_every_slot_is_as_bright_as_it_should_be() -> None:
    modulator = IntensityModulator(ModulatorSettings(null_v=2.0))

    assert modulator.mean_photons(NOMINAL, 10.0) is NOMINAL


def test_at_its_null_every_slot_is_as_bright_as_it_should_be() -> None:
    modulator = IntensityModulator(ModulatorSettings(null_v=2.0))
    modulator.set_bias(2.0, 1.0)

    assert modulator.mean_photons(NOMINAL, 1.0) == pytest.approx(NOMINAL)


def test_half_a_half_wave_beside_the_null_half_of_the_light_is_in_the_empty_slots() -> None:
    modulator = IntensityModulator(ModulatorSettings(half_wave_v=4.0, extinction_db=60))
    modulator.set_bias(2.0, 1.0)

    found = modulator.mean_photons(np.array([0.5, 0.0]), 1.0)

    assert found == pytest.approx([0.25, 0.25], rel=1e-4)


def test_nothing_is_darker_than_the_extinction_allows_or_brighter_than_the_brightest() -> None:
    modulator = IntensityModulator(ModulatorSettings(extinction_db=30))
    found = []
    for step in range(100):
        modulator.set_bias(0.2 * step, float(step))
        found.append(modulator.mean_photons(np.array([0.5, 0.1, 0.0]), float(step)))

    assert np.max(found) <= 0.5
    assert np.min(found) >= 0.5e-3 * (1 - 1e-9)


def test_the_null_drifts_away_from_a_bias_that_stays() -> None:
    modulator = IntensityModulator(ModulatorSettings(drift_v_per_hour=1.0))
    modulator.set_bias(0.0, 0.0)

    empty = [modulator.mean_photons(NOMINAL, now_s)[3] for now_s in (0.0, 1800.0, 3600.0)]

    assert empty[0] < empty[1] < empty[2]
    assert modulator.null_v(3600.0) == 1.0


def test_a_time_in_the_past_sees_the_bias_of_then() -> None:
    modulator = IntensityModulator()
    modulator.set_bias(0.0, 1.0)
    modulator.set_bias(5.3, 2.0)

    assert modulator.mean_photons(NOMINAL, 1.5)[0] == pytest.approx(0.5)
    assert modulator.changes(0.5, 3.0) == [1.0, 2.0]


@pytest.mark.parametrize("wrong", [{"half_wave_v": 0}, {"extinction_db": -1}, {"null_v": math.nan}])
def test_an_impossible_modulator_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ModulatorSettings(**wrong)


def test_the_null_walks_at_random_as_strongly_as_it_is_told_to() -> None:
    settings = ModulatorSettings(null_v=1.0, drift_v_per_sqrt_s=0.1)
    moved = [
        modulator.null_v(100.0) - modulator.null_v(0.0)
        for modulator in (
            IntensityModulator(settings, np.random.default_rng(seed)) for seed in range(1000, 1200)
        )
    ]

    assert np.std(moved) == pytest.approx(0.1 * 10, rel=0.2)
    assert np.mean(moved) == pytest.approx(0.0, abs=0.3)
