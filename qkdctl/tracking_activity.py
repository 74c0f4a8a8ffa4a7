"""Holding the alignment of one link, over interruptions and from calibration to calibration."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

from qkdctl.alarms import Alarms, Publish
from qkdctl.aligner import Aligner
from qkdctl.holding import LockLostError, hold_for
from qkdctl.signal_calibrator import SignalCalibrator
from qkdctl.testbed import OpenTestbed
from qkdctl.tracking_supervisor import TrackingSupervisor

REMEMBER_EVERY_S = 60.0
"""How often the setting that tracking has arrived at is recorded."""

HOUR_S = 3600.0

TellDarkness = Callable[[float | None], Awaitable[None]]
"""Is told after every window for how long there has been no light, s, or None."""


class Realignments:
    """Calibrations that tracking asked for, in the past hour.

    Args:
        limit: How many there may be.
        now: Tells seconds since the epoch.
    """

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self._now = now
        self._times_s: deque[float] = deque()

    def note(self) -> None:
        """Count one."""
        self._times_s.append(self._now())

    def are_exhausted(self) -> bool:
        """Whether there have been as many as there may be."""
        return self._recent() >= self.limit

    def are_left_for_less(self) -> bool:
        """Whether one is left where nothing is lost yet; half are kept for losses."""
        return self._recent() < self.limit // 2

    def _recent(self) -> int:
        while self._times_s and self._times_s[0] < self._now() - HOUR_S:
            self._times_s.popleft()
        return len(self._times_s)


class TrackingActivity:
    """Runs the supervisor of trackers; goes on with it where an instrument was lost meanwhile.

    Args:
        bench: The opened testbed.
        aligner: Knows the good setting, and keeps where it has gone.
        signal: Remembers what is held beside it.
        now: Tells seconds since the epoch.
        publish: Is told the kind of an event and its data.
        realignments: Those of the past hour.

    Attributes:
        alarms: The alarms that are up.
        is_running: Whether a setting is held just now.
    """

    def __init__(
        self,
        bench: OpenTestbed,
        aligner: Aligner,
        signal: SignalCalibrator,
        now: Callable[[], float],
        publish: Publish,
        realignments: Realignments,
    ) -> None:
        self._bench = bench
        self._aligner = aligner
        self._signal = signal
        self._now = now
        self._publish = publish
        self._realignments = realignments
        self._supervisor: TrackingSupervisor | None = None
        self.alarms = Alarms(publish)
        self.is_running = False

    @property
    def supervisor(self) -> TrackingSupervisor | None:
        """What holds the setting, while something does."""
        return self._supervisor if self.is_running else None

    async def run(self, tell_darkness: TellDarkness) -> NoReturn:
        """Hold, and remember from time to time where the setting has gone.

        Raises:
            LockLostError: A stage is to be run anew.
            InstrumentError: An instrument failed; the next run goes on from here.
            CeilingError: There was too much light.
        """
        supervisor = self._supervise()
        self.is_running = True
        try:
            await self._bench.light.turn_on()
            await self._follow(supervisor, tell_darkness)
        except LockLostError:
            self._aligner.known_after_loss = supervisor.posterior_after_loss()
            raise
        except BaseException:
            self._aligner.posterior = supervisor.posterior() or self._aligner.posterior
            raise
        finally:
            self.is_running = False

    async def end(self) -> None:
        """End for good; the knobs stay where they are, but for what still dithers beside them.

        Raises:
            InstrumentError: An instrument failed.
        """
        supervisor = self._supervisor
        self.forget()
        if supervisor is not None:
            await supervisor.settle()

    def forget(self) -> None:
        """End for good, touch nothing; what was complained of is over too."""
        self._supervisor = None
        self.alarms.clear_all("tracking ended")

    def _supervise(self) -> TrackingSupervisor:
        """Go on with the trackers of before an interruption, or begin anew."""
        setting = self._aligner.setting
        if setting is None:
            raise RuntimeError("tracking needs a good setting")
        if self._supervisor is None:
            config, posterior = self._bench.config, self._aligner.posterior
            limits = {name: self._bench.limits(name) for name in config.alignment.knobs}
            self._supervisor = TrackingSupervisor(
                self._bench,
                hold_for(config, setting, posterior, limits, self._now()),
                setting,
                self._now,
                self.alarms,
                self._publish,
                self._realignments.are_left_for_less,
            )
        return self._supervisor

    async def _follow(
        self, supervisor: TrackingSupervisor, tell_darkness: TellDarkness
    ) -> NoReturn:
        remembered_s = self._now()
        while True:
            await supervisor.step()
            self._aligner.setting = supervisor.setting
            dark_since_s = supervisor.dark_since_s
            await tell_darkness(None if dark_since_s is None else self._now() - dark_since_s)
            if dark_since_s is None and self._now() - remembered_s >= REMEMBER_EVERY_S:
                remembered_s = self._now()
                await self._remember(supervisor)

    async def _remember(self, supervisor: TrackingSupervisor) -> None:
        posterior = supervisor.posterior()
        if posterior is not None:  # without a model nothing has moved
            await self._aligner.keep(supervisor.setting, posterior)
        for stage, held in supervisor.held_beside.items():
            await self._signal.keep_moved(stage, held)
        self._publish("key-cost", supervisor.cost.as_dict())
