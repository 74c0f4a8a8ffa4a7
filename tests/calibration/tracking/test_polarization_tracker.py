import json
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.twin import HALF_WAVE_V, Twin
from calibration.clicks import Clicks
from calibration.sampler import Advice, RotationSampler
from calibration.tracking.polarization import PolarizationTracker, Proposal, TrackingReport

VOLTAGES = ("v1", "v2", "v3", "v4")
LIMITS = dict.fromkeys(VOLTAGES, (-5.0, 5.0))
RATE_HZ = 1e5
DARK = Clicks(np.zeros((4, 4), dtype=np.int64))


def align(twin: Twin, limit_v: float = 5.0) -> Advice:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, BaseDistribution] = {
        name: FloatDistribution(-limit_v, limit_v) for name in VOLTAGES
    }
    space["n_photons"] = IntDistribution(100, 20_000, log=True)
    sampler = RotationSampler(space, half_wave_v=HALF_WAVE_V, seed=1)
    study = optuna.create_study(sampler=sampler)
    for _ in range(13):
        trial = study.ask(space)
        table = twin.measure(volts(trial.params), trial.params["n_photons"])
        trial.set_user_attr("clicks", table.tolist())
        study.tell(trial, Clicks(table).qber.value)
    return sampler.advice(study)


def volts(setting: Any) -> NDArray[np.float64]:
    return np.array([setting[name] for name in VOLTAGES])


@pytest.fixture(scope="module")
def advice() -> Advice:
    return align(Twin(21))


def make_tracker(advice: Advice, **options: Any) -> PolarizationTracker:
    return PolarizationTracker(advice.posterior, advice.setting, LIMITS, now_s=0.0, **options)


def hold(
    tracker: PolarizationTracker,
    twin: Twin,
    windows: int,
    *,
    drift_rad: float,
    window_s: float = 0.1,
    start_s: float = 0.0,
    change: Callable[[Clicks], Clicks] = lambda clicks: clicks,
) -> tuple[list[float], list[TrackingReport], list[Proposal]]:
    """Track a drifting twin and return the true excess, the reports and the proposals."""
    excess, reports, proposals = [], [], []
    for window in range(windows):
        now_s = start_s + window * window_s
        proposal = tracker.next_setting(now_s)
        twin.drift(drift_rad, window_s)
        clicks = Clicks(twin.measure(volts(proposal.setting), RATE_HZ * window_s))
        excess.append(twin.excess(volts(proposal.setting)))
        reports.append(tracker.update(change(clicks), proposal.setting, now_s + window_s))
        proposals.append(proposal)
    return excess, reports, proposals


def test_a_drifting_fibre_is_held_near_its_optimum(advice: Advice) -> None:
    twin, bound = Twin(21), 0.00022  # of drift 0.01 rad/sqrt(s) at 1e5 detections/s

    excess, reports, _ = hold(make_tracker(advice, drift_rad=0.01), twin, 1200, drift_rad=0.01)

    assert np.mean(excess[100:]) < 1.5 * bound
    assert not any(report.lost for report in reports)
    assert reports[-1].floor == pytest.approx(twin.floor, rel=0.1)


def test_without_tracking_the_same_drift_ruins_the_alignment(advice: Advice) -> None:
    twin = Twin(21)
    twin.drift(0.01, 60.0)

    assert twin.excess(volts(advice.setting)) > 0.0005


def test_what_is_expected_is_what_happens() -> None:
    ratios, below = [], []
    for link in range(21, 25):
        twin = Twin(link)
        tracker = make_tracker(align(Twin(link)), drift_rad=0.01)
        excess, reports, _ = hold(tracker, twin, 300, drift_rad=0.01)
        expected = np.mean([report.expected_excess for report in reports[50:]])
        ratios.append(np.mean(excess[50:]) / expected)
        below += [e < r.excess_q90 for e, r in zip(excess, reports, strict=True)]

    assert 0.7 < np.mean(ratios) < 1.4
    assert np.mean(below) > 0.8


def test_a_drift_ten_times_off_the_guess_is_followed(advice: Advice) -> None:
    excess, reports, _ = hold(make_tracker(advice, drift_rad=0.001), Twin(21), 600, drift_rad=0.01)

    assert np.mean(excess[200:]) < 0.0006
    assert 0.005 < reports[-1].drift_rad < 0.02


def test_the_dither_follows_what_is_not_known(advice: Advice) -> None:
    tracker = make_tracker(advice)
    small = np.abs(tracker.next_setting(0.0).dither_rad)

    late = np.abs(tracker.next_setting(1000.0).dither_rad)

    assert np.all(late > small)
    assert np.all(late <= 0.3)


def test_dither_signs_visit_all_four_quadrants(advice: Advice) -> None:
    tracker = make_tracker(advice)

    signs = [np.sign(tracker.next_setting(0.0).dither_rad).tolist() for _ in range(4)]

    assert sorted(signs) == [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def test_the_held_setting_is_the_alignment_without_its_dither(advice: Advice) -> None:
    proposal = make_tracker(advice).next_setting(0.0)

    assert proposal.held == pytest.approx(advice.setting, abs=0.05)
    assert proposal.held != proposal.setting


def test_a_knocked_fibre_is_reported_as_lost_at_once_and_stays_so(advice: Advice) -> None:
    twin, tracker = Twin(21), make_tracker(advice)
    hold(tracker, twin, 100, drift_rad=0.003)
    twin.kick(np.array([0.5, -0.4, 0.3]))

    _, reports, proposals = hold(tracker, twin, 4, drift_rad=0.003, start_s=10.0)

    assert reports[1].lost
    assert reports[-1].lost
    assert proposals[-1].setting == proposals[-1].held


def test_a_nudged_fibre_is_caught_without_losing_the_lock(advice: Advice) -> None:
    twin, tracker = Twin(21), make_tracker(advice)
    hold(tracker, twin, 100, drift_rad=0.003)
    twin.kick(np.array([0.04, -0.03, 0.03]))

    excess, reports, _ = hold(tracker, twin, 300, drift_rad=0.003, start_s=10.0)

    assert not any(report.lost for report in reports)
    assert np.mean(excess[50:]) < 0.0003


def test_darkness_freezes_the_setting_and_widens_what_is_expected(advice: Advice) -> None:
    twin, tracker = Twin(21), make_tracker(advice, drift_rad=0.01)
    _, before, held = hold(tracker, twin, 20, drift_rad=0.01)

    _, during, frozen = hold(tracker, twin, 10, drift_rad=0.01, start_s=2.0, change=lambda _: DARK)

    assert all(report.dark and not report.lost for report in during)
    assert during[-1].expected_excess > during[1].expected_excess
    assert during[-1].floor == before[-1].floor
    assert all(proposal.setting == frozen[1].setting for proposal in frozen[1:])
    assert held[-1].held != frozen[1].held


def test_light_after_darkness_is_followed_again(advice: Advice) -> None:
    twin, tracker = Twin(21), make_tracker(advice, drift_rad=0.01)
    hold(tracker, twin, 50, drift_rad=0.01)
    hold(tracker, twin, 50, drift_rad=0.01, start_s=5.0, change=lambda _: DARK)

    excess, reports, _ = hold(tracker, twin, 200, drift_rad=0.01, start_s=10.0)

    assert not any(report.lost for report in reports)
    assert np.mean(excess[100:]) < 0.0006


def test_a_window_flagged_dark_is_not_learnt_from(advice: Advice) -> None:
    tracker = make_tracker(advice)
    noise = Clicks(np.full((4, 4), 50, dtype=np.int64))

    report = tracker.update(noise, advice.setting, 1.0, dark=True)

    assert report.dark
    assert report.innovation == 0


def test_mismatched_counts_alone_neither_fail_nor_raise_an_alarm(advice: Advice) -> None:
    mismatched = np.kron(np.array([[0, 1], [1, 0]]), np.ones((2, 2), dtype=np.int64))

    _, reports, _ = hold(
        make_tracker(advice, drift_rad=0.003),
        Twin(21),
        50,
        drift_rad=0.003,
        change=lambda clicks: Clicks(clicks.table * mismatched),
    )

    assert not any(report.lost for report in reports)


def test_settings_stay_within_limits_under_strong_drift(advice: Advice) -> None:
    twin = Twin(21)
    near = {name: (value - 0.6, value + 0.6) for name, value in advice.setting.items()}
    tracker = PolarizationTracker(advice.posterior, advice.setting, near, now_s=0.0, drift_rad=0.05)

    _, _, proposals = hold(tracker, twin, 400, drift_rad=0.05)

    for proposal in proposals:
        for name, (low, high) in near.items():
            assert low <= proposal.setting[name] <= high


def test_the_setting_never_leaps_within_a_wide_range(advice: Advice) -> None:
    _, _, proposals = hold(make_tracker(advice), Twin(21), 400, drift_rad=0.03)

    held = np.array([volts(proposal.held) for proposal in proposals])
    assert np.abs(np.diff(held, axis=0)).max() < HALF_WAVE_V / 2


def test_slow_drift_asks_for_longer_windows(advice: Advice) -> None:
    options = {"window_s": (0.001, 1000.0)}
    slow, fast = (
        make_tracker(advice, drift_rad=drift, **options).next_setting(0.0).window_s
        for drift in (0.001, 0.1)
    )

    assert slow > fast


def test_a_restored_tracker_goes_on_as_if_nothing_had_happened(advice: Advice) -> None:
    tracker = make_tracker(advice)
    hold(tracker, Twin(21), 30, drift_rad=0.01)
    stored = json.loads(json.dumps(tracker.snapshot()))

    restored = PolarizationTracker.restore(stored, now_s=3.0)

    assert restored.next_setting(3.0) == tracker.next_setting(3.0)
    clicks = Clicks(Twin(21).measure(volts(advice.setting), 5000))
    reports = [vars(t.update(clicks, advice.setting, 3.5)) for t in (restored, tracker)]
    assert reports[0] == pytest.approx(reports[1], rel=1e-12)


def test_a_gap_before_restoring_widens_what_is_expected(advice: Advice) -> None:
    stored = make_tracker(advice).snapshot()

    reports = [
        PolarizationTracker.restore(stored, now_s=0.0, gap_s=gap_s).update(
            DARK, advice.setting, 0.1
        )
        for gap_s in (0.0, 600.0)
    ]

    assert reports[0].expected_excess < reports[1].expected_excess


def test_the_posterior_handed_back_starts_another_tracker_as_sure_as_this_one(
    advice: Advice,
) -> None:
    twin, tracker = Twin(21), make_tracker(advice, drift_rad=0.01)
    _, _, proposals = hold(tracker, twin, 100, drift_rad=0.01)
    stored = json.loads(json.dumps(tracker.posterior().to_dict()))

    other = PolarizationTracker(stored, proposals[-1].held, LIMITS, now_s=10.0, drift_rad=0.01)

    ours, others = (t.update(DARK, proposals[-1].held, 10.0) for t in (tracker, other))
    assert others.expected_excess == pytest.approx(ours.expected_excess, rel=1e-2)
    assert others.floor == pytest.approx(ours.floor)


def test_a_posterior_of_another_controller_is_refused(advice: Advice) -> None:
    with pytest.raises(ValueError, match="3 channels"):
        PolarizationTracker(
            advice.posterior, {}, dict.fromkeys(VOLTAGES[:3], (-5.0, 5.0)), now_s=0.0
        )


def test_a_setting_without_all_channels_is_refused(advice: Advice) -> None:
    with pytest.raises(KeyError):
        PolarizationTracker(advice.posterior, {"v1": 0.0}, LIMITS, now_s=0.0)
