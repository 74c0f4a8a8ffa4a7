import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study
from optuna.trial import TrialState

from benchmarks.twin import HALF_WAVE_V, Twin
from calibration.clicks import Clicks
from calibration.inversion import exchanged
from calibration.posterior import RotationPosterior
from calibration.recollection import Recollection
from calibration.sampler import GROWTH, RotationSampler, StopWhenAligned

VOLTAGES = ("v1", "v2", "v3", "v4")
SPACE: dict[str, BaseDistribution] = {
    **{name: FloatDistribution(-5, 5) for name in VOLTAGES},
    "n_photons": IntDistribution(10, 100_000, log=True),
}


def make_sampler(**options: Any) -> RotationSampler:
    return RotationSampler(SPACE, half_wave_v=HALF_WAVE_V, **{"seed": 3, **options})


def make_study(sampler: RotationSampler) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler)


def volts(params: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.array([params[name] for name in VOLTAGES])


def measure(study: Study, twin: Twin, time_s: float | None = None) -> dict[str, Any]:
    """Run one trial to its end and return what was suggested."""
    trial = study.ask(SPACE)
    table = twin.measure(volts(trial.params), trial.params["n_photons"])
    trial.set_user_attr("clicks", table.tolist())
    if time_s is not None:
        trial.set_user_attr("time_s", time_s)
    study.tell(trial, Clicks(table).qber.value)
    return dict(trial.params)


def tell_pooled(study: Study, twin: Twin) -> dict[str, Any]:
    """Run one trial of which no more than the QBER of both bases together is told."""
    trial = study.ask(SPACE)
    clicks = Clicks(twin.measure(volts(trial.params), trial.params["n_photons"]))
    trial.set_user_attr("sifted", clicks.sifted)
    trial.set_user_attr("errors", clicks.errors)
    trial.set_user_attr("photons", clicks.photons)
    study.tell(trial, clicks.qber.value)
    return dict(trial.params)


def refed(study: Study, sampler: RotationSampler) -> Study:
    """Feed a study's trials to a fresh study, as after a restart."""
    fresh = make_study(sampler)
    fresh.add_trials(study.trials)
    return fresh


@pytest.fixture(scope="module")
def aligned() -> tuple[RotationSampler, Study, Twin]:
    twin, sampler = Twin(4), make_sampler()
    study = make_study(sampler)
    for _ in range(14):
        measure(study, twin)
    return sampler, study, twin


def test_a_random_fibre_is_aligned_within_a_few_thousand_photons(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    sampler, study, twin = aligned

    advice = sampler.advice(study)

    assert twin.excess(volts(advice.setting)) < 0.002
    assert advice.is_within(0.002)
    assert advice.photons < 10_000
    assert advice.modes == 1
    assert advice.predicted_qber == pytest.approx(twin.floor, abs=0.004)


def test_a_pooled_qber_is_enough_to_align_a_random_fibre() -> None:
    twin, sampler = Twin(4), make_sampler()
    study = make_study(sampler)
    while len(study.trials) < 5 or not sampler.advice(study).is_within(0.02):
        tell_pooled(study, twin)

    assert twin.excess(volts(sampler.advice(study).setting)) < 0.04
    assert len(study.trials) < 25
    assert sampler.advice(study).photons < 15_000


def test_dwell_counts_detections_that_are_not_told() -> None:
    twin, study, spent = Twin(4), make_study(make_sampler(first_photons=1000)), 0
    for _ in range(6):
        asked = tell_pooled(study, twin)["n_photons"]
        assert asked == max(1000, round(GROWTH / 2 * spent))
        spent += study.trials[-1].user_attrs["photons"]


def test_the_mode_of_pooled_counts_is_followed_from_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def advised() -> dict[str, float]:
        sampler, twin = make_sampler(), Twin(4)
        study = make_study(sampler)
        for _ in range(5):
            tell_pooled(study, twin)
        return sampler.advice(study).setting

    followed = advised()
    monkeypatch.setattr("calibration.sampler.FRESH_START_EVERY", 4)

    assert advised() == followed


@dataclass(frozen=True)
class Confined:
    """How a bench whose limits hardly reach alignment was aligned."""

    inverted: tuple[str, ...]
    travel_v: float
    qber: float
    predicted_qber: float
    posterior: RotationPosterior
    table: NDArray[np.int64]
    setting: NDArray[np.float64]


def align_confined(*, may_invert: bool) -> Confined:
    twin = Twin(2)
    space: dict[str, BaseDistribution] = {
        **{name: FloatDistribution(-0.8, 0.8) for name in VOLTAGES},
        "n_photons": IntDistribution(10, 100_000, log=True),
    }
    sampler = RotationSampler(space, half_wave_v=HALF_WAVE_V, seed=2, may_invert=may_invert)
    study = make_study(sampler)
    for _ in range(8):
        trial = study.ask(space)
        table = twin.measure(volts(trial.params), trial.params["n_photons"])
        trial.set_user_attr("clicks", table.tolist())
        study.tell(trial, 0.1)
    advice = sampler.advice(study)
    setting = volts(advice.setting)
    table = exchanged(twin.measure(setting, 20_000), advice.inverted)
    return Confined(
        inverted=advice.inverted,
        travel_v=float(np.abs(setting).sum()),
        qber=Clicks(table).qber.value,
        predicted_qber=advice.predicted_qber,
        posterior=RotationPosterior.from_dict(advice.posterior),
        table=table,
        setting=setting,
    )


@pytest.fixture(scope="module")
def confined() -> Confined:
    return align_confined(may_invert=True)


def test_inverted_bits_align_a_bench_whose_limits_do_not(confined: Confined) -> None:
    stubborn = align_confined(may_invert=False)

    assert stubborn.qber > 0.04
    assert stubborn.inverted == ()
    assert confined.qber < 0.02
    assert confined.inverted == ("Z",)
    assert confined.travel_v < stubborn.travel_v


def test_the_prediction_is_that_of_the_inverted_bits(confined: Confined) -> None:
    predicted = confined.posterior.chain.error_probability(
        confined.posterior.modes[:1], confined.setting[None]
    )

    n, k = Clicks(confined.table).by_basis()
    assert confined.predicted_qber == pytest.approx(confined.qber, abs=0.01)
    assert np.abs(predicted[0, 0] - k / n).max() < 0.1


def test_a_pooled_qber_tells_only_both_bases_inverted_alike() -> None:
    twin, sampler = Twin(2), make_sampler(may_invert=True)
    study = make_study(sampler)
    inverted = set()
    for _ in range(5):
        tell_pooled(study, twin)
        inverted.add(sampler.advice(study).inverted)

    assert inverted <= {(), ("Z", "X")}


def test_a_share_of_counts_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="z_share is 1, but must lie between 0 and 1"):
        make_sampler(z_share=1)


def test_advice_counts_the_photons_of_all_trials(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    sampler, study, _ = aligned

    total = sum(np.sum(trial.user_attrs["clicks"]) for trial in study.trials)

    assert sampler.advice(study).photons == total
    assert sampler.advice(study).settings == 14


def test_asked_about_what_it_recommends_the_sampler_says_the_same(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    sampler, study, _ = aligned
    advice = sampler.advice(study)

    asked = sampler.advice_on(study, advice.setting)

    assert asked.setting == pytest.approx(advice.setting)
    assert asked.excess_mean == pytest.approx(advice.excess_mean, rel=0.3)
    assert asked.excess_q90 == pytest.approx(advice.excess_q90, rel=0.4)


def test_asked_about_another_setting_the_sampler_tells_what_that_is_worth(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    sampler, study, twin = aligned
    away = {name: value + 0.3 for name, value in sampler.advice(study).setting.items()}

    asked = sampler.advice_on(study, away)

    assert asked.setting == pytest.approx(away)
    assert asked.excess_mean == pytest.approx(twin.excess(volts(away)), rel=0.3)


def test_the_stored_posterior_predicts_what_the_advice_does(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    sampler, study, _ = aligned
    advice = sampler.advice(study)

    posterior = RotationPosterior.from_dict(json.loads(json.dumps(advice.posterior)))

    samples = posterior.samples(np.random.default_rng(1), 400)
    excess = posterior.chain.excess(samples, volts(advice.setting)[None])
    assert excess.mean() == pytest.approx(advice.excess_mean, rel=0.5)


def test_dwell_grows_with_the_photons_counted_so_far(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    _, study, _ = aligned
    counted = 0
    for trial in study.trials:
        assert trial.params["n_photons"] == max(100, round(GROWTH * counted))
        counted += int(np.sum(trial.user_attrs["clicks"]))


@pytest.mark.parametrize("done", [1, 3, 7])
def test_a_new_sampler_goes_on_where_the_former_one_stopped(done: int) -> None:
    twin, sampler = Twin(5), make_sampler()
    study = make_study(sampler)
    for _ in range(done):
        measure(study, twin)
    another = make_sampler()
    resumed = refed(study, another)

    assert study.ask(SPACE).params == resumed.ask(SPACE).params
    assert sampler.advice(study) == another.advice(resumed)


def test_the_same_seed_suggests_the_same_settings() -> None:
    twins, studies = (Twin(5), Twin(5)), (make_study(make_sampler()), make_study(make_sampler()))

    once, again = (
        [measure(study, twin) for _ in range(6)] for study, twin in zip(studies, twins, strict=True)
    )

    assert once == again


def test_another_seed_suggests_other_settings() -> None:
    studies = [make_study(make_sampler(seed=seed)) for seed in (1, 2)]

    second = [[study.ask(SPACE).params for _ in range(2)][1] for study in studies]

    assert second[0] != second[1]


def test_failed_and_unfinished_trials_teach_nothing() -> None:
    twin, sampler = Twin(6), make_sampler()
    study = make_study(sampler)
    for _ in range(4):
        measure(study, twin)
    before = sampler.advice(study)

    failed = study.ask(SPACE)
    failed.set_user_attr("clicks", [[9] * 4] * 4)
    study.tell(failed, state=TrialState.FAIL)
    study.ask(SPACE)

    assert sampler.advice(study) == before


def test_dark_trials_teach_nothing() -> None:
    sampler = make_sampler()
    study = make_study(sampler)
    trial = study.ask(SPACE)
    trial.set_user_attr("clicks", np.zeros((4, 4), dtype=int).tolist())
    study.tell(trial, 0.5)

    study.ask(SPACE)
    with pytest.raises(ValueError, match="no complete trial with counts"):
        sampler.advice(study)


def test_trials_asked_at_once_differ() -> None:
    study = make_study(make_sampler())
    for _ in range(4):
        measure(study, Twin(7))

    first, second = study.ask(SPACE), study.ask(SPACE)

    assert first.params != second.params


def test_the_first_setting_is_the_middle_or_the_given_start() -> None:
    start = {"v1": 1.0, "v2": -1.0, "v3": 2.0, "v4": 0.5}

    assert volts(make_study(make_sampler()).ask(SPACE).params).tolist() == [0, 0, 0, 0]
    chosen = make_study(make_sampler(start=start)).ask(SPACE).params
    assert {name: chosen[name] for name in VOLTAGES} == start


def test_suggestions_keep_to_limits_and_resolution() -> None:
    space: dict[str, BaseDistribution] = {
        name: FloatDistribution(-1, 4, step=0.25) for name in VOLTAGES
    }
    sampler, twin = RotationSampler(space, half_wave_v=2.5, seed=1), Twin(8)
    study = make_study(sampler)
    for _ in range(6):
        trial = study.ask(space)
        setting = volts(trial.params)
        assert np.all((setting >= -1) & (setting <= 4))
        assert np.allclose(setting * 4, np.round(setting * 4))
        trial.set_user_attr("clicks", twin.measure(setting, 200).tolist())
        study.tell(trial, 0.1)

    advised = np.array(list(sampler.advice(study).setting.values()))
    assert np.allclose(advised * 4, np.round(advised * 4))


def test_a_drifting_fibre_needs_the_time_of_every_trial() -> None:
    study = make_study(make_sampler(drift_rad=0.1))
    measure(study, Twin(9))

    with pytest.raises(ValueError, match="time_s"):
        study.ask(SPACE)


def test_old_trials_weigh_less_under_drift() -> None:
    twin, sampler = Twin(10), make_sampler(drift_rad=0.1)
    study = make_study(sampler)
    for second in range(6):
        trial = study.ask(SPACE)
        trial.set_user_attr("time_s", float(second))
        trial.set_user_attr("clicks", twin.measure(volts(trial.params), 1000).tolist())
        study.tell(trial, 0.1)

    assert sampler.advice(study).settings == 6


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [({}, "lacks user attribute 'clicks'"), ({"clicks": [[1, 2], [3, 4]]}, "4 x 4")],
)
def test_a_complete_trial_without_proper_counts_is_named(
    attributes: dict[str, Any], complaint: str
) -> None:
    study = make_study(make_sampler())
    trial = study.ask(SPACE)
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    study.tell(trial, 0.1)

    with pytest.raises(ValueError, match=complaint):
        study.ask(SPACE)


@pytest.mark.parametrize(
    "space",
    [
        {"v1": FloatDistribution(0, 1)},
        {**SPACE, "more": IntDistribution(1, 2)},
        {**SPACE, "state": CategoricalDistribution(["H"])},
        {name: FloatDistribution(1e-3, 1, log=True) for name in VOLTAGES},
    ],
    ids=["too-few-voltages", "two-dwells", "a-choice", "logarithmic-voltages"],
)
def test_a_space_of_another_kind_is_refused(space: dict[str, BaseDistribution]) -> None:
    with pytest.raises(ValueError, match=r"channels|one or more|logarithmic"):
        RotationSampler(space, half_wave_v=2.5)


def objective_on(twin: Twin) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        setting = np.array([trial.suggest_float(name, -5, 5) for name in VOLTAGES])
        photons = trial.suggest_int("n_photons", 10, 100_000, log=True)
        trial.suggest_categorical("operator", ["anyone"])
        table = twin.measure(setting, photons)
        trial.set_user_attr("clicks", table.tolist())
        return Clicks(table).qber.value

    return objective


def test_a_plain_study_stops_once_aligned() -> None:
    twin, sampler = Twin(11), make_sampler()
    study = make_study(sampler)

    study.optimize(objective_on(twin), n_trials=30, callbacks=[StopWhenAligned(sampler, 0.005)])

    assert 3 <= len(study.trials) < 30
    assert sampler.advice(study).is_within(0.005)
    assert twin.excess(volts(sampler.advice(study).setting)) < 0.02


def test_a_failed_measurement_does_not_end_a_study() -> None:
    sampler, measured = make_sampler(), objective_on(Twin(12))
    study = make_study(sampler)

    def objective(trial: optuna.Trial) -> float:
        value = measured(trial)
        if trial.number % 2 == 0:
            raise ConnectionError
        return value

    stop = StopWhenAligned(sampler, 0.005)
    study.optimize(objective, n_trials=10, callbacks=[stop], catch=ConnectionError)

    assert len(study.trials) == 10
    assert sampler.advice(study).settings == 5


@dataclass(frozen=True)
class Alignment:
    """How a study that stopped by itself went."""

    settings: int
    photons: int
    true_excess: float


TARGET_EXCESS = 0.002


@pytest.fixture(scope="module")
def alignments() -> list[Alignment]:
    done = []
    for seed in range(10):
        twin, sampler = Twin(seed), make_sampler(seed=seed)
        study = make_study(sampler)
        stop = StopWhenAligned(sampler, TARGET_EXCESS)
        study.optimize(objective_on(twin), n_trials=30, callbacks=[stop])
        advice = sampler.advice(study)
        done.append(Alignment(advice.settings, advice.photons, twin.excess(volts(advice.setting))))
    return done


def test_every_random_fibre_is_aligned(alignments: list[Alignment]) -> None:
    assert max(alignment.true_excess for alignment in alignments) < 0.005


def test_an_alignment_costs_few_photons(alignments: list[Alignment]) -> None:
    assert np.median([alignment.photons for alignment in alignments]) < 8000


def test_an_alignment_takes_few_settings(alignments: list[Alignment]) -> None:
    assert max(alignment.settings for alignment in alignments) < 20


def test_most_claims_of_nine_in_ten_are_true(alignments: list[Alignment]) -> None:
    true = [alignment.true_excess < TARGET_EXCESS for alignment in alignments]

    assert sum(true) >= 7


def test_what_is_recalled_designs_the_first_setting(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    sampler, study, _ = aligned
    posterior = RotationPosterior.from_dict(sampler.advice(study).posterior)
    warm = make_sampler(recalled=Recollection(posterior, 3600.0, 0.002))

    first = make_study(warm).ask(SPACE)

    assert not np.allclose(volts(first.params), 0.0)


def test_a_recollection_of_another_bench_is_given_up_and_its_counts_are_kept(
    aligned: tuple[RotationSampler, Study, Twin],
) -> None:
    sampler, study, _ = aligned
    posterior = RotationPosterior.from_dict(sampler.advice(study).posterior)
    warm, twin = make_sampler(recalled=Recollection(posterior, 3600.0, 0.002)), Twin(11)
    fresh = make_study(warm)
    for _ in range(13):
        measure(fresh, twin)

    advice = warm.advice(fresh)

    assert advice.settings == 13
    assert twin.excess(volts(advice.setting)) < 0.004


def test_a_study_goes_on_the_next_day_although_the_fibre_has_drifted() -> None:
    twin, sampler = Twin(4), make_sampler(drift_rad=0.002)
    study = make_study(sampler)
    for number in range(12):
        measure(study, twin, time_s=float(number))
    twin.drift(0.002, 8 * 3600.0)
    for number in range(6):
        measure(study, twin, time_s=8 * 3600.0 + number)

    advice = sampler.advice(study)

    assert advice.settings == 6
    assert twin.excess(volts(advice.setting)) < 0.004
    assert advice.excess_q90 < 0.03
