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
import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from drivers.errors import InstrumentError, RejectedError, ReplyError, SettingError, TransportError
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.registry import register
from drivers.roles import Actuator, Counts, Health, Identity, TimeTags
from drivers.time_taggers.idq_data_link import MESSAGES, DataLink, TagStream
from drivers.time_taggers.idq_id900_options import Edge, Id900Options, host_in
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

PS_PER_S = 1e12
MODEL = re.compile(r"ID[ -]?(900|1000)|TIME ?CONTROLLER", re.IGNORECASE)  # punctuation is weak
SERIAL = re.compile(r"(?:SERIAL|S/?N)\W*(?:NUMBER\W*)?(\w+)", re.IGNORECASE)
WHOLE_NUMBER = re.compile(r"([0-9]{1,18})(?:\s*TB)?", re.IGNORECASE)  # the unit is weak
VOLTAGE = re.compile(r"([+-]?[0-9]{1,6}(?:\.[0-9]{1,9})?)\s*(mV|V)", re.IGNORECASE)
SET_CONFIRMED = "value set to"
# Errors end in SCPI_ERR_...; a bad link answers "No ..." and a failed recalibration says so.
REFUSED = re.compile(r"SCPI_ERR|^No\b|failed", re.IGNORECASE)
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


def parse_identity(instrument: str, reply: str) -> Identity:
    """Read the reply to ``*IDN?``, whose punctuation is weak.

    Raises:
        ReplyError: It names no ID900, ID1000 or Time Controller.
    """
    model = MODEL.search(reply)
    if model is None:
        raise ReplyError(
            instrument,
            "this is no ID900 or ID1000: is it the instrument you configured?",
            sent="*IDN?",
            received=reply,
        )
    match [field.strip() for field in reply.split(",")]:
        case [_, _, serial, firmware]:
            return Identity("ID Quantique", model.group(), serial, firmware)
    serial_number = SERIAL.search(reply)
    return Identity(
        "ID Quantique",
        model.group(),
        serial_number.group(1) if serial_number else "unknown",
        "unknown",
    )


def parse_count(instrument: str, question: str, reply: str) -> int:
    """Read a whole number, as counters, error counters and integration times answer.

    Raises:
        RejectedError: The unit answers with an error.
        ReplyError: Not a whole number.
    """
    check_accepted(instrument, question, reply)
    found = WHOLE_NUMBER.fullmatch(reply.strip())
    if found is None:
        raise ReplyError(instrument, "not a whole number", sent=question, received=reply)
    return int(found.group(1))


def parse_voltage(instrument: str, question: str, reply: str) -> float:
    """Read a voltage such as ``0.500V`` or ``500mV``, V.

    Raises:
        RejectedError: The unit answers with an error.
        ReplyError: Not a voltage with its unit.
    """
    check_accepted(instrument, question, reply)
    found = VOLTAGE.fullmatch(reply.strip())
    if found is None:
        raise ReplyError(instrument, "not a voltage", sent=question, received=reply)
    scale = 1e-3 if found.group(2).lower() == "mv" else 1.0
    return float(found.group(1)) * scale


def check_accepted(instrument: str, sent: str, reply: str) -> None:
    """Raise RejectedError if the reply is one of the unit's ways to refuse."""
    if REFUSED.search(reply.strip()):
        raise RejectedError(instrument, "refused", sent=sent, received=reply)


@register("idq-id900", Id900Options, "high", ("zmq",))
class Id900:
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
        self.name = name
        self._options = options
        self._address = options.controller_address or host_in(resource) or "localhost"
        self._transport = connector.transport(name, resource, MESSAGES, timeout_s=options.timeout_s)
        self._transport.on_reopen = self._take_up_again
        self._data_link: DataLink | None = None
        self._tag_streams: dict[int, TagStream] = {}
        if options.data_link is not None:
            self._data_link = DataLink(name, options.data_link, connector, options.timeout_s)
            self._tag_streams = {
                number: TagStream(
                    name, number, connector.channel(name, options.stream_resource(number))
                )
                for number in options.inputs
            }
        # Ids of the streams that the service has started for us and that are in step, by input.
        self._stream_ids: dict[int, str] = {}
        self._measuring = asyncio.Lock()
        self._interruption = asyncio.Event()

    async def open(self) -> Identity:
        """Open the links, check the model, set up the inputs.

        Raises:
            ReplyError: Not an ID900 or ID1000, or no data link service behind ``data_link``.
            RejectedError: A setting of the inputs was refused.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        async with self._transport.exclusive() as link:
            identity = await self._identify(link)
            await self._set_up(link)
        if self._data_link is not None:
            await self._data_link.open()
        return identity

    async def identify(self) -> Identity:
        """Ask who it is; raises ReplyError for another model."""
        async with self._transport.exclusive() as link:
            return await self._identify(link)

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
        numbers = self._checked_inputs(inputs)
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
            interruption = await self._start_counting(numbers, window)
            await self._wait_for_window(window * INTEGRATION_UNIT_S, interruption)
            counts = {
                number: await self._read_count(f"INPUt{number}:COUNter?") for number in numbers
            }
            await self._check_not_restarted()
            self._check_undisturbed(interruption)
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
        data_link = self._data_link
        if data_link is None:
            raise SettingError(self.name, "time stamps need the option data_link")
        numbers = self._checked_inputs(inputs)
        check_within(self.name, "duration", duration_s, 1 / PS_PER_S, MAX_DURATION_S, "s")
        duration_ps = round(duration_s * PS_PER_S)
        async with self._measuring:
            try:
                tags = await self._acquire(data_link, duration_ps, numbers)
            except BaseException:
                await self._drop_streams()
                raise
        return TimeTags(duration_s=duration_ps / PS_PER_S, since_sync_ps=tags)

    async def make_safe(self) -> None:
        """Stop recording and sending; there is no light here. Breaks off what is measuring."""
        self._interruption.set()
        self._stream_ids.clear()
        stop = partial(self._act, command="REC:STOP")
        mute = [
            partial(self._act, command=f"RAW{number}:SEND OFF") for number in self._options.inputs
        ]
        await carry_out_all(self._transport, [stop, *mute])

    async def close(self) -> None:
        """Close all links; leaves the unit as it is."""
        self._interruption.set()
        await self._drop_streams()
        if self._data_link is not None:
            await self._data_link.close()
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the links have fared: to the unit, with the data link's errors added."""
        unit = self._transport.health()
        if self._data_link is None:
            return unit
        link = self._data_link.health()
        return Health(
            exchanges=unit.exchanges + link.exchanges,
            errors=unit.errors + link.errors,
            reconnects=unit.reconnects + link.reconnects,
            last_round_trip_s=unit.last_round_trip_s,
            last_error=unit.last_error or link.last_error,
        )

    def actuators(self) -> Mapping[str, Actuator]:
        """None: thresholds and delays are set-up, not knobs."""
        return {}

    def _checked_inputs(self, inputs: Sequence[int]) -> tuple[int, ...]:
        numbers = tuple(inputs)
        if (
            not numbers
            or len(set(numbers)) < len(numbers)
            or set(numbers) - set(self._options.inputs)
        ):
            in_use = ", ".join(map(str, self._options.inputs))
            raise SettingError(self.name, f"inputs {numbers} are not some of {in_use}, each once")
        return numbers

    # Set-up and recovery.

    async def _identify(self, link: Dialogue) -> Identity:
        return parse_identity(self.name, await link.query("*IDN?"))

    async def _set_up(self, link: Dialogue) -> None:
        options = self._options
        await self._set(link, "STARt:ENABle ON")
        await self._set_discriminator(link, "STARt", options.start_edge, options.start_threshold_v)
        for number in options.inputs:
            block = f"INPUt{number}"
            await self._set(link, f"{block}:ENABle ON")
            await self._set_discriminator(
                link,
                block,
                options.input_edges.get(number),
                options.input_thresholds_v.get(number),
            )
            if number in options.input_delays_ps:
                await self._set(link, f"DELAy{number}:INPOrt:LINK INPU{number}")
                await self._set(link, f"DELAy{number}:VALUe {options.input_delays_ps[number]}")
        await self._set(link, f"{RESTART_REGISTER} {RESTART_MARK}")

    async def _set_discriminator(
        self, link: Dialogue, block: str, edge: Edge | None, threshold_v: float | None
    ) -> None:
        if edge is not None:
            await self._set(link, f"{block}:EDGE {edge}")
        if threshold_v is None:
            return
        await self._set(link, f"{block}:THREshold {threshold_v:.4f}V")
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
        self._stream_ids.clear()
        await self._set_up(link)

    async def _has_restarted(self, link: Dialogue) -> bool:
        question = f"{RESTART_REGISTER}?"
        return parse_count(self.name, question, await link.query(question)) != RESTART_MARK

    async def _take_up_again(self, link: Dialogue) -> None:
        """After a lost link the unit may have restarted: set it up again, trust no stream."""
        self._interruption.set()
        self._stream_ids.clear()
        await self._identify(link)
        await self._set_up(link)

    # Counting.

    async def _start_counting(self, numbers: Sequence[int], window: int) -> asyncio.Event:
        counters = [*(f"INPUt{number}:COUNter" for number in numbers), "STARt:COUNter"]
        async with self._transport.exclusive() as link:
            await self._set_up_if_restarted(link)
            for counter in counters:
                await self._set(link, f"{counter}:MODE CYCLE")
                await self._set(link, f"{counter}:INTEgrationtime {window}")
            for counter in counters:
                await self._act(link, f"{counter}:RESEt")
            return self._undisturbed_from_now()

    async def _check_not_restarted(self) -> None:
        """Raise if the unit restarted in mid-window: its counters then read zero, not few."""
        async with self._transport.exclusive() as link:
            if await self._has_restarted(link):
                raise TransportError(self.name, "the unit restarted while it counted")

    async def _wait_for_window(self, window_s: float, interruption: asyncio.Event) -> None:
        """Wait until START, which was reset last, has counted a whole window."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + 2 * window_s + ZERO_GRACE_S
        await self._wait(window_s, interruption)
        while not await self._read_count("STARt:COUNter?") and loop.time() < give_up_s:
            await self._wait(max(POLL_S, window_s / POLLS_PER_WINDOW), interruption)

    async def _read_count(self, question: str) -> int:
        return parse_count(self.name, question, await self._transport.query(question))

    # Recording.

    async def _acquire(
        self, data_link: DataLink, duration_ps: int, numbers: Sequence[int]
    ) -> dict[int, NDArray[np.uint64]]:
        interruption = await self._arm(duration_ps)
        settle_s = 0.0
        if set(self._stream_ids) != set(numbers):
            await self._set_up_streams(data_link, numbers)
            settle_s = STREAM_SETTLE_S
        streams = list(self._stream_ids.values())
        recording = asyncio.Event()
        duration_s = duration_ps / PS_PER_S
        total_s = settle_s + duration_s + self._options.transfer_timeout_s
        try:
            async with asyncio.timeout(total_s), asyncio.TaskGroup() as group:
                readers = {
                    number: group.create_task(
                        self._tag_streams[number].collect(recording, self._options.max_tags)
                    )
                    for number in numbers
                }
                await self._wait(settle_s, interruption)
                recording.set()
                await self._record(duration_s, interruption)
                await self._end_streams(data_link, streams)
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
        self._check_undisturbed(interruption)
        await self._check_nothing_lost(data_link, numbers, streams)
        return {number: readers[number].result() for number in numbers}

    async def _arm(self, duration_ps: int) -> asyncio.Event:
        async with self._transport.exclusive() as link:
            await self._set_up_if_restarted(link)
            await self._act(link, "REC:STOP")
            await self._set(link, "REC:TRIG:ARM:MODE MANUal")
            await self._set(link, "REC:ENABle ON")
            await self._set(link, "REC:NUM 1")
            await self._set(link, f"REC:DURation {duration_ps}")
            return self._undisturbed_from_now()

    async def _record(self, duration_s: float, interruption: asyncio.Event) -> None:
        async with self._transport.exclusive() as link:
            await self._act(link, "REC:PLAY")
        await self._wait(duration_s, interruption)
        while await self._is_playing():
            await self._wait(POLL_S, interruption)

    async def _is_playing(self) -> bool:
        stage = await self._transport.query("REC:STAGe?")
        check_accepted(self.name, "REC:STAGe?", stage)
        return stage.strip().upper() == PLAYING

    async def _set_up_streams(self, data_link: DataLink, numbers: Sequence[int]) -> None:
        self._stream_ids.clear()
        async with self._transport.exclusive() as link:
            for number in self._options.inputs:
                await self._act(link, f"RAW{number}:SEND OFF")
        for stream in await data_link.active():
            if stream.startswith(f"{self._address}:"):  # not another controller's
                await data_link.stop(stream)
        for number in numbers:
            await self._tag_streams[number].open()
            async with self._transport.exclusive() as link:
                await self._link_stamps(link, number)
            stream = await data_link.start_stream(
                self._address, number, self._options.stream_port(number)
            )
            async with self._transport.exclusive() as link:
                await self._act(link, f"RAW{number}:SEND ON")
            self._stream_ids[number] = stream

    async def _link_stamps(self, link: Dialogue, number: int) -> None:
        source = "DELA" if number in self._options.input_delays_ps else "INPU"
        await self._set(link, f"RAW{number}:REF:LINK STAR")
        await self._set(link, f"RAW{number}:STOP:LINK {source}{number}")
        await self._act(link, f"RAW{number}:ERRORS:CLEAR")

    async def _end_streams(self, data_link: DataLink, streams: Sequence[str]) -> None:
        """Where only the end of a stream is marked: end it, so that the marks come."""
        if self._options.end_mark == "acquisition":
            return
        for stream in streams:
            await data_link.wait_for_acquisition(stream)
            await data_link.check(stream)
        for stream in streams:
            await data_link.stop(stream)

    async def _check_nothing_lost(
        self, data_link: DataLink, numbers: Sequence[int], streams: Sequence[str]
    ) -> None:
        for number in numbers:
            if n_errors := await self._read_count(f"RAW{number}:ERRORS?"):
                raise ReplyError(
                    self.name,
                    f"{n_errors} errors in the time stamps of input {number}: stamps were lost, "
                    "reduce the rate",
                )
        if self._options.end_mark == "stream":
            self._stream_ids.clear()
            return
        for stream in streams:
            await data_link.check(stream)

    async def _drop_streams(self) -> None:
        self._stream_ids.clear()
        for stream in self._tag_streams.values():
            await stream.close()

    # Interruptions: make_safe and a lost link end a measurement that is under way.

    def _undisturbed_from_now(self) -> asyncio.Event:
        self._interruption = asyncio.Event()
        return self._interruption

    def _check_undisturbed(self, interruption: asyncio.Event) -> None:
        if interruption.is_set():
            raise TransportError(
                self.name, "the measurement was cut short by make_safe or a lost link"
            )

    async def _wait(self, duration_s: float, interruption: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(duration_s):
                await interruption.wait()
        except TimeoutError:
            pass
        self._check_undisturbed(interruption)

    # Requests.

    async def _set(self, link: Dialogue, command: str) -> None:
        """Set a value; the unit confirms every set."""
        reply = await self._act(link, command)
        if SET_CONFIRMED not in reply.lower():
            raise ReplyError(self.name, "not confirmed", sent=command, received=reply)

    async def _act(self, link: Dialogue, command: str) -> str:
        """Do something; the form of the reply is weak, but a refusal shows."""
        with unknown_if_lost(self.name, command):
            reply = await link.query(command)
        check_accepted(self.name, command, reply)
        return reply


def _instrument_error(failures: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The first of several failures, if all are instrument errors."""
    known, others = failures.split(InstrumentError)
    return known.exceptions[0] if known is not None and others is None else None
