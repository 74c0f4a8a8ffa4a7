"""Pauses of a calibration: by the operator, for want of light, while something leaves its band."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from calibration.bench import LightLostError
from calibration.clicks import Window
from drivers.errors import InstrumentError
from qkdctl.testbed import OpenTestbed
from qkdctl.watched import Outside

log = logging.getLogger(__name__)

LOOK_PHOTONS = 1000
"""Detections, at the expected rate, of the window that looks whether light is back."""

OPERATOR, LIGHT = "by the operator", "for want of light"
"""Causes of a pause beside the names of watched quantities, which have no blanks."""


@dataclass(frozen=True)
class _Held:
    """What was in force when a pause began, and when that was on the loop's clock."""

    since_s: float
    setting: Mapping[str, float]
    is_lit: bool


@dataclass(frozen=True)
class _Asked:
    """A pause that somebody asked for."""

    reason: str
    keeps_light: bool


class CalibrationPauses:
    """Holds the stages of one calibration up; fulfils `calibration.pauses.Pauses`.

    A pause begins between two windows. Its light is shut unless somebody asked for it to stay on.
    When it ends, the knobs are put where they were, then the light is let in again if it was on.
    Only a pause that began by itself ends by itself, and a shutter that somebody shut by hand is
    opened by a hand or when the operator resumes.

    Args:
        bench: The opened testbed.
        tell: Is told why a stage is held up, and None when it goes on.

    Attributes:
        is_finishing: Whether searches shall end as if their budget were spent.
    """

    def __init__(
        self,
        bench: OpenTestbed,
        tell: Callable[[str | None], Awaitable[None]],
    ) -> None:
        self._bench = bench
        self._watched = bench.watched
        self._tell = tell
        self._config = bench.config.pausing
        self._asked: _Asked | None = None
        self._changed = asyncio.Event()
        self._held: _Held | None = None
        self._cause: str | None = None
        self._paused_s = 0.0
        self._missed_since_s: float | None = None
        self._is_shut_by_hand = False
        self.is_finishing = False

    @property
    def paused_s(self) -> float:
        """How long stages have been held up so far, s; a pause that lasts is counted."""
        return self._paused_s + (0.0 if self._held is None else _now_s() - self._held.since_s)

    @property
    def is_asked(self) -> bool:
        """Whether somebody wants a pause, be it that the window under way still lasts."""
        return self._asked is not None

    @property
    def is_in_effect(self) -> bool:
        """Whether a stage is held up because somebody wants that."""
        return self._asked is not None and self._cause == OPERATOR

    def ask(self, reason: str, *, keeps_light: bool) -> None:
        """Pause before the next window."""
        self._asked = _Asked(reason, keeps_light)
        self._changed.set()

    def end(self) -> None:
        """Go on; a pause that began by itself looks at once whether it may end."""
        self._asked = None
        self._is_shut_by_hand = False  # whoever asks knows of the shutter
        self._changed.set()

    def finish(self) -> None:
        """Have searches end with the best point known."""
        self.is_finishing = True
        self.end()

    async def before_window(self) -> None:
        """Return once the next window may be measured."""
        while True:
            self._changed.clear()
            if self._asked is not None:
                await self._stand_by(self._asked)
            elif (trouble := await self._trouble()) is not None:
                await self._hold(trouble.name, trouble.text)
                await self._wait(self._config.look_every_s)
            else:
                break
        await self._go_on()

    def heed(self, window: Window) -> None:
        """Compare the rate of a window with its band; light that missed it is there again."""
        text = self._watched.rate_outside(window.photons / window.duration_s)
        if text is not None:
            raise LightLostError(text)
        self._missed_since_s = None

    async def until_light(self, error: LightLostError) -> None:
        """Look from time to time whether light is back, for ``light_wait_s`` at most."""
        if self._missed_since_s is None:
            self._missed_since_s = _now_s()
        while True:
            self._changed.clear()
            if self._asked is not None:
                await self._stand_by(self._asked)
                self._missed_since_s = _now_s()
            else:
                await self._hold(LIGHT, str(error))
                await self._wait_for_look(error, self._missed_since_s)
            if self._asked is None and await self._is_light_back(error.least_hz):
                break
        await self._go_on()

    async def _trouble(self) -> Outside | None:
        """Return what is outside of its band, seen by the light that was on."""
        if self._held is not None and self._held.is_lit and self._watched.needs_light:
            await self._let_light_in()
        try:
            return await self._watched.outside()
        except InstrumentError as exc:
            if self._held is None:
                raise
            return Outside(exc.instrument, str(exc))  # not known to be back within its band

    async def _stand_by(self, asked: _Asked) -> None:
        """Hold the stage up until the operator says something else."""
        await self._hold(OPERATOR, asked.reason, keeps_light=asked.keeps_light)
        await self._changed.wait()

    async def _wait_for_look(self, error: LightLostError, missed_since_s: float) -> None:
        """Wait until it is time to look for light again.

        Raises:
            LightLostError: It has been missed for too long.
        """
        left_s = missed_since_s + self._config.light_wait_s - _now_s()
        if left_s <= 0:
            waited = f"waited {self._config.light_wait_s:g} s for it (pausing.light_wait_s)"
            raise LightLostError(f"{error}; {waited}", error.least_hz)
        await self._wait(min(self._config.look_every_s, left_s))

    async def _hold(self, cause: str, reason: str, *, keeps_light: bool = False) -> None:
        """Shut the light, and say so once for each cause.

        What was in force is remembered when a pause begins.
        """
        light = self._bench.light
        if self._held is None:
            self._is_shut_by_hand |= light.is_on and not await light.is_open()
            self._held = _Held(_now_s(), dict(self._bench.confirmed), light.is_on)
        if not keeps_light:
            await light.turn_off()
        if cause != self._cause:
            self._cause = cause
            await self._tell(reason)

    async def _wait(self, longest_s: float) -> None:
        """Wait, but no longer than until the operator says something."""
        try:
            async with asyncio.timeout(longest_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _is_light_back(self, least_hz: float) -> bool:
        """Look by one cheap window; the light is shut again unless it is back."""
        light, receiver = self._bench.light, self._bench.config.receiver
        try:
            if not await self._let_light_in():
                return False
            window = await self._bench.measure_for(LOOK_PHOTONS / receiver.expected_rate_hz)
        except InstrumentError as exc:
            log.info("still waiting for light: %s", exc)
        else:
            rate_hz = window.photons / window.duration_s
            is_usual = rate_hz >= least_hz and self._watched.rate_outside(rate_hz) is None
            if is_usual and "dark" not in window.flags:
                return True
        await light.turn_off()
        return False

    async def _let_light_in(self) -> bool:
        """Open the shutter, unless a hand has shut it and not opened it again."""
        if self._is_shut_by_hand and not await self._bench.light.is_open():
            return False
        self._is_shut_by_hand = False
        await self._bench.light.turn_on()
        return True

    async def _go_on(self) -> None:
        """Put in force what was when the pause began."""
        held = self._held
        if held is None:
            return
        await self._bench.apply(held.setting)
        if held.is_lit:
            await self._let_light_in()
        self._paused_s, self._held, self._cause = self.paused_s, None, None
        await self._tell(None)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
