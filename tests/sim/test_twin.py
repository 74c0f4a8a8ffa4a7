from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.fibre import FibreSettings
from sim.liquid_crystals import LiquidCrystalSettings
from sim.paddles import PaddleSettings
from sim.polarization_twin import PolarizationTwin
from sim.polarization_twin import PolarizationTwinSettings as Settings
from sim.receiver import ReceiverSettings
from sim.source import SourceSettings
from sim.squeezers import SqueezerSettings
from sim.stokes import Floats, rotation

STILL = Settings(fibre=FibreSettings(drift_rad_per_sqrt_s=0.0, slow_amplitude_rad=0.0))


def lit(settings: Settings = STILL) -> PolarizationTwin:
    """A twin whose shutter has been open for long."""
    twin = PolarizationTwin(settings, start_s=0.0)
    twin.attenuator.set_shutter(True, now_s=-100.0)
    return twin


def set_all(twin: PolarizationTwin, voltages_v: Floats, now_s: float) -> None:
    for channel, voltage_v in enumerate(voltages_v, start=1):
        twin.squeezers.set_voltage(channel, voltage_v, now_s)


def aligned(settings: Settings = STILL) -> PolarizationTwin:
    twin = lit(settings)
    set_all(twin, twin.best_drives(0.0), now_s=-50.0)
    return twin


def table(twin: PolarizationTwin, tags: dict[int, NDArray[np.uint64]]) -> NDArray[np.int64]:
    """Signal counts, sent state by detector, folded as a receiver would."""
    signal = np.isclose(twin.source.mean_photons(), twin.source.signal_mean_photons)
    counts = np.zeros((4, 4), dtype=np.int64)
    for detector in range(4):
        slots = tags[detector + 1].astype(np.int64) // int(twin.source.slot_ps)
        slots = slots[signal[slots]]
        counts[:, detector] = np.bincount(twin.source.pattern_states()[slots], minlength=4)
    return counts


def shares(counts: NDArray[np.int64]) -> tuple[float, float]:
    """QBER, mean of both bases, and its standard deviation."""
    blocks = counts[:2, :2], counts[2:, 2:]
    errors = [1 - np.trace(block) / block.sum() for block in blocks]
    variances = [e * (1 - e) / block.sum() for e, block in zip(errors, blocks, strict=True)]
    return float(np.mean(errors)), sqrt(sum(variances)) / 2


# --- the demo link


def test_the_default_link_has_the_floor_of_its_optics_and_darks() -> None:
    assert lit().qber_floor() == pytest.approx(0.0052, abs=1e-4)


def test_the_default_link_counts_about_200_000_photons_per_second() -> None:
    assert lit().detection_rate_hz(0.0) == pytest.approx(2e5, rel=0.05)


def test_a_random_fibre_is_on_average_useless() -> None:
    qbers = [lit(replace(STILL, seed=seed)).qber(0.0) for seed in range(100)]

    # each basis' overlap is uniform over -1 to 1, so QBERs spread evenly about one half
    assert abs(np.mean(qbers) - 0.5) < 4 * 0.5 / sqrt(3 * 100)


@pytest.mark.parametrize("seed", range(10))
def test_some_voltages_align_any_fibre(seed: int) -> None:
    twin = lit(replace(STILL, seed=seed))

    assert twin.best_qber(0.0) == pytest.approx(twin.qber_floor(), abs=2e-5)
    assert np.abs(twin.best_drives(0.0)).max() <= 5


def test_the_best_drives_give_the_best_qber_once_they_are_set() -> None:
    twin = aligned()

    assert twin.qber(0.0) == pytest.approx(twin.best_qber(0.0), abs=1e-9)


@pytest.mark.parametrize("vector", [(0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1), (0.06, -0.08, 0.05)])
def test_a_small_residual_rotation_costs_its_weighted_square(vector: tuple[float, ...]) -> None:
    twin = aligned()
    before = twin.qber(0.0)
    w = np.array(vector)
    # a fibre that moves by w in Bob's frame: back through controller and receiver to its own
    after_fibre = twin.rotation(0.0) @ twin.fibre.rotation(0.0).T
    twin.fibre.jump(after_fibre.T @ w, now_s=0.0)

    excess = (w[0] ** 2 + w[1] ** 2 + 2 * w[2] ** 2) / 8
    assert twin.qber(0.0) - before == pytest.approx(excess, rel=0.02)


# --- light


def test_ten_decibel_more_attenuation_are_a_tenth_of_the_light() -> None:
    quiet = replace(STILL, receiver=ReceiverSettings(dark_hz=(0, 0, 0, 0), dead_time_s=0))
    twin = lit(quiet)
    before_hz = twin.detection_rate_hz(0.0)
    twin.attenuator.move_to(30.0, now_s=0.0)

    assert twin.detection_rate_hz(1.0) == pytest.approx(before_hz / 10, rel=1e-3)


def test_the_nominal_attenuation_does_not_change_the_light_at_bob() -> None:
    one, other = (
        lit(replace(STILL, nominal_attenuation_db=db)).detection_rate_hz(0.0) for db in (10, 30)
    )

    assert one == pytest.approx(other, rel=1e-9)


def test_the_click_rate_is_what_pattern_loss_and_efficiency_leave() -> None:
    twin = lit(replace(STILL, controller=SqueezerSettings(insertion_loss_ripple_db=0.0)))

    mean_photons = (3 * 0.5 + 0.1 + 0.0005) / 5
    light_hz = 1e8 * mean_photons * 10**-1.5 * 0.2
    assert twin.detection_rate_hz(0.0) == pytest.approx(light_hz + 4 * 40, rel=5e-3)


def test_the_squeezers_loss_shows_in_the_light() -> None:
    twin = lit(replace(STILL, controller=SqueezerSettings(insertion_loss_ripple_db=2.0)))

    expected = 10 ** (-(15 + twin.squeezers.loss_db(0.0)) / 10)
    assert twin.transmission(0.0) == pytest.approx(expected)
    assert twin.squeezers.loss_db(0.0) > 0.1


def test_with_the_shutter_shut_only_dark_counts_are_left() -> None:
    twin = PolarizationTwin(STILL)

    counts = [tags.size for tags in twin.tags(0.0, 10.0).values()]

    assert np.abs(np.array(counts) - 400).max() < 4.5 * sqrt(400)
    assert twin.qber(0.0) == pytest.approx(0.5)
    assert twin.detection_rate_hz(0.0) == pytest.approx(160, rel=1e-3)


def test_in_perfect_darkness_the_qber_is_one_half() -> None:
    twin = PolarizationTwin(replace(STILL, receiver=ReceiverSettings(dark_hz=(0, 0, 0, 0))))

    assert twin.qber(0.0) == 0.5
    assert twin.counts(0.0, 1.0).tolist() == [0, 0, 0, 0]


def test_a_shutter_that_shuts_within_a_window_ends_the_light_there() -> None:
    twin = lit()
    rate_hz = twin.detection_rate_hz(0.0)
    twin.attenuator.set_shutter(False, now_s=0.013)

    counts = sum(tags.size for tags in twin.tags(0.0, 0.2).values())

    expected = 0.013 * rate_hz + 0.187 * 160
    assert abs(counts - expected) < 4 * sqrt(expected)


def test_an_opening_shutter_raises_the_light_within_a_window() -> None:
    twin = PolarizationTwin(STILL)
    twin.attenuator.set_speed(1000.0)
    twin.attenuator.set_shutter(True, now_s=0.0)  # 45 dB in 45 ms
    dark, bright = (
        sum(tags.size for tags in twin.tags(start_s, 0.01).values()) for start_s in (0.0, 0.05)
    )

    assert dark < 30
    assert bright > 1800


# --- tags


def test_tags_carry_the_expected_qber() -> None:
    twin = lit(replace(STILL, seed=4))

    seen, sigma = shares(table(twin, twin.tags(0.0, 2.0)))

    assert abs(seen - twin.qber(0.0)) < 4 * sigma


def test_tags_carry_the_floor_when_aligned() -> None:
    twin = aligned()

    seen, sigma = shares(table(twin, twin.tags(0.0, 5.0)))

    assert abs(seen - twin.qber(0.0)) < 4 * sigma


def test_the_signal_table_follows_the_click_probabilities() -> None:
    twin = lit(replace(STILL, seed=5))
    duration_s = 2.0

    counts = table(twin, twin.tags(0.0, duration_s))

    at_bob = np.full(4, 0.5 * twin.transmission(0.0))
    click = twin.receiver.probabilities(twin.rotation(0.0), at_bob, np.arange(4))
    expected = click * duration_s * 1e8 * 3 / 20
    # 0.5 % for dead time, the rest is counting
    assert np.all(np.abs(counts - expected) < 4.5 * np.sqrt(expected) + 0.005 * expected)


def test_decoys_and_vacuum_get_their_share_of_clicks() -> None:
    twin = lit()
    tags = np.concatenate(list(twin.tags(0.0, 5.0).values())).astype(np.int64)
    slots = np.bincount(tags // 10_000 % 5, minlength=5)  # signal three times, decoy, vacuum

    signal = slots[:3].sum() / 3
    assert abs(slots[3] - signal / 5) < 4.5 * sqrt(signal / 5)
    vacuum = signal * 0.001 + 5.0 * 160 / 5
    assert abs(slots[4] - vacuum) < 4.5 * sqrt(vacuum)


def test_tags_are_picoseconds_since_the_last_start() -> None:
    for tags in lit().tags(0.0, 0.1).values():
        assert tags.dtype == np.uint64
        assert tags.size > 1000
        assert tags.max() < 200_000


def test_start_fires_once_per_pattern_period() -> None:
    assert lit().sync_period_ps == pytest.approx(20 * 10_000)


def test_a_window_is_as_long_as_it_was_asked_for() -> None:
    twin = lit()
    expected = twin.detection_rate_hz(0.0) * 0.25
    counts = sum(tags.size for tags in twin.tags(0.0, 0.25).values())

    assert abs(counts - expected) < 4 * sqrt(expected)


def test_an_empty_window_has_no_tags() -> None:
    assert [tags.size for tags in lit().tags(0.0, 0.0).values()] == [0, 0, 0, 0]


def test_a_static_state_comes_in_every_slot_while_start_goes_on() -> None:
    twin = aligned()
    twin.source.set_state("V", now_s=-1.0)

    tags = twin.tags(0.0, 1.0)

    assert tags[2].size > 100 * tags[1].size
    assert tags[3].size == pytest.approx(tags[4].size, rel=0.05)
    assert np.unique(tags[2].astype(np.int64) // 10_000).size == 20


def test_a_static_state_does_not_change_the_expected_qber() -> None:
    twin = aligned()
    before = twin.qber(0.0)
    twin.source.set_state("V", now_s=0.0)

    assert twin.qber(0.0) == before


def test_counters_and_tags_see_the_same_light() -> None:
    twin = lit(replace(STILL, seed=6))

    tags = np.array([times.size for times in twin.tags(0.0, 2.0).values()])
    counts = twin.counts(0.0, 2.0)

    assert np.all(np.abs(tags - counts) < 4.5 * np.sqrt(tags + counts))


def test_drift_moves_within_a_long_window() -> None:
    fast = FibreSettings(drift_rad_per_sqrt_s=0.0, slow_amplitude_rad=1.5, slow_period_s=2.0)
    twin = lit(replace(STILL, fibre=fast))
    moments = np.arange(0.005, 1.0, 0.01)

    seen, sigma = shares(table(twin, twin.tags(0.0, 1.0)))

    mean = float(np.mean([twin.qber(t) for t in moments]))
    assert abs(seen - mean) < 4 * sigma + 1e-3
    assert abs(twin.qber(0.5) - mean) > 0.01, "the window must span a change"


def test_a_drive_on_its_way_moves_within_a_window() -> None:
    slow = SqueezerSettings(slew_v_per_s=50.0)
    twin = lit(replace(STILL, controller=slow))
    set_all(twin, np.array([2.5, 2.5, -2.5, 2.5]), now_s=0.0)
    moments = np.arange(0.0005, 0.05, 0.001)

    seen, sigma = shares(table(twin, twin.tags(0.0, 0.05)))

    assert abs(seen - float(np.mean([twin.qber(t) for t in moments]))) < 4 * sigma


def test_jitter_and_delays_reach_the_tags() -> None:
    late = ReceiverSettings(delay_ps=(0.0, 700.0, 0.0, 0.0), jitter_ps=80.0)
    tags = lit(replace(STILL, receiver=late)).tags(0.0, 0.5)

    middles = [float(np.mean(tags[j].astype(float) % 10_000)) for j in (1, 2)]

    assert middles == pytest.approx([5000, 5700], abs=20)


# --- one seed


def test_the_same_seed_and_calls_give_the_same_bytes() -> None:
    def run() -> bytes:
        twin = lit(Settings(seed=11))
        twin.squeezers.set_voltage(2, 1.5, now_s=0.05)
        first, counts, second = twin.tags(0.0, 0.1), twin.counts(0.1, 1.0), twin.tags(2.0, 0.1)
        arrays = [*first.values(), counts, *second.values()]
        return b"".join(array.tobytes() for array in arrays)

    assert run() == run()


def test_asking_for_the_truth_does_not_change_what_is_measured() -> None:
    asked, left_alone = (
        lit(Settings(seed=12)),
        lit(Settings(seed=12)),
    )
    asked.qber(3.0)
    asked.best_drives(1.0)
    asked.detection_rate_hz(2.0)
    asked.qber_floor()

    np.testing.assert_array_equal(asked.tags(0.0, 0.1)[3], left_alone.tags(0.0, 0.1)[3])


def test_another_seed_is_another_bench() -> None:
    one, other = lit(Settings(seed=1)), lit(Settings(seed=2))

    assert not np.allclose(one.rotation(0.0), other.rotation(0.0))


def test_the_photon_noise_does_not_move_the_fibre() -> None:
    busy, idle = lit(Settings(seed=13)), lit(Settings(seed=13))
    busy.tags(0.0, 1.0)

    np.testing.assert_array_equal(busy.rotation(5.0), idle.rotation(5.0))


# --- other links


def test_a_clock_whose_slot_is_no_whole_number_of_picoseconds_works() -> None:
    odd = replace(STILL, source=SourceSettings(clock_hz=3e8), receiver=ReceiverSettings())
    twin = lit(odd)

    tags = twin.tags(0.0, 0.2)

    slot_ps = 1e12 / 3e8
    offsets = np.concatenate(list(tags.values())).astype(float) % slot_ps - slot_ps / 2
    assert np.std(offsets) < 100


def test_a_bright_link_stays_within_bounds() -> None:
    twin = lit(replace(STILL, loss_db=0.0, nominal_attenuation_db=45.0))
    twin.attenuator.move_to(0.0, now_s=-10.0)

    counts = [tags.size for tags in twin.tags(0.0, 1e-3).values()]

    assert max(counts) < 1e7 * 1e-3
    assert min(counts) > 1e3


def test_a_negative_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="loss_db"):
        Settings(loss_db=-1.0)


def test_a_nominal_attenuation_beyond_the_attenuator_is_refused() -> None:
    with pytest.raises(ValueError, match="outside 0 to 45 dB"):
        PolarizationTwin(Settings(nominal_attenuation_db=60.0))


def test_a_turned_fibre_shows_in_the_total_rotation() -> None:
    twin = lit()
    before = twin.rotation(0.0)
    fibre = twin.fibre.rotation(0.0)
    vector = np.array([0.2, -0.1, 0.4])
    twin.fibre.jump(vector, now_s=1.0)

    expected = before @ fibre.T @ rotation(vector) @ fibre
    np.testing.assert_allclose(twin.rotation(1.0), expected, atol=1e-12)


# --- paddles, bias currents, arrivals, monitor tap


def with_paddles(seed: int = 0) -> PolarizationTwin:
    return lit(replace(STILL, controller=PaddleSettings(), seed=seed))


@pytest.mark.parametrize("seed", range(5))
def test_some_angles_align_any_fibre_with_paddles(seed: int) -> None:
    twin = with_paddles(seed)
    for paddle, angle_deg in enumerate(twin.best_drives(0.0), start=1):
        twin.paddles.turn(paddle, angle_deg, start_s=-50.0, speed_deg_per_s=400.0)

    assert twin.qber(0.0) == pytest.approx(twin.best_qber(0.0), abs=1e-9)
    assert twin.qber(0.0) - twin.qber_floor() < 0.003


@pytest.mark.parametrize("seed", range(2))
def test_some_voltages_align_any_fibre_with_three_cells_of_a_whole_wave(seed: int) -> None:
    twin = lit(replace(STILL, controller=LiquidCrystalSettings(), seed=seed))
    for cell, voltage_v in enumerate(twin.best_drives(0.0), start=1):
        twin.liquid_crystals.set_voltage(cell, voltage_v, now_s=-50.0)

    assert twin.qber(0.0) - twin.qber_floor() < 1e-6


def test_a_link_has_the_controller_that_it_was_given_and_says_so() -> None:
    with pytest.raises(ValueError, match="no squeezers"):
        _ = with_paddles().squeezers
    with pytest.raises(ValueError, match="no fibre paddles"):
        _ = lit().paddles
    with pytest.raises(ValueError, match="no cells"):
        _ = lit().liquid_crystals


def test_a_turning_paddle_shows_in_the_middle_of_a_window() -> None:
    still, turned = with_paddles(), with_paddles()
    turned.paddles.turn(1, 20.0, start_s=1.0, speed_deg_per_s=400.0)

    assert np.array_equal(still.counts(0.0, 0.5), turned.counts(0.0, 0.5))
    assert not np.array_equal(still.counts(1.5, 0.5), turned.counts(1.5, 0.5))


def test_arrivals_are_the_tags_with_their_whole_time() -> None:
    since_sync, since_start = aligned().tags(0.0, 0.35), aligned().arrivals(0.0, 0.35)
    period_ps = aligned().sync_period_ps

    for detector in range(1, 5):
        times = since_start[detector]
        assert np.all(np.diff(times) > 0)
        assert times[-1] == pytest.approx(0.35e12, rel=0.01)
        apart = np.abs((times % period_ps) - since_sync[detector])
        assert np.all(np.minimum(apart, period_ps - apart) < 1.01)


def test_without_bias_a_detector_counts_nothing() -> None:
    twin = aligned()
    twin.nanowires.set_bias(3, 0.0, now_s=-1.0)

    counts = twin.counts(0.0, 0.5)

    assert counts[2] == 0
    assert np.all(counts[[0, 1, 3]] > 1000)


def test_the_bias_counts_from_when_it_was_set() -> None:
    twin = aligned()
    twin.nanowires.set_bias(1, 0.0, now_s=0.25)

    times = twin.arrivals(0.0, 0.5)[1]

    assert times.size > 1000
    assert times.max() <= 0.25e12 + twin.sync_period_ps


def test_a_higher_bias_raises_the_dark_counts() -> None:
    twin = PolarizationTwin(STILL, start_s=0.0)
    twin.nanowires.set_bias(2, 21.0, now_s=-1.0)

    counts = twin.counts(0.0, 10.0)

    assert counts[1] / counts[0] == pytest.approx(np.exp(4), rel=0.3)


def test_the_monitor_sees_what_leaves_alice_brighter_by_its_tap() -> None:
    twin = lit()
    photons_hz = twin.source.mean_photons().mean() * 1e8

    leaving_w = photons_hz * 1.2816e-19

    assert twin.monitor_power_w(0.0) == pytest.approx(1e5 * leaving_w, rel=1e-3)


def test_the_monitor_follows_attenuator_and_shutter() -> None:
    twin = lit()
    full_w = twin.monitor_power_w(0.0)
    twin.attenuator.move_to(30.0, now_s=1.0)

    assert twin.monitor_power_w(100.0) == pytest.approx(full_w / 10)
    twin.attenuator.set_shutter(False, now_s=200.0)
    assert twin.monitor_power_w(300.0) == 0


def test_arrivals_drift_apart_and_tags_show_it() -> None:
    drifting = ReceiverSettings(delay_drift_ps_per_sqrt_s=30.0, jitter_ps=50.0)
    twin = lit(replace(STILL, receiver=drifting, loss_db=5.0))

    tags = twin.tags(100.0, 0.05)

    for detector, late_ps in enumerate(twin.late_ps(100.025)):
        offsets = tags[detector + 1] % int(twin.source.slot_ps) - twin.source.slot_ps / 2
        assert abs(late_ps) > 1
        assert np.mean(offsets) == pytest.approx(late_ps, abs=20)
