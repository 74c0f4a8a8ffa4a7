from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from calibration.trial_counts import observe

CLICKS = [[40, 2, 20, 22], [1, 39, 19, 21], [18, 23, 37, 4], [21, 20, 3, 38]]


def trial(**told: Any) -> FrozenTrial:
    created = create_trial(
        value=0.1,
        params={"v1": 1.5, "v2": -2.0},
        distributions={name: FloatDistribution(-5, 5) for name in ("v1", "v2")},
        user_attrs=told,
    )
    created.number = 0
    return created


def test_clicks_are_four_binomials() -> None:
    seen, _ = observe([trial(clicks=CLICKS)], ("v1", "v2"))

    assert seen.drives.tolist() == [[1.5, -2.0]]
    assert seen.trials.tolist() == [[82, 82, 82, 82]]
    assert seen.errors.tolist() == [[3, 44, 41, 7]]
    assert seen.reading.tolist() == np.eye(4).tolist()
    assert seen.cost == np.sum(CLICKS)


def test_clicks_of_alike_bases_are_two_binomials() -> None:
    alike = np.array(CLICKS) * np.kron(np.eye(2, dtype=int), np.ones((2, 2), dtype=int))

    seen, _ = observe([trial(clicks=alike.tolist(), photons=300)], ("v1", "v2"))

    assert seen.errors.tolist() == [[3, 7]]
    assert seen.reading.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert seen.cost == 300


def test_sifted_counts_of_z_and_x_are_what_clicks_of_alike_bases_are() -> None:
    seen, _ = observe([trial(sifted=[82, 82], errors=[3, 7])], ("v1", "v2"))

    assert seen.trials.tolist() == [[82, 82]]
    assert seen.errors.tolist() == [[3, 7]]
    assert seen.reading.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_a_pooled_qber_is_one_binomial() -> None:
    seen, _ = observe([trial(sifted=164, errors=10, photons=330)], ("v1", "v2"), z_share=0.9)

    assert (seen.trials.tolist(), seen.errors.tolist()) == ([[164]], [[10]])
    assert seen.reading.ravel() == pytest.approx([0.9, 0, 0, 0.1])
    assert seen.cost == 330


def test_a_study_may_mix_what_its_trials_tell() -> None:
    seen, _ = observe([trial(sifted=164, errors=10), trial(clicks=CLICKS)], ("v1", "v2"))

    assert seen.trials.tolist() == [[0, 0, 0, 0, 164], [82, 82, 82, 82, 0]]


def test_dark_trials_are_left_out_and_the_others_named() -> None:
    lit, dark = trial(sifted=4, errors=0), trial(sifted=[0, 0], errors=[0, 0], photons=9)
    lit.number, dark.number = 3, 2

    seen, numbers = observe([dark, lit], ("v1", "v2"))

    assert numbers == (3,)
    assert len(seen) == 1


def test_no_trials_are_no_observations() -> None:
    seen, numbers = observe([], ("v1", "v2"))

    assert (len(seen), numbers, seen.cost) == (0, (), 0)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({}, "lacks user attribute 'clicks', or 'sifted' and 'errors'"),
        ({"sifted": 10}, "lacks user attribute 'clicks', or 'sifted' and 'errors'"),
        ({"clicks": [[1, 2], [3, 4]]}, "4 x 4"),
        ({"clicks": "many"}, "trial 0: "),
        ({"sifted": 10, "errors": 11}, "no more errors than sifted"),
        ({"sifted": 10, "errors": -1}, "no more errors than sifted"),
        ({"sifted": float("nan"), "errors": 0}, "'sifted' and 'errors' must be counts"),
        ({"sifted": "ten", "errors": 0}, "'sifted' and 'errors' must be counts"),
        ({"sifted": [10, 10], "errors": 3}, "'sifted' and 'errors' must be counts"),
        ({"sifted": [9, 9, 9], "errors": [1, 1, 1]}, "'sifted' and 'errors' must be counts"),
        ({"sifted": 10, "errors": 1, "photons": 9}, "'photons' must be the number of detections"),
        ({"sifted": 10, "errors": 1, "photons": "20"}, "'photons' must be the number"),
    ],
)
def test_a_malformed_trial_gets_one_clear_complaint(told: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        observe([trial(**told)], ("v1", "v2"))


def test_a_trial_without_a_drive_is_named() -> None:
    with pytest.raises(ValueError, match="trial 0 has no value for v3, v4"):
        observe([trial(clicks=CLICKS)], ("v1", "v2", "v3", "v4"))


def test_ages_count_from_the_newest_trial() -> None:
    told = [trial(clicks=CLICKS, time_s=time_s) for time_s in (5.0, 9.0, 7.0)]

    seen, _ = observe(told, ("v1", "v2"), is_dated=True)

    assert seen.age_s.tolist() == [4, 0, 2]
