"""Swabian Instruments Time Tagger: counts, time stamps and tag streams, by the vendor's library.

Sources: the vendor's user documentation; call signatures of the vendor's Python package
Swabian-TimeTagger 2.22. There is no wire protocol for users: the library talks to the unit on USB,
or to a program that serves one on the network (``startServer``).

The vendor's own simulation, ``createTimeTaggerVirtual``, needs a licence that the library reads
from a connected unit, so that it cannot serve for tests without one. The simulated bench has a
library of its own with the same calls, and a test compares the calls where the vendor's package is
installed.

Every call blocks, and goes through ``drivers.transport.library``. Nothing waits inside the library
for a measurement to end: whether it has is asked again and again. Before each measurement ``sync``
sees to it that no older tag is in it. Measurements are independent of each other and may run at the
same time. One that is cut short runs on inside the library until the next one begins or the unit is
made safe.

After a failed call the unit is asked for a fence (``sync``). If it answers, nothing is lost; if the
library reports another failure, the unit is let go, taken up anew and set up again: running
measurements are then cut short.

Weak facts, to be checked on first contact with a unit:

- ``getModel`` has ``Time Tagger`` in it (option ``model``).
- A unit that was unplugged or restarted makes calls raise RuntimeError.
- Taking a unit up on USB resets its settings; a server keeps them.
- Arguments out of range raise ValueError, IndexError or OverflowError; a server that only lets
  listen raises RuntimeError, which is then reported as it is.
- ``Countrate`` also counts the events that an overflow lost, as its documentation has it.
- Times roll over 107 days after the unit's start; an acquisition that this hits is refused.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from drivers.errors import ReplyError, SettingError, TransportError
from drivers.outputs import check_within
from drivers.registry import register
from drivers.roles import Actuator, Counts, Health, Identity, TimeTags
from drivers.time_taggers.swabian_timetagger_options import TimeTaggerOptions
from drivers.time_taggers.swabian_timetagger_settings import (
    DELAY_RESOLUTION_PS,
    LEVEL_RESOLUTION_V,
)
from drivers.time_taggers.swabian_timetagger_tags import SinceStart, TagBatch
from drivers.time_taggers.swabian_timetagger_unit import TaggerUnit
from drivers.time_taggers.swabian_timetagger_vendor import VendorTagger
from drivers.transport.connect import Connector
from timetags.block import TagBlock

PS_PER_S = 1e12
MAX_DURATION_S = 86_400.0
# Tags are fetched, and counts looked at, this often; from the measurement's end on oftener.
FETCH_S = 0.05
LOOK_S = 1.0
POLL_S = 0.01
# A measurement ends so long after its time at the latest: tags come in blocks of 20 ms.
GRACE_S = 2.0

_T = TypeVar("_T")


@register("swabian-timetagger", TimeTaggerOptions, "high", ("timetagger",))
class SwabianTimeTagger:
    """Swabian Instruments Time Tagger 20, Ultra or X (vendor's library; USB or network).

    Args:
        name: Name in the testbed file.
        resource: ``timetagger://any``, ``timetagger://SERIAL`` or ``timetagger://HOST:PORT``.
        options: Inputs, levels, delays.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: TimeTaggerOptions, connector: Connector
    ) -> None:
        self.name = name
        self._options = options
        self._unit = TaggerUnit(name, resource, options, connector)

    async def open(self) -> Identity:
        """Load the library, take up the unit, check which it is, set it up.

        Raises:
            SettingError: The library is not installed.
            ReplyError: Not the configured unit, or it does not take a setting.
            RejectedError: It lacks inputs, or the library refused a setting.
            TransportError: No unit, or no answer.
        """
        await self._unit.open()
        return await self.identify()

    async def identify(self) -> Identity:
        """Ask who it is; raises as ``open`` does."""
        async with self._unit.exclusive() as held:
            return await self._unit.identify(held)

    async def count(self, duration_s: float, inputs: Sequence[int]) -> Counts:
        """Count detections from now on.

        Args:
            duration_s: Exposure by the unit's clock, s.
            inputs: Which inputs.

        Raises:
            SettingError: Unknown input or impossible duration; nothing was called.
            TransportError: Link lost, or cut short by ``make_safe`` or because the unit had to be
                taken up anew.
        """
        numbers = self._checked(duration_s, inputs)
        duration_ps = round(duration_s * PS_PER_S)
        duration_ps += duration_ps / PS_PER_S < duration_s  # at least as long as asked
        channels = [self._options.library_channel(number) for number in numbers]
        async with self._measuring(VendorTagger.begin_count, channels, duration_ps) as run:
            counts = await self._look(run, LOOK_S, VendorTagger.read_counts)
            while counts.is_running:
                counts = await self._look(run, LOOK_S, VendorTagger.read_counts)
        if counts.captured_ps < duration_ps:
            problem = f"counted for {counts.captured_ps} ps instead of {duration_ps} ps"
            raise TransportError(self.name, problem)
        by_input = dict(zip(numbers, counts.counts, strict=True))
        return Counts(counts.captured_ps / PS_PER_S, by_input)

    async def acquire(self, duration_s: float, inputs: Sequence[int]) -> TimeTags:
        """Record times since the latest START, exact to the ps.

        Detections before the first START of the acquisition are left out.

        Args:
            duration_s: Exposure by the unit's clock, s.
            inputs: Which inputs.

        Raises:
            SettingError: Unknown input, impossible duration, or no ``sync_channel`` configured;
                nothing was called.
            ReplyError: No START came, or tags were lost: such a window has no known exposure and is
                not returned.
            TransportError: Link lost, or cut short by ``make_safe`` or because the unit had to be
                taken up anew.
        """
        sync = self._options.sync_channel
        if sync is None:
            raise SettingError(self.name, "times since START need the option sync_channel")
        numbers = self._checked(duration_s, inputs)
        duration_ps = round(duration_s * PS_PER_S)
        by_channel = {self._options.library_channel(number): number for number in numbers}
        start = self._options.library_channel(sync)
        since_start = SinceStart(self.name, start, by_channel)
        async with aclosing(self._batches([start, *by_channel], duration_ps)) as batches:
            async for batch in batches:
                batch.check(self.name)
                await asyncio.to_thread(since_start.add, batch)
                if since_start.n_tags > self._options.max_tags:
                    problem = f"more than {self._options.max_tags} detections (option max_tags)"
                    raise ReplyError(self.name, problem)
        if not since_start.has_start:
            raise ReplyError(self.name, f"no START came on input {sync}: is it connected?")
        return TimeTags(duration_ps / PS_PER_S, since_start.since_start_ps())

    async def stream(
        self, duration_s: float, inputs: Sequence[int]
    ) -> AsyncGenerator[TagBlock, None]:
        """Record time tags, by the unit's own clock.

        Leave the loop early only through ``contextlib.aclosing``.

        Args:
            duration_s: Exposure, s.
            inputs: Which inputs.

        Yields:
            Tags with the input as channel and the time since the unit's start, never empty.

        Raises:
            SettingError: Unknown input or impossible duration; nothing was called.
            ReplyError: Tags were lost. All that came before was handed over, and is whole.
            TransportError: Link lost, or cut short by ``make_safe`` or because the unit had to be
                taken up anew.
        """
        numbers = self._checked(duration_s, inputs)
        channels = [self._options.library_channel(number) for number in numbers]
        batches = self._batches(channels, round(duration_s * PS_PER_S))
        async with aclosing(batches):
            async for batch in batches:
                intact = slice(batch.n_intact)
                if batch.n_intact:
                    channel = np.abs(batch.channel[intact]).astype(np.int16)
                    yield TagBlock(channel, batch.time_ps[intact])
                batch.check(self.name)

    async def set_trigger_level(self, number: int, level_v: float) -> float:
        """Set the trigger level of an input and return what was read back, V.

        Raises:
            SettingError: Outside the limits; nothing was called.
            RejectedError: The library refused; the old level stands.
            ReplyError: Another level was read back.
            TransportError: Link lost; the level is unknown.
        """
        low_v, high_v = self._options.min_trigger_level_v, self._options.max_trigger_level_v
        check_within(self.name, f"trigger level of input {number}", level_v, low_v, high_v, "V")
        async with self._unit.exclusive() as held:
            return await self._unit.settings.set_level(held.calls, held.tagger, number, level_v)

    async def read_trigger_level(self, number: int) -> float:
        """Read the trigger level of an input, V."""
        async with self._unit.exclusive() as held:
            return await self._unit.settings.read_level(held.calls, held.tagger, number)

    async def set_delay(self, number: int, delay_ps: float) -> float:
        """Set the delay of an input, in whole ps; raises as ``set_trigger_level`` does."""
        low_ps, high_ps = self._options.min_delay_ps, self._options.max_delay_ps
        check_within(self.name, f"delay of input {number}", delay_ps, low_ps, high_ps, "ps")
        async with self._unit.exclusive() as held:
            return await self._unit.settings.set_delay(held.calls, held.tagger, number, delay_ps)

    async def read_delay(self, number: int) -> float:
        """Read the delay of an input, ps."""
        async with self._unit.exclusive() as held:
            return await self._unit.settings.read_delay(held.calls, held.tagger, number)

    async def make_safe(self) -> None:
        """End all measurements and all test signals; there is no light here."""
        await self._unit.make_safe()

    async def close(self) -> None:
        """Let the unit go; cuts measurements short."""
        await self._unit.close()

    def health(self) -> Health:
        """Tell how the link has fared; an exchange is one call of the library."""
        return self._unit.health()

    def actuators(self) -> Mapping[str, Actuator]:
        """Of each input in use: ``level-1``, V, and ``delay-1``, ps, and so on."""
        options = self._options
        levels = {
            f"level-{number}": Actuator(
                unit="V",
                minimum=options.min_trigger_level_v,
                maximum=options.max_trigger_level_v,
                resolution=LEVEL_RESOLUTION_V,
                write=partial(self.set_trigger_level, number),
                read=partial(self.read_trigger_level, number),
            )
            for number in options.channels
        }
        delays = {
            f"delay-{number}": Actuator(
                unit="ps",
                minimum=options.min_delay_ps,
                maximum=options.max_delay_ps,
                resolution=DELAY_RESOLUTION_PS,
                write=partial(self.set_delay, number),
                read=partial(self.read_delay, number),
            )
            for number in options.channels
        }
        return {**levels, **delays}

    def _checked(self, duration_s: float, inputs: Sequence[int]) -> tuple[int, ...]:
        numbers, in_use = tuple(inputs), self._options.inputs
        if not numbers or len(set(numbers)) < len(numbers) or set(numbers) - set(in_use):
            known = ", ".join(map(str, in_use))
            raise SettingError(self.name, f"inputs {numbers} are not some of {known}, each once")
        check_within(self.name, "duration", duration_s, 1 / PS_PER_S, MAX_DURATION_S, "s")
        return numbers

    # Measurements.

    @asynccontextmanager
    async def _measuring(
        self,
        begin: Callable[..., Any],
        channels: Sequence[int],
        duration_ps: int,
    ) -> AsyncIterator["_Run"]:
        """Begin a measurement of fresh tags, and end it."""
        loop = asyncio.get_running_loop()
        async with self._unit.exclusive() as held:
            vendor, interruption = held.vendor, self._unit.interruption
            if not await self._unit.fence(held):
                raise TransportError(self.name, "the unit does not deliver tags", sent="sync()")
            measurement = await held.calls.call(begin, vendor, channels, duration_ps)
        run = _Run(vendor, measurement, interruption, loop.time() + duration_ps / PS_PER_S)
        try:
            yield run
        except BaseException:
            vendor.abandon(measurement)
            raise
        async with self._unit.exclusive() as held:
            await held.calls.call(vendor.end, measurement)

    async def _batches(
        self, channels: Sequence[int], duration_ps: int
    ) -> AsyncGenerator[TagBatch, None]:
        begin = partial(VendorTagger.begin_stream, buffer_tags=self._options.buffer_tags)
        read = partial(VendorTagger.read_batch, buffer_tags=self._options.buffer_tags)
        async with self._measuring(begin, channels, duration_ps) as run:
            is_running = True
            while is_running:
                batch: TagBatch = await self._look(run, FETCH_S, read)
                yield batch
                is_running = batch.is_running

    async def _look(self, run: "_Run", after_s: float, read: Callable[..., _T]) -> _T:
        """Look at a measurement after a while, or when its time is over."""
        left_s = run.end_s - asyncio.get_running_loop().time()
        if left_s < -GRACE_S:
            raise TransportError(self.name, f"not ended {GRACE_S:g} s after its time was over")
        try:
            async with asyncio.timeout(min(after_s, max(POLL_S, left_s))):
                await run.interruption.wait()
        except TimeoutError:
            pass
        self._check_undisturbed(run)
        async with self._unit.exclusive() as held:
            self._check_undisturbed(run)
            return await held.calls.call(read, run.vendor, run.measurement)

    def _check_undisturbed(self, run: "_Run") -> None:
        if run.interruption.is_set():
            cause = "make_safe, or because the unit had to be taken up anew"
            raise TransportError(self.name, f"the measurement was cut short by {cause}")


@dataclass(frozen=True)
class _Run:
    """A measurement under way: the vendor's object, what cuts it short, and when it is over."""

    vendor: VendorTagger
    measurement: Any
    interruption: asyncio.Event
    end_s: float
