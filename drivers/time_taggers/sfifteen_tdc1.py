"""S-Fifteen TDC1: counts and time tags of four inputs, on USB serial.

Sources: s-fifteen-instruments/pyS15 (``usb_counter_fpga.py``); the TDC1 documentation of
s-fifteen-instruments/Timestamp_TDC1; ``readevents4a`` for ``status?`` and for what ``INPKT`` does.

The unit has no START input: it stamps on its own clock. It counts (``PhotonCounter``) and streams
tags (``TagStreamer``), but gives no times since a START and is no ``TimeTagger``. One line carries
it all: whoever asks something while it counts or streams waits.

``INPKT`` hands over the packet that is being filled, of 512 bytes else: it is sent before a stream
and whenever nothing has come for a while. Dummy events tell how far the unit's clock is, so that a
stream has run its time as soon as a word at or after its end was read. ``time?`` answers a signed
16-bit number.

Weak facts, to be checked on first contact with a unit:

- Commands other than questions answer nothing. Public drivers read on for 0.1 s after a change of
  mode, threshold or clock, and drop what comes; so does this one.
- The text of ``*IDN?``, which has ``TDC1`` in it, and the digits of ``level?``.
- Whether the unit hears anything while it counts, and whether ``abort`` ends a count. Neither is
  relied on: after a count that was cut short, the end of its window is waited for.
- The time of a stream starts at zero with the stream (from one worked example).
- Bit 4 of ``status?``, four hexadecimal digits, says that tags were lost (from ``readevents4a``;
  the option ``reads_status`` does without).
- Thresholds are set to 0.01 V and read back to 0.02 V.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress

import numpy as np

from drivers.errors import InstrumentError, RejectedError, ReplyError, TransportError
from drivers.measuring import Recording
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.registry import register
from drivers.roles import Actuator, Identity
from drivers.sfifteen import ask, ask_integer, query_identity
from drivers.sfifteen_counter import CountingUnit
from drivers.time_taggers.sfifteen_tdc1_options import INPUTS, RESOLUTION_V, Tdc1Options
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue
from timetags.block import TagBlock
from timetags.tdc1 import Tdc1Decoder

IDENTITY = re.compile("TDC1", re.IGNORECASE)
LEVEL = re.compile(r"([+-]?[0-9]*\.?[0-9]+) *(m?)V?", re.IGNORECASE)
FOUR_COUNTS = re.compile(r"([0-9]+)\s+([0-9]+)\s+([0-9]+)\s+([0-9]+)")
STATUS = re.compile(r"([0-9A-F]{4})", re.IGNORECASE)
TAGS_LOST = 0x10  # weak
SINGLES_MODE = 0
CLOCKS = {"auto": 0, "external": 1, "internal": 2}
READ_BACK_TOLERANCE_V = 0.02  # weak
PS_PER_S = 1e12
# Nothing came for so long: the rest is in a packet that is not full. Dummy events come oftener.
FLUSH_S = 0.2

log = logging.getLogger(__name__)


def parse_integration_ms(signed: int) -> int:
    """Read an integration time that was answered as a signed 16-bit number, ms."""
    return signed + (1 << 16) if signed < 0 else signed


@register("sfifteen-tdc1", Tdc1Options, "high", ("serial",))
class Tdc1(CountingUnit):
    """S-Fifteen TDC1 four-input counter and time tagger (USB serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Inputs, threshold, clock.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Tdc1Options, connector: Connector
    ) -> None:
        super().__init__(name, resource, options, options.inputs, connector)
        self._options = options
        self._recordings: set[Recording[TagBlock]] = set()

    async def stream(self, duration_s: float, inputs: Sequence[int]) -> AsyncIterator[TagBlock]:
        """Record time tags, by the unit's own clock.

        Leave the loop early only through ``contextlib.aclosing``: until the generator is closed,
        the unit goes on, and whoever asks it something waits. ``make_safe`` does not.

        Args:
            duration_s: Exposure, s.
            inputs: Which inputs, from 1.

        Yields:
            Tags with the input as channel and the time since the start of the stream, never empty.

        Raises:
            SettingError: Unknown input or impossible duration; nothing was sent.
            ReplyError: The unit says that it has lost tags. What came before is as it says, but
                the exposure is not known.
            TransportError: Link lost, nothing came, or cut short by ``make_safe``.
        """
        numbers = self._checked(duration_s, inputs)
        recording = Recording(self.name, self._record(round(duration_s * PS_PER_S), numbers))
        self._recordings.add(recording)
        try:
            async with aclosing(recording.items()) as blocks:
                async for block in blocks:
                    yield block
        finally:
            self._recordings.discard(recording)

    async def _record(self, end_ps: int, numbers: Sequence[int]) -> AsyncGenerator[TagBlock, None]:
        async with self._measuring, self._transport.exclusive() as link:
            self._interruption.arm()
            await self._ensure_singles(link)
            decoder = Tdc1Decoder()
            try:
                await link.write("INPKT;time 0;timestamp;counts?")
                while decoder.latest_ps is None or decoder.latest_ps < end_ps:
                    block = await self._next_block(link, decoder)
                    is_wanted = np.isin(block.channel, numbers) & (block.time_ps < end_ps)
                    if is_wanted.any():
                        yield TagBlock(block.channel[is_wanted], block.time_ps[is_wanted])
            except BaseException:
                with suppress(InstrumentError):
                    await link.write("abort")  # the line itself is recovered by whoever comes next
                raise
            await self._stop(link)
            await self._check_nothing_lost(link)
            await self._ensure_singles(link)

    async def set_threshold(self, threshold_v: float) -> float:
        """Set the threshold of all inputs and read it back.

        Args:
            threshold_v: Positive for pulses upwards, negative for pulses downwards, V; sent with
                two decimals.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            ReplyError: Another threshold was read back than was set.
            TransportError: Link lost; the threshold is unknown.
        """
        options = self._options
        check_within(
            self.name,
            "threshold",
            threshold_v,
            options.min_threshold_v,
            options.max_threshold_v,
            "V",
        )
        async with self._transport.exclusive() as link:
            return await self._set_threshold(link, threshold_v)

    async def read_threshold(self) -> float:
        """Read the threshold, V.

        Raises:
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._read_threshold(link)

    async def make_safe(self) -> None:
        """End a stream or a count, and go back to counting singles; there is no light here."""
        self._interruption.cut_short()
        for recording in tuple(self._recordings):
            await recording.cut_short()
        await carry_out_all(self._transport, [self._stop, self._ensure_singles])

    def actuators(self) -> Mapping[str, Actuator]:
        """The one output, ``threshold``, V."""
        return {
            "threshold": Actuator(
                unit="V",
                minimum=self._options.min_threshold_v,
                maximum=self._options.max_threshold_v,
                resolution=RESOLUTION_V,
                write=self.set_threshold,
                read=self.read_threshold,
            )
        }

    # Set-up and recovery.

    async def _identify(self, link: Dialogue) -> Identity:
        return await query_identity(link, "TDC1", IDENTITY)

    async def _identify_anew(self, link: Dialogue) -> Identity:
        # The unit may stream still, for a program that is gone: nothing else would be understood.
        await self._stop(link)
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        """Count singles; choose clock and threshold."""
        await self._ensure_singles(link)
        await self._choose_clock(link)
        if self._options.threshold_v is not None:
            await self._set_threshold(link, self._options.threshold_v)

    async def _stop(self, link: Dialogue) -> None:
        """End what is under way, and drop all that still comes of it."""
        await link.write("abort")
        await self._counting.outwait(link)

    async def _ensure_singles(self, link: Dialogue) -> None:
        if await ask_integer(link, "mode?") == SINGLES_MODE:
            return
        await self._tell(link, "singles")
        if await ask_integer(link, "mode?") != SINGLES_MODE:
            raise RejectedError(self.name, "the unit does not count singles", sent="singles")

    async def _choose_clock(self, link: Dialogue) -> None:
        if self._options.reference_clock is None:
            return
        choice = CLOCKS[self._options.reference_clock]
        command = f"REFCLK {choice}"
        await self._tell(link, command)
        if await ask_integer(link, "REFCLK?") != choice:
            raise ReplyError(self.name, "another reference clock is chosen", sent=command)
        if self._options.reference_clock == "external" and not await ask_integer(link, "ECLOCK?"):
            raise RejectedError(self.name, "there is no external clock", sent="ECLOCK?")

    async def _set_threshold(self, link: Dialogue, threshold_v: float) -> float:
        # The limits are whole steps of 0.01 V, so that rounding stays inside.
        rounded_v = round(threshold_v, 2) + 0.0  # no negative zero
        command = f"{'NEG' if rounded_v < 0 else 'POS'} {rounded_v:.2f}"
        with unknown_if_lost(self.name, "the threshold"):
            await self._tell(link, command)
            read_v = await self._read_threshold(link)
        if not abs(read_v - rounded_v) <= READ_BACK_TOLERANCE_V:
            problem = f"the threshold was set to {rounded_v:.2f} V and reads {read_v:g} V"
            raise ReplyError(self.name, problem, sent=command)
        return read_v

    async def _read_threshold(self, link: Dialogue) -> float:
        level = await ask(link, "level?", LEVEL)
        return float(level[1]) * (1e-3 if level[2] else 1.0)

    # Counting.

    async def _prepare_to_count(self, link: Dialogue) -> None:
        await self._ensure_singles(link)

    async def _read_integration_ms(self, link: Dialogue) -> float:
        return parse_integration_ms(await ask_integer(link, "time?"))

    def _parse_counts(self, reply: str) -> dict[int, int]:
        counts = FOUR_COUNTS.fullmatch(reply)
        if counts is None:
            raise ReplyError(self.name, "not four counts", sent="counts?", received=reply)
        return {number: int(counts[number]) for number in INPUTS}

    # Streaming.

    async def _next_block(self, link: Dialogue, decoder: Tdc1Decoder) -> TagBlock:
        n_slips = decoder.slip_total
        block = decoder.feed(await self._next_bytes(link))
        if decoder.slip_total > n_slips:
            last = decoder.slips[-1]
            log.warning("%s: two bytes of the tag stream were lost: %s", self.name, last)
        return block

    async def _next_bytes(self, link: Dialogue) -> bytes:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._options.timeout_s + FLUSH_S
        while not (data := await link.read_some(FLUSH_S)):
            self._interruption.check()
            if loop.time() > give_up_s:
                silent_s = self._options.timeout_s
                raise TransportError(self.name, f"no tags for {silent_s:g} s, nor dummy events")
            await link.write("INPKT")
        self._interruption.check()
        return data

    async def _check_nothing_lost(self, link: Dialogue) -> None:
        if not self._options.reads_status:
            return
        status = (await ask(link, "status?", STATUS))[1]
        if int(status, 16) & TAGS_LOST:
            problem = "the unit has lost tags: reduce the rate"
            raise ReplyError(self.name, problem, sent="status?", received=status)
