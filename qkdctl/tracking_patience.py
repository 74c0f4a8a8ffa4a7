"""How long an alignment may be worse than wanted before it is calibrated anew."""

from collections.abc import Callable

from calibration.tracking.report import TrackingReport
from qkdctl.alarms import Alarms
from qkdctl.holding import LockLostError

HOLDS_WELL = 2.0
"""Expected excess, over the least that any tracker could reach, up to which another calibration
would not help: the fibre is too fast for the light there is."""

ALARM = "excess"


class Patience:
    """Watches the expected excess of one hold.

    Args:
        target_excess: Excess up to which all is well, 0 to 1.
        patience_s: How long it may be above, s.
        is_restrained: Whether a budget makes tracking see less than it would: then a calibration
            would not last, and the operator is told instead.
        may_realign: Whether a calibration may be asked for.
        alarms: Where the operator is told that nothing more can be done.
    """

    def __init__(
        self,
        target_excess: float,
        patience_s: float,
        *,
        is_restrained: bool,
        may_realign: Callable[[], bool],
        alarms: Alarms,
    ) -> None:
        self._target_excess = target_excess
        self._patience_s = patience_s
        self._is_restrained = is_restrained
        self._may_realign = may_realign
        self._alarms = alarms
        self._since_s: float | None = None

    def heed(self, report: TrackingReport, now_s: float) -> None:
        """Take in what a window told; only of windows with light.

        Raises:
            LockLostError: The excess has been above the target for too long, and a calibration is
                likely to help.
        """
        if report.expected_excess <= self._target_excess:
            self._since_s = None
            self._alarms.clear(ALARM, "the expected excess is within its target again")
            return
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < self._patience_s:
            return
        text = (
            f"the expected excess QBER has been above {self._target_excess:.2%} for "
            f"{now_s - self._since_s:.0f} s and is {report.expected_excess:.2%} now"
        )
        if (hindrance := self._hindrance(report)) is not None:
            self._alarms.put_up(ALARM, f"{text}; {hindrance}")
        else:
            raise LockLostError(f"drift: {text}")

    def _hindrance(self, report: TrackingReport) -> str | None:
        """Say why a calibration would not help, or nothing."""
        if report.expected_excess <= HOLDS_WELL * report.limit_excess:
            return (
                f"no tracker could hold it below {report.limit_excess:.2%} at this drift and "
                "rate: more light, or a quieter fibre"
            )
        if self._is_restrained:
            return "tracking.max_key_cost leaves it too few windows: raise it"
        if not self._may_realign():
            return "it was aligned anew too often to try again: look at the link"
        return None
