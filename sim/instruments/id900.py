"""Command set of the ID Quantique ID900 / ID1000 Time Controller.

Ports: ``main`` speaks SCPI, one string a message, and answers every message, sets included;
``datalink`` is the DataLink service; ``stream-1`` to ``stream-4`` carry time stamps, little-endian
unsigned 64-bit picoseconds since the last START event. Modelled are the inputs with their counters,
the delays, the record generator and the time-stamp blocks; histograms, coincidences and the other
generators are not, nor time stamps without a reference.

Assumed, for want of a manual: that ``DURation`` and ``PWIDth`` are one register, that inputs are
off after power-up, that numbers with a time base read back with ``TB`` outside of dumps too, the
texts of ``*IDN?`` and of the answers to ``PLAY``, ``STOP``, ``CLEAR`` and ``RECAlibrate``, and that
a counter's first window after a reset is the first to begin after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from sim.instruments import id900_blocks as blocks
from sim.instruments.id900_blocks import (
    CHANNELS,
    DELAY_BLOCKS,
    INVALID_COMMAND,
    PARAMETER_TYPE,
    REFUSALS,
    Delay,
    Device,
    Input,
    Register,
    TimeStamps,
)
from sim.instruments.id900_counters import Counters, Counts
from sim.instruments.id900_datalink import DATALINK, DataLink, EmptyMessage, stream_port
from sim.instruments.id900_recorder import Recorder, Tags
from sim.record import Record
from sim.scpi import Command, CommandTable, commands
from sim.twin import Twin
from sim.wire import MAIN, Reply

_BAD_THRESHOLD: Final = 1003


class Detections(Tags, Counts, Protocol):
    """What arrives at the inputs."""


@dataclass(frozen=True)
class Id900Settings:
    """One unit, and the pulses at its inputs.

    Attributes:
        serial: Serial number.
        model: Model that ``*IDN?`` names.
        firmware: Firmware version.
        pulse_v: Height of the detectors' pulses; a threshold above it sees none, V.
        noise_v: Noise at the inputs; a threshold below it is an error, V.
        inputs_on_at_power_up: Whether inputs and START come up enabled.
        window_phase: Where the counters' windows lie on the host's clock, in windows, 0 to 1.
        empty_message_ends: What an empty message on a stream ends.
        tags_per_message: Largest number of time stamps in one message of a stream.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN, DATALINK, *(stream_port(n) for n in CHANNELS))

    serial: str = "2020090173"
    model: str = "ID900"
    firmware: str = "1.36.1"
    pulse_v: float = 2.0
    noise_v: float = 0.02
    inputs_on_at_power_up: bool = False
    window_phase: float = 0.37
    empty_message_ends: EmptyMessage = "acquisition"
    tags_per_message: int = 1 << 17

    def front_end(self, name: str, twin: Twin, record: Record) -> "Id900":
        """Build the unit behind the link's detectors."""
        return Id900(name, twin, record, self)


class Id900:
    """One time controller.

    Args:
        name: What the record calls it.
        detections: What arrives at the inputs.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        detections: Detections,
        record: Record,
        settings: Id900Settings | None = None,
    ) -> None:
        self._name = name
        self._detections = detections
        self._record = record
        self._settings = settings or Id900Settings()
        self._table = CommandTable(self._command_table())
        self._datalink = DataLink(
            self._settings.empty_message_ends, self._settings.tags_per_message
        )
        self._start(0.0)

    def use_stream_ports(self, stream_ports: Mapping[int, int]) -> None:
        """Tell the DataLink service which TCP port serves which channel's stream."""
        self._datalink.stream_ports = stream_ports

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take one message; streams take none."""
        replies = self.tick(now_s)
        text = data.decode("utf-8", "replace")
        if port == MAIN:
            answer = Reply(self._answer(text, now_s).encode())
            replies += [*self._outgoing, answer]
            self._outgoing.clear()
        elif port == DATALINK:
            replies += self._datalink.request(text, now_s)
        return replies

    def reset_line(self, now_s: float) -> None:
        """Forget nothing: messages come whole."""

    def power_cycle(self, now_s: float) -> None:
        """Come up with default settings; the DataLink service runs elsewhere and goes on."""
        self._start(now_s)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return whether it records, and whether any time stamps go out."""
        sends = any(each.sends for each in self._stamps.values())
        return {"records": self._recorder.is_playing, "sends": sends}

    def due_s(self) -> float | None:
        """Return when the unit next acts by itself, or None."""
        due = (self._recorder.due_s(), self._counters.due_s())
        return min((each for each in due if each is not None), default=None)

    def tick(self, now_s: float) -> list[Reply]:
        """Do what is due by a time, and return what that puts on the streams.

        In order of time: the optics remember a limited past.
        """
        replies: list[Reply] = []
        while (due_s := self.due_s()) is not None and due_s <= now_s:
            self._counters.advance(due_s)
            replies += self._recorder.advance(due_s)
        return replies

    def _start(self, now_s: float) -> None:
        on = self._settings.inputs_on_at_power_up
        self._inputs = {n: Input(n, now_s, enabled=on) for n in (0, *CHANNELS)}
        self._delays = {n: Delay(n) for n in DELAY_BLOCKS}
        self._stamps = {n: TimeStamps(n) for n in CHANNELS}
        self._device = Device()
        self._outgoing: list[Reply] = []
        self._recorder = Recorder(
            self._detections,
            self._inputs,
            self._delays,
            self._stamps,
            self._datalink,
            self._sees_pulses,
        )
        self._counters = Counters(
            self._detections, self._inputs, self._sees_pulses, self._settings.window_phase
        )

    def _answer(self, text: str, now_s: float) -> str:
        """Carry out the commands of a message, up to the first that fails."""
        parts: list[str] = []
        for command in commands(text):
            parts.append(self._obey(command, now_s))
            if parts[-1] in REFUSALS:
                self._record.reject(now_s, self._name, command.text)
                break
        return ";".join(parts) or INVALID_COMMAND

    def _obey(self, command: Command, now_s: float) -> str:
        found = self._table.find(command.header)
        if found is None:
            return INVALID_COMMAND
        do, numbers = found
        return do(command.argument, now_s, *numbers)

    def _command_table(self) -> dict[str, Callable[..., str]]:
        table: dict[str, Callable[..., str]] = {
            "*IDN?": self._identify,
            "INPUt#:STATe?": self._dump_input,
            "STARt:STATe?": self._dump_input,
            "INPUt#:COUNter?": self._read_counter,
            "STARt:COUNter?": self._read_counter,
            "INPUt#:COUNter:RESEt": self._reset_counter,
            "STARt:COUNter:RESEt": self._reset_counter,
            "INPUt#:HIREs:ERROr?": self._read_resolution_error,
            "INPUt#:HIREs:ERROr:CLEAr": self._clear_resolution_error,
            "DELAy#:STATe?": self._dump_delay,
            "DEVIce:STATe?": self._dump_device,
            "DEVIce:SAMPling:RECAlibrate": self._recalibrate,
            "DEVIce:CONFiguration:LOAD": self._load_configuration,
            "RECord:PLAY": self._begin,
            "RECord:STOP": self._stop,
            "RECord:STAGe?": self._read_stage,
            "RAW#:ERROrs?": self._read_errors,
            "RAW#:ERROrs:CLEAr": self._clear_errors,
        }
        for header, register in blocks.INPUT_REGISTERS.items():
            table |= self._register(f"INPUt#:{header}", register, self._input)
            table |= self._register(f"STARt:{header}", register, self._input)
        for header, register, find in (
            ("INPUt#:RESYncpolicy", blocks.RESYNC, self._input),
            ("STARt:DELAy", blocks.START_DELAY, self._input),
            ("DELAy#[:INPOrt]:LINK", blocks.DELAY_LINK, self._delay),
            ("DELAy#:VALUe", blocks.DELAY_VALUE, self._delay),
            ("RAW#[:INPOrt]:REF:LINK", blocks.REFERENCE, self._stamp),
            ("RAW#[:INPOrt]:STOP:LINK", blocks.STOP, self._stamp),
            ("RAW#:SEND", blocks.SENDS, self._stamp),
            ("DEVIce:SYNC", blocks.DEVICE_SYNC, lambda: self._device),
            ("DEVIce:RESolution", blocks.DEVICE_RESOLUTION, lambda: self._device),
            ("RECord:TRIGger:ARM:MODE", blocks.ARM_MODE, lambda: self._recorder.generator),
            ("RECord:ENABle", blocks.GENERATOR_ENABLED, lambda: self._recorder.generator),
            ("RECord:NUMber", blocks.REPEATS, lambda: self._recorder.generator),
            ("RECord:DURation", blocks.WIDTH, lambda: self._recorder.generator),
            ("RECord:PWIDth", blocks.WIDTH, lambda: self._recorder.generator),
            ("RECord:PPERiod", blocks.PERIOD, lambda: self._recorder.generator),
        ):
            table |= self._register(header, register, find)
        return table

    def _register(
        self, header: str, register: Register, find: Callable[..., Any]
    ) -> dict[str, Callable[..., str]]:
        return {
            header: partial(self._set, register, find),
            f"{header}?": partial(self._show, register, find),
        }

    def _set(
        self,
        register: Register,
        find: Callable[..., Any],
        argument: str,
        now_s: float,
        *numbers: int | None,
    ) -> str:
        block = find(*numbers)
        if block is None:
            return INVALID_COMMAND
        value = register.read(argument)
        if value is None:
            return register.refusal
        setattr(block, register.attribute, value)
        if isinstance(block, Input):
            block.restart(now_s)
        told = value if isinstance(value, float) else register.show(value)
        self._record.tell(now_s, self._name, register.attribute, told, channel=block.number)
        return f"Value set to {register.show(value)}"

    def _show(
        self,
        register: Register,
        find: Callable[..., Any],
        argument: str,
        now_s: float,
        *numbers: int | None,
    ) -> str:
        block = find(*numbers)
        return (
            INVALID_COMMAND if block is None else register.show(getattr(block, register.attribute))
        )

    def _input(self, *numbers: int | None) -> Input | None:
        """Find an input by its number, START where the header has none."""
        if not numbers:
            return self._inputs[0]
        return self._inputs[numbers[0]] if numbers[0] in CHANNELS else None

    def _delay(self, n: int | None) -> Delay | None:
        return self._delays.get(n or 0)

    def _stamp(self, n: int | None) -> TimeStamps | None:
        return self._stamps.get(n or 0)

    def _identify(self, argument: str, now_s: float) -> str:
        return (
            f"ID Quantique,{self._settings.model},{self._settings.serial},{self._settings.firmware}"
        )

    def _dump_input(self, argument: str, now_s: float, *numbers: int | None) -> str:
        each = self._input(*numbers)
        return INVALID_COMMAND if each is None else each.dump()

    def _dump_delay(self, argument: str, now_s: float, n: int | None) -> str:
        delay = self._delay(n)
        return INVALID_COMMAND if delay is None else delay.dump()

    def _dump_device(self, argument: str, now_s: float) -> str:
        return self._device.dump()

    def _recalibrate(self, argument: str, now_s: float) -> str:
        self._record.tell(now_s, self._name, "recalibrate", "sampling")
        return "Recalibration done"

    def _load_configuration(self, argument: str, now_s: float) -> str:
        if argument.upper() not in ("INIT", "HISTO", "COUNT", "BLANK"):
            return PARAMETER_TYPE
        self._record.tell(now_s, self._name, "configuration", argument.upper())
        self._start(now_s)
        return f"Value set to {argument.upper()}"

    def _read_counter(self, argument: str, now_s: float, *numbers: int | None) -> str:
        each = self._input(*numbers)
        return INVALID_COMMAND if each is None else str(self._counters.read(each, now_s))

    def _reset_counter(self, argument: str, now_s: float, *numbers: int | None) -> str:
        each = self._input(*numbers)
        if each is None:
            return INVALID_COMMAND
        each.restart(now_s)
        self._record.tell(now_s, self._name, "counter reset", "0", channel=each.number)
        return "Counter value set to 0 "

    def _sees_pulses(self, each: Input) -> bool:
        return each.enabled and self._settings.noise_v < each.threshold_v < self._settings.pulse_v

    def _read_resolution_error(self, argument: str, now_s: float, n: int | None) -> str:
        each = self._input(n)
        if each is None:
            return INVALID_COMMAND
        is_bad = each.enabled and each.threshold_v <= self._settings.noise_v
        return str(_BAD_THRESHOLD if is_bad else 0)

    def _clear_resolution_error(self, argument: str, now_s: float, n: int | None) -> str:
        return INVALID_COMMAND if self._input(n) is None else "Cleared Highres errors"

    def _begin(self, argument: str, now_s: float) -> str:
        self._record.tell(now_s, self._name, "record", "PLAY")
        self._recorder.begin(now_s)
        return "Value set to PLAY"

    def _stop(self, argument: str, now_s: float) -> str:
        self._record.tell(now_s, self._name, "record", "STOP")
        self._outgoing += self._recorder.stop(now_s)
        return "Value set to STOP"

    def _read_stage(self, argument: str, now_s: float) -> str:
        return "PLAYING" if self._recorder.is_playing else "IDLE"

    def _read_errors(self, argument: str, now_s: float, n: int | None) -> str:
        stamps = self._stamp(n)
        return INVALID_COMMAND if stamps is None else str(stamps.errors)

    def _clear_errors(self, argument: str, now_s: float, n: int | None) -> str:
        stamps = self._stamp(n)
        if stamps is None:
            return INVALID_COMMAND
        stamps.errors = 0
        return "Cleared errors"
