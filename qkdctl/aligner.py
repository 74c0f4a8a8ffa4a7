"""Runs the stage that aligns a link, and knows the latest good setting."""

from collections.abc import Callable, Mapping
from typing import Any

from calibration.inversion import composed
from calibration.polarization import Progress, StageResult
from calibration.trials import carry_through
from qkdctl.calibration_request import CalibrationRequest
from qkdctl.history import History
from qkdctl.signal_calibrator import SignalCalibrator
from qkdctl.stages import Experience, make_stage, result_dict
from qkdctl.studies import Studies, study_kind
from qkdctl.testbed import OpenTestbed

STUDIES_POOLED = 30
"""Accepted calibrations of a stage whose knowledge of the controller is pooled."""


class Aligner:
    """The aligning stage of one link.

    Args:
        bench: The opened testbed.
        history: The record, opened before anything is asked for.
        now: Tells seconds since the epoch.
        signal: Remembers figures of stages, and checks an alignment.
        on_progress: Told after every window.

    Attributes:
        setting: The latest setting known good, or None.
        posterior: What the estimator knew then, or None.
        known_after_loss: What a tracker still knew when it lost the lock; for the next alignment
            only, in the place of ``posterior``.
        studies: What its runs are recorded as.
    """

    def __init__(
        self,
        bench: OpenTestbed,
        history: History,
        now: Callable[[], float],
        signal: SignalCalibrator,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._bench = bench
        self._history = history
        self._now = now
        self._signal = signal
        self._on_progress = on_progress
        self.studies = Studies(history, now)
        self.setting: Mapping[str, float] | None = None
        self.posterior: Mapping[str, Any] | None = None
        self.known_after_loss: Mapping[str, Any] | None = None

    async def align(self, name: str, request: CalibrationRequest) -> dict[str, Any]:
        """Run the stage, or see that it is not needed; return its result as a JSON-able object.

        Raises:
            InstrumentError: The knobs could not be read.
            CeilingError: There was too much light.
            asyncio.CancelledError: What was in force before is so again.
        """
        if request.only_if_needed:
            skipped = await self._signal.check_alignment(name, self.setting)
            if skipped is not None:
                return skipped | {"inverted": list(self._bench.inverted)}
        result = await self._run(name, request)
        if result.outcome == "accepted":
            # Nothing is awaited in between: bits, setting and posterior belong together.
            self._bench.invert(composed(self._bench.inverted, result.inverted))
            await self.keep(result.setting, result.posterior)
            if result.posterior is not None:
                await self._history.add_learnt(name, result.posterior)
            figure = None if result.after is None else result.after.value
            await self._signal.keep(name, {}, figure)
        return result_dict(result, self._bench.inverted)

    async def keep(self, setting: Mapping[str, float], posterior: Mapping[str, Any] | None) -> None:
        """Remember a good setting, and what the estimator knew, also in the record.

        There they stand in one row with the bases that are inverted now.
        """
        self.setting, self.posterior = setting, posterior
        await self._history.add_good_setting(setting, posterior, self._bench.inverted)

    async def _experience(self, name: str) -> Experience:
        """Gather what earlier alignments say, and how long ago the latest one was."""
        good = await self._history.last_good_setting()
        return Experience(
            elapsed_s=0.0 if good is None else max(self._now() - good.time_s, 0.0),
            past=await self._history.learnt(name, STUDIES_POOLED),
        )

    async def _run(self, name: str, request: CalibrationRequest) -> StageResult:
        stage = make_stage(name, self._bench.config, await self._experience(name))
        start = await self._bench.read_setting()
        kind = study_kind(name, self._bench.inverted)
        warm, self.known_after_loss = self.known_after_loss or self.posterior, None
        study, outcome = await self.studies.begin(kind, request.continued_study), "cancelled"
        try:
            result = await stage.run(
                self._bench,
                self._history,
                on_progress=self._on_progress,
                start_setting=start,
                warm=warm,
                study=study.name,
                resume=study.is_resumed,
                pauses=request.pauses,
            )
            outcome = result.outcome
        finally:
            await carry_through(self._history.end_study(study.name, outcome))
        return result
