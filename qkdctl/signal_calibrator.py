"""Runs the stages before the alignment, and remembers over restarts what they left in force."""

from collections.abc import Callable, Mapping
from typing import Any

from calibration.account import Account
from calibration.bench import UnusableWindowError, refuse_unusable
from calibration.metering import Progress
from calibration.pauses import Pauses
from calibration.signal_run import SignalRun
from qkdctl.events import estimate_dict
from qkdctl.history import Calibrated, History
from qkdctl.signal_bench import put_in_force
from qkdctl.signal_stages import (
    OUTER_LOOPS,
    SIGNAL_STAGES,
    Ground,
    budget_of,
    field_of,
    signal_result_dict,
)
from qkdctl.testbed import OpenTestbed

CHECK_PHOTONS = 20_000
"""Detections by which an alignment is checked: enough to tell its QBER to some tenths of a
percentage point."""


class SignalCalibrator:
    """The stages before the alignment of one link.

    Args:
        bench: The opened testbed.
        history: The record, opened before anything is asked for.
        now: Tells seconds since the epoch.
        on_progress: Told after every look.
    """

    def __init__(
        self,
        bench: OpenTestbed,
        history: History,
        now: Callable[[], float],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._bench = bench
        self._history = history
        self._now = now
        self._on_progress = on_progress
        self._calibrated: dict[str, Calibrated] = {}
        self._found_good: set[str] = set()
        self._is_at_rest = False

    async def recall(self) -> None:
        """Read from the record what is to be in force, and put it there."""
        self._calibrated = await self._history.calibrated()
        await self.restore()

    def note_rest(self) -> None:
        """Take note that all outputs were taken to rest."""
        self._is_at_rest = True

    async def restore_after_rest(self) -> None:
        """Put what stages left in force back, if outputs were taken to rest since."""
        if self._is_at_rest:
            await self.restore()

    async def restore(self) -> None:
        """Put back what the stages of the testbed file left in force.

        Raises:
            InstrumentError: An instrument failed.
        """
        for stage, calibrated in self._calibrated.items():
            if getattr(self._bench.config.stages, field_of(stage), None) is not None:
                await put_in_force(self._bench, calibrated.setting)
        self._is_at_rest = False

    async def run(self, name: str, pauses: Pauses, *, only_if_needed: bool) -> dict[str, Any]:
        """Run one stage, unless ``pauses`` hold it up; return its result as a JSON-able object.

        Raises:
            InstrumentError: The knobs could not be read.
            CeilingError: There was too much light.
            asyncio.CancelledError: What was in force before is so again.
        """
        known = self._calibrated.get(name)
        ground = Ground(
            self._bench,
            start=await self._bench.read_setting(),
            last=known.figure if known else None,
            is_bias_known="bias" in self._calibrated or "bias" in self._found_good,
        )
        account = Account(
            name,
            f"{name}@{self._now():.3f}",
            budget_of(name, self._bench.config),
            self._history,
            self._on_progress,
            pauses,
        )
        build = {**SIGNAL_STAGES, **OUTER_LOOPS}[name]
        run = SignalRun(build(ground), account)
        result = await run.run(only_if_needed=only_if_needed)
        if result.outcome == "skipped":
            self._found_good.add(name)
        if result.outcome == "accepted" and result.after is not None:
            await self.keep(name, result.setting, result.after.value)
        return signal_result_dict(result)

    async def keep(self, name: str, setting: Mapping[str, float], figure: float | None) -> None:
        """Remember what a stage left in force, and its figure then."""
        self._calibrated.pop(name, None)  # what was left in force last is put back last
        self._calibrated[name] = Calibrated(self._now(), dict(setting), figure)
        await self._history.keep_calibrated(name, setting, figure)

    async def keep_moved(self, name: str, setting: Mapping[str, float]) -> None:
        """Remember where a tracker has taken what a stage left in force; its figure stays."""
        known = self._calibrated.get(name)
        if known is None:
            return
        moved = dict(known.setting) | dict(setting)
        self._calibrated[name] = Calibrated(known.time_s, moved, known.figure)
        await self._history.keep_calibrated(name, moved, known.figure)

    async def check_alignment(
        self, name: str, setting: Mapping[str, float] | None
    ) -> dict[str, Any] | None:
        """Return the result of an aligning stage that need not be run, or None if it must be.

        It need not while the QBER, known to the wanted excess, is no more than that above what it
        was when the stage was run last. Both were counted: their intervals would add up.

        Args:
            name: Name of the stage.
            setting: The setting known good, or None.
        """
        known = self._calibrated.get(name)
        if known is None or known.figure is None or setting is None:
            return None
        window = await self._bench.measure(CHECK_PHOTONS)
        try:
            refuse_unusable(window)
        except UnusableWindowError:
            return None
        qber = window.signal.qber
        allowed = self._bench.config.alignment.target_excess
        if max(qber.value - known.figure, qber.high - qber.value) > allowed:
            return None
        return {
            "stage": name,
            "outcome": "skipped",
            "reason": (
                f"still good: QBER {qber.value:.2%} ({qber.low:.2%} to {qber.high:.2%}), "
                f"{known.figure:.2%} when it was aligned"
            ),
            "qber_before": estimate_dict(qber),
            "photons": window.photons,
            "photons_by_phase": {"before": window.photons},
            "duration_s": window.duration_s,
            "setting": dict(setting),
        }
