"""Settings of a Swabian Time Tagger: each is set, read back and compared."""

from typing import Any

from drivers.errors import RejectedError, ReplyError
from drivers.outputs import unknown_if_lost
from drivers.time_taggers.swabian_timetagger_options import TimeTaggerOptions
from drivers.transport.library import Calls

# Trigger levels come from converters with steps of some millivolts [weak].
LEVEL_RESOLUTION_V = 0.01
DELAY_RESOLUTION_PS = 1
# Dead times are rounded to the unit's clock, which is slowest in a Time Tagger 20.
CLOCK_PERIOD_PS = 6000


class TaggerSettings:
    """The settings of one tagger.

    Args:
        instrument: Name for errors.
        options: What the testbed file says.
    """

    def __init__(self, instrument: str, options: TimeTaggerOptions) -> None:
        self._instrument = instrument
        self._options = options

    async def set_up(self, calls: Calls, tagger: Any) -> None:
        """Set what the testbed file says; leave the rest as it is.

        Raises:
            RejectedError: The unit has not all inputs, or the library refused.
            ReplyError: Something else was read back than was set.
            TransportError: The unit does not answer.
        """
        await self._check_channels(calls, tagger)
        options = self._options
        for number, level_v in options.trigger_level_v.items():
            await self.set_level(calls, tagger, number, level_v)
        for number, delay_ps in options.input_delay_ps.items():
            await self.set_delay(calls, tagger, number, delay_ps)
        for number, dead_time_ps in options.dead_time_ps.items():
            await self._set_dead_time(calls, tagger, number, dead_time_ps)
        if options.sync_divider is not None and options.sync_channel is not None:
            await self._set_divider(calls, tagger, options.sync_channel, options.sync_divider)
        for number in options.test_signal:
            await self._set_test_signal(calls, tagger, number, is_on=True)

    async def set_level(self, calls: Calls, tagger: Any, number: int, level_v: float) -> float:
        """Set the trigger level of an input and read it back, V; raises as ``set_up`` does."""
        with unknown_if_lost(self._instrument, f"the trigger level of input {number}"):
            await calls.call(tagger.setTriggerLevel, number, float(level_v))
            read_v = await self.read_level(calls, tagger, number)
        if not abs(read_v - level_v) <= LEVEL_RESOLUTION_V:
            self._differs(f"trigger level of input {number}", f"{level_v:g} V", f"{read_v:g} V")
        return read_v

    async def read_level(self, calls: Calls, tagger: Any, number: int) -> float:
        """Read the trigger level of an input, V."""
        return float(await calls.call(tagger.getTriggerLevel, number))

    async def set_delay(self, calls: Calls, tagger: Any, number: int, delay_ps: float) -> float:
        """Set the delay of an input, in whole ps, and read it back; raises as ``set_up`` does."""
        channel = self._options.library_channel(number)
        whole_ps = round(delay_ps)
        with unknown_if_lost(self._instrument, f"the delay of input {number}"):
            await calls.call(tagger.setInputDelay, channel, whole_ps)
            read_ps = await self.read_delay(calls, tagger, number)
        if read_ps != whole_ps:
            self._differs(f"delay of input {number}", f"{whole_ps} ps", f"{read_ps:g} ps")
        return read_ps

    async def read_delay(self, calls: Calls, tagger: Any, number: int) -> float:
        """Read the delay of an input, ps."""
        channel = self._options.library_channel(number)
        return float(await calls.call(tagger.getInputDelay, channel))

    async def end_test_signal(self, calls: Calls, tagger: Any, number: int) -> None:
        """See that an input is on its socket; a server that only lets listen is asked no more."""
        if await calls.call(tagger.getTestSignal, number):
            await self._set_test_signal(calls, tagger, number, is_on=False)

    async def _check_channels(self, calls: Calls, tagger: Any) -> None:
        offered = set(await calls.call(tagger.getChannelList))
        needed = [self._options.library_channel(number) for number in self._options.channels]
        if missing := [channel for channel in needed if channel not in offered]:
            raise RejectedError(
                self._instrument,
                f"the unit has no channels {missing}",
                sent="getChannelList()",
                received=f"{sorted(offered)}",
            )

    async def _set_dead_time(
        self, calls: Calls, tagger: Any, number: int, dead_time_ps: int
    ) -> None:
        channel = self._options.library_channel(number)
        await calls.call(tagger.setDeadtime, channel, dead_time_ps)
        read_ps = await calls.call(tagger.getDeadtime, channel)
        if not abs(read_ps - dead_time_ps) <= CLOCK_PERIOD_PS:
            self._differs(f"dead time of input {number}", f"{dead_time_ps} ps", f"{read_ps} ps")

    async def _set_divider(self, calls: Calls, tagger: Any, number: int, divider: int) -> None:
        channel = self._options.library_channel(number)
        await calls.call(tagger.setEventDivider, channel, divider)
        read = await calls.call(tagger.getEventDivider, channel)
        if read != divider:
            self._differs(f"divider of input {number}", f"{divider}", f"{read}")

    async def _set_test_signal(
        self, calls: Calls, tagger: Any, number: int, *, is_on: bool
    ) -> None:
        with unknown_if_lost(self._instrument, f"the test signal of input {number}"):
            await calls.call(tagger.setTestSignal, number, is_on)
            read = bool(await calls.call(tagger.getTestSignal, number))
        if read != is_on:
            self._differs(f"test signal of input {number}", f"{is_on}", f"{read}")

    def _differs(self, what: str, was_set: str, reads: str) -> None:
        raise ReplyError(self._instrument, f"the {what} was set to {was_set} and reads {reads}")
