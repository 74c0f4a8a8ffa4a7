import json

import numpy as np
import pytest

from benchmarks import outer
from benchmarks.outer_twin import OuterTwin
from benchmarks.rivals import key_rate as rivals
from benchmarks.run import load_task
from benchmarks.tasks import outer_link
from calibration.measured_key import measured_key_rate


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "SETTINGS", 10)
    monkeypatch.setattr(outer_link, "MOST_SETTINGS", 12)


def test_the_task_is_on_offer() -> None:
    assert load_task("outer").VERSION == outer.VERSION


@pytest.mark.usefixtures("short")
def test_every_method_runs_and_its_rows_are_json() -> None:
    methods = list(outer.METHODS)

    rows = outer.run(range(1, 2), methods, ["lossy"])

    left_out = {line.split()[0] for line in outer.left_out(methods, ["lossy"])}
    assert {row["method"] for row in rows} == set(methods) - left_out
    json.dumps(rows, allow_nan=False)


@pytest.mark.usefixtures("short")
def test_the_same_seeds_give_the_same_figures() -> None:
    def figures() -> list[dict[str, object]]:
        rows = outer.run(range(1), ["ours"], ["coupled"])
        return [row for row in rows if row["metric"] != "suggestion_ms"]

    assert figures() == figures()


@pytest.mark.parametrize("seed", range(4))
def test_no_setting_beats_the_best_one(seed: int) -> None:
    twin, rng = OuterTwin(seed), np.random.default_rng(seed)
    best, rate = twin.best
    near = np.clip(
        best + 0.02 * rng.normal(size=(50, 7)) * np.ptp(twin.limits, axis=0), *twin.limits
    )

    assert rate > 0
    assert max(map(twin.key_rate, [*near, *rng.uniform(*twin.limits, (50, 7))])) <= rate * 1.001


def test_the_counts_tell_the_true_key_rate() -> None:
    twin = OuterTwin(5)
    best, rate = twin.best

    measured = measured_key_rate(twin.measure(best, 3e6), twin.mean_photons(best))

    assert measured.value == pytest.approx(rate, abs=4 * np.sqrt(measured.variance))
