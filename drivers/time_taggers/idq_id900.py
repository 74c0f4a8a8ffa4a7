"""ID Quantique ID900 / ID1000 Time Controller: counters and time stamps of four inputs.

Sources: IDQ Time Controller series user manual; the drivers MSLNZ/pr-single-photons and
MSLNZ/msl-equipment; the vendor's example scripts for the streams.

Requests and replies are ZeroMQ messages of text without terminator; every request is answered,
sets too. Time stamps take another way, see ``drivers.time_taggers.idq_data_link``.

Weak facts, to be checked on first contact with a unit:

- ``INTEgrationtime`` counts milliseconds (a driver checked on hardware says so; another one passes
  nanoseconds): ``INTEGRATION_UNIT_S``.
- After ``RESEt`` a counter reads zero until its first whole window has ended, one to two windows
  later; all counters with one integration time share their windows, but for the time between their
  resets. START has a counter like the inputs: it is reset last, so that when it is no longer zero
  the others have a whole window as well, however few their counts.
- A restarted unit has another value in its delay block 8 than 997 ps: this is how a restart is
  noticed, since ZeroMQ connects again without a word. Nothing is linked to that block.
- The punctuation of ``*IDN?``; anything that names the model is accepted.
- ``REC:STAGe?`` answers ``PLAYING`` while it records, and another word before and after.
- Thresholds are quantised in steps of 2.048 mV.
- A delay acts on time stamps when the stamps are taken behind the delay block (``DELA<n>``).
- Where the stream marks ends (option ``end_mark``), see the data link module.
- Stamps before the first START of an acquisition count from the acquisition's start.
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from drivers.errors import InstrumentError, ReplyError, SettingError, TransportError
from drivers.linked import LinkedInstrument
from drivers.measuring import Interruption, checked_inputs
from drivers.outputs import carry_out_all, check_within
from drivers.registry import register
from drivers.roles import Counts, Health, Identity, TimeTags
from drivers.time_taggers.idq_data_link import MESSAGES
from drivers.time_taggers.idq_id900_dialogue import (
    act,
    check_accepted,
    parse_count,
    parse_identity,
    parse_voltage,
    tell,
)
from drivers.time_taggers.idq_id900_options import Edge, Id900Options, host_in
from drivers.time_taggers.idq_id900_streams import TagStreams
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

PS_PER_S = 1e12
# Two steps of the discriminator's 2.048 mV [weak].
THRESHOLD_TOLERANCE_V = 0.005
INTEGRATION_UNIT_S = 1e-3
MAX_INTEGRATION = 65535
MAX_DURATION_S = 3600.0
# Left in the unit at set-up, in a block that is not used, to recognise a restart by its absence.
RESTART_MARK = 997
RESTART_REGISTER = "DELAy8:VALUe"
PLAYING = "PLAYING"
POLL_S = 0.01
# Two windows and this long after a reset every counter has a whole window, if START is silent.
ZERO_GRACE_S = 0.05
# A long window is looked for this often while it lasts.
POLLS_PER_WINDOW = 50
# New streams connect, and leftovers of a broken acquisition arrive, before the first recording.
STREAM_SETTLE_S = 0.2

log = logging.getLogger(__name__)


@register("idq-id900", Id900Options, "high", ("zmq",))
class Id900(LinkedInstrument):
    """ID Quantique ID900 / ID1000 time controller: counters and time stamps (ZeroMQ).

    Args:
        name: Name in the testbed file.
        resource: Where the unit listens, ``zmq://HOST:5555``.
        options: Inputs, thresholds, and the way of the time stamps.
        connector: Makes the links.
    """

    def __init__(
        self, name: str, resource: str, options: Id900Options, connector: Connector
    ) -> None:
        transport = connector.transport(name, resource, MESSAGES, timeout_s=options.timeout_s)
        super().__init__(name, transport)
        self._options = options
        self._streams: TagStreams | None = None
        if options.data_link is not None:
            address = options.controller_address or host_in(resource) or "localhost"
            self._streams = TagStreams(
                name, transport, options, options.data_link, address, connector
            )
        self._measuring = asyncio.Lock()
        self._interruption = Interruption(name)

    async def open(self) -> Identity:
        """Open the links, check the model, set up the inputs.

        Raises:
            ReplyError: Not an ID900 or ID1000, or no data link service behind ``data_link``.
            RejectedError: A setting of the inputs was refused.
            TransportError: No link, or no answer.
        """
        identity = await super().open()
        if self._streams is not None:
            await self._streams.open()
        return identity

    async def count(self, duration_s: float, inputs: Sequence[int]) -> Counts:
        """Count detections in one window that starts after the call.

        The counters of all inputs are reset one right after the other, so that their windows
        coincide but for the time of a few requests.

        Args:
            duration_s: Length of the window, s; rounded up to whole milliseconds.
            inputs: Which inputs, from 1.

        Returns:
            Counts by input and the window's true length. START tells when the window is over;
            where it is silent, the second window is waited for and taken.

        Raises:
            SettingError: Unknown input, or no window of that length; nothing was sent.
            RejectedError: The unit refused a setting.
            ReplyError: A reply does not parse.
            TransportError: Link lost, cut short by ``make_safe``, or the unit restarted meanwhile.
        """
        numbers = checked_inputs(self.name, inputs, self._options.inputs)
        check_within(
            self.name,
            "duration",
            duration_s,
            INTEGRATION_UNIT_S,
            MAX_INTEGRATION * INTEGRATION_UNIT_S,
            "s",
        )
        window = math.ceil(duration_s / INTEGRATION_UNIT_S - 1e-6)
        async with self._measuring:
            await self._start_counting(numbers, window)
            await self._wait_for_window(window * INTEGRATION_UNIT_S)
            counts = {
                number: await self._read_count(f"INPUt{number}:COUNter?") for number in numbers
            }
            await self._check_not_restarted()
            self._interruption.check()
        return Counts(window * INTEGRATION_UNIT_S, counts)

    async def acquire(self, duration_s: float, inputs: Sequence[int]) -> TimeTags:
        """Record time stamps since the latest START.

        Streams stay up between acquisitions on the same inputs. After an acquisition that did not
        end in good order they are closed and set up again, and what is still under way from it is
        dropped before the next one starts.

        Args:
            duration_s: Exposure by the unit's clock, s.
            inputs: Which inputs, from 1.

        Raises:
            SettingError: Unknown input, impossible duration, or no ``data_link`` configured.
            RejectedError: The unit or the data link service refused.
            ReplyError: A reply or a message does not parse, or the unit counted errors, that is,
                lost time stamps: such a window has no known exposure and is not returned.
            TransportError: A link is lost, stamps did not come in time, or cut short by
                ``make_safe``.
        """
        streams = self._streams
        if streams is None:
            raise SettingError(self.name, "time stamps need the option data_link")
        numbers = checked_inputs(self.name, inputs, self._options.inputs)
        check_within(self.name, "duration", duration_s, 1 / PS_PER_S, MAX_DURATION_S, "s")
        duration_ps = round(duration_s * PS_PER_S)
        async with self._measuring:
            try:
                tags = await self._acquire(streams, duration_ps, numbers)
            except BaseException:
                await streams.drop()
                raise
        return TimeTags(duration_s=duration_ps / PS_PER_S, since_sync_ps=tags)

    async def make_safe(self) -> None:
        """Stop recording and sending; there is no light here. Breaks off what is measuring."""
        self._interrupt()
        mute = [f"RAW{number}:SEND OFF" for number in self._options.inputs]
        steps = [partial(act, command=command) for command in ("REC:STOP", *mute)]
        await carry_out_all(self._transport, steps)

    async def close(self) -> None:
        """Close all links; leaves the unit as it is."""
        self._interruption.cut_short()
        if self._streams is not None:
            await self._streams.close()
        await super().close()

    def health(self) -> Health:
        """Tell how the links have fared: to the unit, with the data link's errors added."""
        unit = super().health()
        if self._streams is None:
            return unit
        link = self._streams.health()
        return Health(
            exchanges=unit.exchanges + link.exchanges,
            errors=unit.errors + link.errors,
            reconnects=unit.reconnects + link.reconnects,
            last_round_trip_s=unit.last_round_trip_s,
            last_error=unit.last_error or link.last_error,
        )

    # Set-up and recovery.

    async def _identify(self, link: Dialogue) -> Identity:
        return parse_identity(self.name, await link.query("*IDN?"))

    async def _identify_anew(self, link: Dialogue) -> Identity:
        """The unit may have restarted: trust no stream."""
        self._interrupt()
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        options = self._options
        await tell(link, "STARt:ENABle ON")
        await self._set_discriminator(link, "STARt", options.start_edge, options.start_threshold_v)
        for number in options.inputs:
            block = f"INPUt{number}"
            await tell(link, f"{block}:ENABle ON")
            await self._set_discriminator(
                link,
                block,
                options.input_edges.get(number),
                options.input_thresholds_v.get(number),
            )
            if number in options.input_delays_ps:
                await tell(link, f"DELAy{number}:INPOrt:LINK INPU{number}")
                await tell(link, f"DELAy{number}:VALUe {options.input_delays_ps[number]}")
        await tell(link, f"{RESTART_REGISTER} {RESTART_MARK}")

    async def _set_discriminator(
        self, link: Dialogue, block: str, edge: Edge | None, threshold_v: float | None
    ) -> None:
        if edge is not None:
            await tell(link, f"{block}:EDGE {edge}")
        if threshold_v is None:
            return
        await tell(link, f"{block}:THREshold {threshold_v:.4f}V")
        question = f"{block}:THREshold?"
        read_v = parse_voltage(self.name, question, await link.query(question))
        if not abs(read_v - threshold_v) <= THRESHOLD_TOLERANCE_V:
            raise ReplyError(
                self.name, f"{block} threshold set to {threshold_v:g} V reads {read_v:g} V"
            )

    async def _set_up_if_restarted(self, link: Dialogue) -> None:
        if not await self._has_restarted(link):
            return
        log.warning("%s: seems to have restarted; setting it up again", self.name)
        self._distrust_streams()
        await self._set_up(link)

    async def _has_restarted(self, link: Dialogue) -> bool:
        question = f"{RESTART_REGISTER}?"
        return parse_count(self.name, question, await link.query(question)) != RESTART_MARK

    def _interrupt(self) -> None:
        self._interruption.cut_short()
        self._distrust_streams()

    def _distrust_streams(self) -> None:
        if self._streams is not None:
            self._streams.distrust()

    # Counting.

    async def _start_counting(self, numbers: Sequence[int], window: int) -> None:
        counters = [*(f"INPUt{number}:COUNter" for number in numbers), "STARt:COUNter"]
        async with self._transport.exclusive() as link:
            self._interruption.arm()
            await self._set_up_if_restarted(link)
            for counter in counters:
                await tell(link, f"{counter}:MODE CYCLE")
                await tell(link, f"{counter}:INTEgrationtime {window}")
            for counter in counters:
                await act(link, f"{counter}:RESEt")

    async def _check_not_restarted(self) -> None:
        """Raise if the unit restarted in mid-window: its counters then read zero, not few."""
        async with self._transport.exclusive() as link:
            if await self._has_restarted(link):
                raise TransportError(self.name, "the unit restarted while it counted")

    async def _wait_for_window(self, window_s: float) -> None:
        """Wait until START, which was reset last, has counted a whole window."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + 2 * window_s + ZERO_GRACE_S
        await self._interruption.wait(window_s)
        while not await self._read_count("STARt:COUNter?") and loop.time() < give_up_s:
            await self._interruption.wait(max(POLL_S, window_s / POLLS_PER_WINDOW))

    async def _read_count(self, question: str) -> int:
        return parse_count(self.name, question, await self._transport.query(question))

    # Recording.

    async def _acquire(
        self, streams: TagStreams, duration_ps: int, numbers: Sequence[int]
    ) -> dict[int, NDArray[np.uint64]]:
        await self._arm(duration_ps)
        settle_s = 0.0
        if not streams.are_up(numbers):
            await streams.set_up(numbers)
            settle_s = STREAM_SETTLE_S
        ids = streams.ids
        recording = asyncio.Event()
        duration_s = duration_ps / PS_PER_S
        total_s = settle_s + duration_s + self._options.transfer_timeout_s
        try:
            async with asyncio.timeout(total_s), asyncio.TaskGroup() as group:
                readers = {
                    number: group.create_task(streams.collect(number, recording))
                    for number in numbers
                }
                await self._interruption.wait(settle_s)
                recording.set()
                await self._record(duration_s)
                await streams.end(ids)
        except TimeoutError as exc:
            late = [number for number, reader in readers.items() if not reader.done()]
            raise TransportError(
                self.name,
                f"time stamps of inputs {late or list(numbers)} were not complete "
                f"{self._options.transfer_timeout_s:g} s after the acquisition",
            ) from exc
        except BaseExceptionGroup as failures:
            error = _instrument_error(failures)
            if error is None:
                raise
            raise error from failures
        self._interruption.check()
        await streams.check_nothing_lost(numbers, ids)
        return {number: readers[number].result() for number in numbers}

    async def _arm(self, duration_ps: int) -> None:
        async with self._transport.exclusive() as link:
            self._interruption.arm()
            await self._set_up_if_restarted(link)
            await act(link, "REC:STOP")
            await tell(link, "REC:TRIG:ARM:MODE MANUal")
            await tell(link, "REC:ENABle ON")
            await tell(link, "REC:NUM 1")
            await tell(link, f"REC:DURation {duration_ps}")

    async def _record(self, duration_s: float) -> None:
        async with self._transport.exclusive() as link:
            await act(link, "REC:PLAY")
        await self._interruption.wait(duration_s)
        while await self._is_playing():
            await self._interruption.wait(POLL_S)

    async def _is_playing(self) -> bool:
        stage = await self._transport.query("REC:STAGe?")
        check_accepted(self.name, "REC:STAGe?", stage)
        return stage.strip().upper() == PLAYING


def _instrument_error(failures: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The first of several failures, if all are instrument errors."""
    known, others = failures.split(InstrumentError)
    return known.exceptions[0] if known is not None and others is None else None
