"""What the trials of a study tell: drives, counts, and what they cost.

A complete trial tells its counts in user attributes, in one of these ways:

- ``clicks``: 4 x 4, sent state by detector, both in the order H, V, D, A; zero where the receiver
  does not keep counts whose bases differ;
- ``sifted`` and ``errors``, two numbers each, Z and X: counts of alike bases, and the wrong ones;
- ``sifted`` and ``errors``, one number each: both bases taken together, the pooled QBER.

``photons`` says how many detections it took to get these, which is more than the counts where some
are discarded; ``time_s`` when that was.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from calibration.clicks import Clicks
from calibration.observations import POOLED, XX, ZZ, Observations, readings

Array = NDArray[np.float64]

CLICKS_ATTRIBUTE = "clicks"
"""User attribute of a complete trial: counts, 4 x 4, sent state by detector (H, V, D, A)."""

SIFTED_ATTRIBUTE, ERRORS_ATTRIBUTE = "sifted", "errors"
"""User attributes in its stead: counts of alike bases, and the wrong ones, as ``[Z, X]`` or both
bases together."""

PHOTONS_ATTRIBUTE = "photons"
"""User attribute of a trial: detections that it cost; by default as many as it tells."""

TIME_ATTRIBUTE = "time_s"
"""User attribute of a trial, needed only with a drift: when it was measured, s, any clock."""

ROWS_BY_SIZE = {1: [POOLED], 2: [ZZ, XX]}
"""Which numbers ``sifted`` and ``errors`` are."""


def observe(
    trials: Iterable[FrozenTrial],
    drives: Sequence[str],
    *,
    z_share: float = 0.5,
    is_dated: bool = False,
) -> tuple[Observations, tuple[int, ...]]:
    """Collect the counts of trials that saw light.

    Args:
        trials: Complete trials.
        drives: Names of the parameters that are drives.
        z_share: Share of the counts of basis Z where both are taken together.
        is_dated: Whether every trial has to say when it was measured.

    Returns:
        The observations, with the numbers only that any trial tells (without trials, with those of
        a receiver that tells all), and the trials' numbers.

    Raises:
        ValueError: A trial lacks a drive, its counts or its time, or they are malformed.
    """
    rows = []
    for trial in trials:
        counts, errors, photons = _counts(trial)
        if counts.sum() > 0:
            time_s = time_s_of(trial) if is_dated else 0.0
            rows.append((drives_of(trial, drives), counts, errors, photons, time_s, trial.number))
    reading = readings(z_share)
    columns = list(zip(*rows, strict=True)) or [()] * 6
    trials_seen = np.array(columns[1], dtype=float).reshape(-1, len(reading))
    errors_seen = np.array(columns[2], dtype=float).reshape(-1, len(reading))
    is_told = trials_seen.any(axis=0) if rows else np.arange(len(reading)) != POOLED
    times_s = np.array(columns[4], dtype=float)
    observations = Observations(
        drives=np.array(columns[0], dtype=float).reshape(-1, len(drives)),
        trials=trials_seen[:, is_told],
        errors=errors_seen[:, is_told],
        age_s=times_s.max(initial=-np.inf) - times_s,
        reading=reading[is_told],
        photons=np.array(columns[3], dtype=float),
    )
    return observations, columns[5]


def drives_of(trial: FrozenTrial, names: Sequence[str]) -> list[float]:
    """Read a trial's drives, by name; raise ValueError where one is missing."""
    missing = [name for name in names if name not in trial.params]
    if missing:
        raise ValueError(f"trial {trial.number} has no value for {', '.join(missing)}")
    return [float(trial.params[name]) for name in names]


def time_s_of(trial: FrozenTrial) -> float:
    """Read when a trial was measured, s; raise ValueError where it does not say."""
    try:
        return float(trial.user_attrs[TIME_ATTRIBUTE])
    except KeyError:
        raise ValueError(f"trial {trial.number} lacks user attribute 'time_s'") from None


def _counts(trial: FrozenTrial) -> tuple[Array, Array, float]:
    """Read counts and errors of every number, shape ``(5,)``, and the detections they cost."""
    counts, errors = np.zeros(5), np.zeros(5)
    told = trial.user_attrs
    if CLICKS_ATTRIBUTE in told:
        n, k = _clicks(trial).by_basis()
        counts[:4], errors[:4] = n.ravel(), k.ravel()
    elif SIFTED_ATTRIBUTE in told and ERRORS_ATTRIBUTE in told:
        rows, sifted, wrong = _sifted(trial)
        counts[rows], errors[rows] = sifted, wrong
    else:
        raise ValueError(
            f"trial {trial.number} is complete but lacks user attribute 'clicks', or 'sifted' and "
            "'errors' in its stead"
        )
    photons = told.get(PHOTONS_ATTRIBUTE, counts.sum())
    is_number = isinstance(photons, int | float) and np.isfinite(photons)
    if not is_number or photons < counts.sum():
        raise ValueError(
            f"trial {trial.number}: 'photons' must be the number of detections that its "
            f"{counts.sum():.0f} counts cost, not {photons!r}"
        )
    return counts, errors, float(photons)


def _clicks(trial: FrozenTrial) -> Clicks:
    try:
        return Clicks(np.asarray(trial.user_attrs[CLICKS_ATTRIBUTE], dtype=np.int64))
    except (TypeError, ValueError) as exc:
        raise ValueError(f"trial {trial.number}: {exc}") from exc


def _sifted(trial: FrozenTrial) -> tuple[list[int], Array, Array]:
    """Read which numbers are told, and their counts and errors."""
    try:
        sifted = np.atleast_1d(np.asarray(trial.user_attrs[SIFTED_ATTRIBUTE], dtype=float))
        wrong = np.atleast_1d(np.asarray(trial.user_attrs[ERRORS_ATTRIBUTE], dtype=float))
        is_sound = sifted.shape == wrong.shape in {(1,), (2,)}
    except (TypeError, ValueError):
        is_sound = False
    if not is_sound or not np.all((wrong >= 0) & (wrong <= sifted) & np.isfinite(sifted)):
        raise ValueError(
            f"trial {trial.number}: 'sifted' and 'errors' must be counts of both bases together, "
            f"or [Z, X] each, with no more errors than sifted counts"
        )
    return ROWS_BY_SIZE[len(sifted)], sifted, wrong
