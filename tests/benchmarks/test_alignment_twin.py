import numpy as np
import pytest

from benchmarks.liquid_crystal_twin import LiquidCrystalOptions, LiquidCrystalTwin
from benchmarks.paddle_twin import PaddleOptions, PaddleTwin
from benchmarks.twin import Twin, TwinOptions
from benchmarks.wave_plate_twin import WavePlateOptions, WavePlateTwin
from calibration.clicks import Clicks

SETTING = np.array([1.0, -2.0, 0.5, 3.0])


def test_four_squeezers_reach_the_floor() -> None:
    twin = Twin(1)

    assert twin.best_qber == pytest.approx(twin.floor, abs=1e-9)


@pytest.mark.parametrize(
    "options", [TwinOptions(pdl_db=0.5), TwinOptions(receiver_angle_deg=2.0)], ids=["pdl", "angle"]
)
def test_what_no_rotation_undoes_raises_the_best_reachable_qber(options: TwinOptions) -> None:
    twin, rng = Twin(2, options), np.random.default_rng(1)

    assert 1e-4 < twin.best_qber - twin.floor < 1e-3
    assert all(twin.excess_over_best(rng.uniform(-5, 5, 4)) > -1e-9 for _ in range(200))


def test_paddles_are_judged_by_what_they_can_reach() -> None:
    twins = [PaddleTwin(seed, PaddleOptions(retardance_sigma=0.2)) for seed in range(6)]

    assert max(twin.best_qber - twin.floor for twin in twins) > 1e-3
    assert min(twin.best_qber - twin.floor for twin in twins) > -1e-9


def test_three_cells_of_less_than_a_wave_do_not_reach_every_fibre() -> None:
    half_wave = LiquidCrystalOptions(full_waves=0.65, most_waves=0.6)

    whole_wave_missed, *half_wave_missed = (
        twin.best_qber - twin.floor
        for twin in (LiquidCrystalTwin(0), *(LiquidCrystalTwin(s, half_wave) for s in range(2)))
    )

    assert whole_wave_missed < 1e-6
    assert max(half_wave_missed) > 0.01


def test_a_cell_without_errors_turns_by_its_nominal_retardance() -> None:
    exact = LiquidCrystalOptions(
        axis_sigma_deg=0.0, thickness_sigma=0.0, threshold_sigma=0.0, residual_sigma_waves=0.0
    )
    twin, waves = LiquidCrystalTwin(1, exact), np.array([0.1, 0.6, 1.0])

    before = twin._controller(np.full(3, 0.2))
    after = twin._controller(np.stack([waves, np.full(3, 0.2), np.full(3, 0.2)], axis=-1))

    cosine = (np.trace(before.T @ after, axis1=-2, axis2=-1) - 1) / 2
    assert np.allclose(cosine, np.cos(2 * np.pi * (waves - 0.2)))


def test_wave_plates_stand_where_they_were_homed_but_for_a_degree_or_two() -> None:
    off_deg = [
        np.degrees(WavePlateTwin(seed, WavePlateOptions(homing_sigma_deg=1.5))._azimuth_rad) / 2
        for seed in range(100)
    ]

    assert np.std(off_deg) == pytest.approx(1.5, rel=0.15)


def test_polarization_dependent_loss_dims_some_states_by_as_much() -> None:
    twin = Twin(3, TwinOptions(pdl_db=3.0))
    rng = np.random.default_rng(2)

    by_state = np.array([twin.measure(rng.uniform(-5, 5, 4), 1e6).sum(axis=1) for _ in range(20)])

    assert by_state.min() / by_state.max() > 0.45  # 3 dB is a factor of 2, the photons are fixed
    assert by_state.std(axis=1).max() > 3000
    pairs = by_state.reshape(20, 2, 2).sum(axis=2)  # orthogonal states lose alike together
    assert np.allclose(pairs[:, 0], pairs[:, 1], rtol=0.02)


def test_analysers_at_a_wrong_angle_cannot_both_be_right() -> None:
    twin = Twin(4, TwinOptions(receiver_angle_deg=10.0))
    best = min((twin.qber(v), tuple(v)) for v in np.random.default_rng(3).uniform(-5, 5, (4000, 4)))

    clicks = Clicks(twin.measure(np.array(best[1]), 1e6))

    least = np.sin(np.radians(5)) ** 2  # the 20 degrees between them on the sphere, shared
    assert max(clicks.qber_z.value, clicks.qber_x.value) > twin.floor + 0.9 * least


def test_drift_goes_on_while_settling_and_counting() -> None:
    still, drifting = Twin(5), Twin(5, TwinOptions(drift_rad=0.5))

    for twin in (still, drifting):
        for step in range(20):
            twin.measure(SETTING + 0.01 * step, 1000)

    assert still.qber(SETTING) == Twin(5).qber(SETTING)
    assert abs(drifting.qber(SETTING) - still.qber(SETTING)) > 1e-3


def test_judging_moves_nothing() -> None:
    judged, left_alone = (Twin(6, TwinOptions(hysteresis_v=0.3)) for _ in range(2))
    for twin in (judged, left_alone):
        twin.measure(SETTING, 100)
    judged.excess_over_best(SETTING + 2)
    judged.excess(SETTING - 2)

    assert judged.qber(SETTING) == left_alone.qber(SETTING)


def test_approached_from_below_the_limits_leave_room_to_take_up_the_play() -> None:
    twin = Twin(7, TwinOptions(hysteresis_v=0.25, one_sided=True))
    lowest = twin.limits[0]
    twin.measure(lowest + 3, 1000)
    twin.measure(lowest, 1000)

    assert twin.qber(lowest) == Twin(7).qber(lowest - 0.25)
