import numpy as np
import pytest

from calibration.tracking.loss_of_lock import RATIOS, LossOfLock


def test_a_qber_at_its_limit_raises_no_alarm_however_long_it_lasts() -> None:
    rng = np.random.default_rng(1)
    highest = {}
    for trials in (30, 3000, 300_000):
        test = LossOfLock()
        highest[trials] = 0.0
        for errors in rng.binomial(trials, 0.01, size=10_000):
            test.update(trials, errors, 0.01)
            highest[trials] = max(highest[trials], test.score)

    assert max(highest.values()) < 0.8


def test_the_likelihood_ratios_have_mean_one_at_the_limit() -> None:
    rng = np.random.default_rng(2)
    errors = rng.binomial(200, 0.02, size=200_000)
    ratios = []
    for k in range(60):
        test = LossOfLock(np.full(len(RATIOS), 100.0))
        test.update(200, k, 0.02)
        ratios.append(np.exp(test.sums - 100.0))

    mean = np.array(ratios)[errors].mean(axis=0)
    assert mean[0] == pytest.approx(1, rel=0.1)
    assert np.all(mean < 1.5)


@pytest.mark.parametrize(("qber", "within"), [(0.5, 1), (0.1, 1), (0.03, 2), (0.02, 6)])
def test_a_risen_qber_is_noticed_within_windows(qber: float, within: int) -> None:
    test = LossOfLock()
    for _ in range(within):
        test.update(2000, round(2000 * qber), 0.01)

    assert test.score >= 1


def test_evidence_fades_once_the_qber_is_back() -> None:
    test = LossOfLock()
    test.update(1000, 20, 0.01)
    risen = test.score
    for _ in range(20):
        test.update(1000, 5, 0.01)

    assert 0 < risen < 1
    assert test.score == 0


def test_a_limit_of_one_half_is_never_exceeded() -> None:
    test = LossOfLock()
    for _ in range(100):
        test.update(1000, 700, 0.7)

    assert test.score < 1
