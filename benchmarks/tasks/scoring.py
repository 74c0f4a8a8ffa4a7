"""From runs to figures: when a threshold was reached for good, what claims were worth, how sure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.cases import Scoring
from benchmarks.tasks.link import Step

Array = NDArray[np.float64]
Row = dict[str, Any]


class Resampling(Protocol):
    """How the interval of a median is found."""

    @property
    def bootstrap(self) -> int:
        """Resamplings behind it."""
        ...

    @property
    def confidence(self) -> float:
        """Its confidence, two-sided."""
        ...


@dataclass(frozen=True)
class Trace:
    """One run of a method.

    Attributes:
        steps: What was recommended, in order; at least one.
        suggestion_s: Processor time before each exposure.
    """

    steps: Sequence[Step]
    suggestion_s: Sequence[float]

    def reached(self, threshold: float) -> Step | None:
        """Tell the first step from which the excess stays below a threshold to the end."""
        above = [number for number, step in enumerate(self.steps) if step.excess >= threshold]
        first = above[-1] + 1 if above else 0
        return self.steps[first] if first < len(self.steps) else None

    def claim(self, excess: float) -> Step | None:
        """Tell the first step at which no more than an excess is claimed."""
        return next((step for step in self.steps if step.excess_q90 < excess), None)


def figures(traces: Sequence[Trace], scoring: Scoring, bound: float | None) -> Iterator[Row]:
    """Compute the figures of one method on one case.

    Args:
        traces: Its runs, one per seed.
        scoring: How they are judged.
        bound: Median photons times excess that no method undercuts, or None.
    """
    for name, threshold in scoring.thresholds.items():
        least = None if bound is None else bound / threshold
        yield from reaching(traces, scoring, name, bound=least)
    yield share("failed_starts", [trace.steps[-1].excess > scoring.failed for trace in traces])
    final = [trace.steps[-1].excess for trace in traces]
    yield figure("final_excess", "QBER", final, scoring)
    claims = [claim for t in traces if (claim := t.claim(scoring.claimed)) is not None]
    if claims:
        yield share("claims_true", [claim.excess < scoring.claimed for claim in claims])
        spent = [float(claim.photons) for claim in claims]
        yield figure("photons_to_claim", "photons", spent, scoring)
    yield from thinking(traces)


def reaching(
    traces: Sequence[Trace],
    scoring: Scoring,
    name: str,
    *,
    bound: float | None,
    currency: str = "photons",
) -> Iterator[Row]:
    """Describe what it took to reach a threshold for good.

    Args:
        traces: Runs of one method on one case.
        scoring: How they are judged.
        name: Of the threshold.
        bound: Least median cost, or None.
        currency: What the cost is counted in.
    """
    reached = [trace.reached(scoring.thresholds[name]) for trace in traces]
    spent = [np.inf if step is None else float(step.photons) for step in reached]
    yield figure(f"{currency}_to_{name}", currency, spent, scoring, bound=bound)
    settings = [np.inf if step is None else float(step.settings) for step in reached]
    yield figure(f"settings_to_{name}", "settings", settings, scoring)
    seconds = [np.inf if step is None else step.seconds for step in reached]
    yield figure(f"seconds_to_{name}", "s", seconds, scoring)
    yield share(f"missed_{name}", [step is None for step in reached])


def thinking(traces: Sequence[Trace]) -> Iterator[Row]:
    """Describe the processor time of all suggestions, if any was made."""
    spent_ms = 1e3 * np.concatenate([trace.suggestion_s for trace in traces])
    if len(spent_ms):
        yield figure("suggestion_ms", "ms", spent_ms.tolist())


def ratios(ours: Sequence[Trace], theirs: Sequence[Trace], scoring: Scoring) -> Iterator[Row]:
    """Compare two methods, seed by seed: how many times our photons theirs are.

    A start that only one of them finishes counts as infinite or as 0; one that neither finishes
    does not count.
    """
    for name, threshold in scoring.thresholds.items():
        values: list[float] = []
        for trace, rival in zip(ours, theirs, strict=True):
            mine, other = trace.reached(threshold), rival.reached(threshold)
            if mine is None and other is None:
                continue
            if mine is None:
                values.append(0.0)
            else:
                values.append(np.inf if other is None else other.photons / max(mine.photons, 1))
        if values:
            yield figure(f"times_ours_to_{name}", "ratio", values, scoring)


def figure(
    metric: str,
    unit: str,
    values: Sequence[float],
    scoring: Resampling | None = None,
    *,
    bound: float | None = None,
) -> Row:
    """Describe values by median, mean and 90 % quantile; what is infinite is None.

    Args:
        metric: What they are.
        unit: Of the values.
        values: One per run, possibly infinite.
        scoring: For a bootstrap interval of the median; without it there is none.
        bound: Least median possible, or None.
    """
    array = np.asarray(values, dtype=float)
    median, p90 = np.quantile(array, [0.5, 0.9], method="higher")
    row = {
        "metric": metric,
        "unit": unit,
        "n": len(array),
        "median": finite(median),
        "mean": finite(np.mean(array)),
        "p90": finite(p90),
        "bound": bound,
    }
    if scoring is not None:
        row["low"], row["high"] = _interval(array, scoring)
    return row


def share(metric: str, hits: Sequence[bool]) -> Row:
    """Describe how often something happened."""
    value = float(np.mean(hits))
    return {
        "metric": metric,
        "unit": "share",
        "n": len(hits),
        "median": value,
        "mean": value,
        "p90": value,
        "bound": None,
    }


def finite(value: Any) -> float | None:
    """Turn what is infinite into None, for JSON."""
    return float(value) if np.isfinite(value) else None


def _interval(values: Array, scoring: Resampling) -> tuple[float | None, float | None]:
    """Bootstrap the median; the same resamplings for every figure of as many runs."""
    rng = np.random.default_rng(1)
    chosen = rng.integers(len(values), size=(scoring.bootstrap, len(values)))
    medians = np.quantile(values[chosen], 0.5, axis=1, method="higher")
    tail = (1 - scoring.confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail], method="higher")
    return finite(low), finite(high)
