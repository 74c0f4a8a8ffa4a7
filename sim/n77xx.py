"""Command set of the Keysight N776x single-mode attenuators: N7761A, N7762A and N7764A.

SCPI lines end in LF both ways. Nothing blocks: ``*OPC?`` answers 0 while a filter or shutter moves,
and ``ATT?`` tells where the filter is. Each attenuator occupies one slot and is followed by an
empty one. The power meters and switches of the family are other instruments.

Assumed, for want of a manual: 0 dB and a shut shutter after power-up and preset unless ``APOW``
says otherwise, the text of ``*OPT?`` for an empty slot, a refusal (-221) of ``ATT`` while power
control is on, and how long zeroing takes. Not modelled: a new command clears an unread reply.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar, Final, Protocol

from sim.record import Record
from sim.scpi import Command, CommandTable, boolean, commands, number
from sim.twin import Twin
from sim.voa import AttenuatorModel
from sim.wire import MAIN, Reply

ATTENUATORS: Final = {"N7761A": 1, "N7762A": 2, "N7764A": 4}
"""Models, and how many attenuators they carry."""

MAXIMUM_DB: Final = 45.0
WAVELENGTH_M: Final = 1550e-9
FULL_SPEED_DB_PER_S: Final = 1000.0
SLOW_SPEED_DB_PER_S: Final = 80.0
"""Fastest speed but full speed; nothing lies between."""

ZEROING_S: Final = 5.0
QUEUE_LENGTH: Final = 30
LONGEST_LINE: Final = 4096

ERRORS: Final = {
    0: "No error",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -241: "Hardware missing",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}

_ZEROING: Final = 1 << 3
_SHUTTER_OPEN: Final = 1 << 4
_OFFSET_ENABLED: Final = 1 << 5


class Attenuator(Protocol):
    """The optics of one slot."""

    def move_to(self, attenuation_db: float, now_s: float) -> None:
        """Send the filter towards an attenuation."""
        ...

    def set_speed(self, speed_db_per_s: float) -> None:
        """Set the transition speed."""
        ...

    def set_shutter(self, is_open: bool, now_s: float) -> None:
        """Shut at once, or begin to open."""
        ...

    def actual_db(self, now_s: float) -> float:
        """Where the filter is, dB."""
        ...

    def shutter_open(self, now_s: float) -> bool:
        """Whether the shutter is open or opening."""
        ...

    def time_left_s(self, now_s: float) -> float:
        """How long filter and shutter still move, s."""
        ...


@dataclass(frozen=True)
class N77xxSettings:
    """One box.

    Attributes:
        model: One of ATTENUATORS.
        manufacturer: ``Agilent Technologies`` on older firmware.
        serial: Serial number.
        firmware: Firmware version.
        slot: Slot whose attenuator sits in the link; the others have optics of their own.
        input_power_dbm: Light at each input, for power control, dBm.
        is_on_link: Whether that attenuator is the one in the link.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "N7764A"
    manufacturer: str = "Keysight Technologies"
    serial: str = "MY49000123"
    firmware: str = "1.18.2764"
    slot: int = 1
    input_power_dbm: float = 0.0
    is_on_link: bool = True

    def __post_init__(self) -> None:
        if self.model not in ATTENUATORS:
            raise ValueError(f"model {self.model!r} is not one of {', '.join(ATTENUATORS)}")
        if self.slot not in self.slots:
            raise ValueError(f"slot {self.slot} of an {self.model} carries no attenuator")

    @property
    def slots(self) -> range:
        """Slots that carry an attenuator: every other one, from 1."""
        return range(1, 2 * ATTENUATORS[self.model], 2)

    @property
    def acts_on(self) -> str | None:
        """The attenuation of the link, if it is in it."""
        return "attenuation" if self.is_on_link else None

    def front_end(self, name: str, twin: Twin, record: Record) -> "N77xx":
        """Build the box, one of its attenuators in the link."""
        slots = {slot: AttenuatorModel() for slot in self.slots}
        if self.is_on_link:
            slots[self.slot] = twin.attenuator
        return N77xx(name, slots, record, self)


@dataclass
class _Slot:
    """One attenuator and its settings."""

    number: int
    optics: Attenuator
    offset_db: float = 0.0
    wavelength_m: float = WAVELENGTH_M
    speed_db_per_s: float = FULL_SPEED_DB_PER_S
    power_dbm: float = 0.0
    power_offset_db: float = 0.0
    averaging_s: float = 0.002
    is_power_controlled: bool = False
    opens_at_power_on: bool = False


@dataclass(frozen=True)
class _Quantity:
    """A number of a slot that can be set and read back."""

    attribute: str
    what: str
    minimum: float
    maximum: float
    unit: str
    units: Mapping[str, float]


_ATTENUATION = _Quantity("", "attenuation", 0.0, MAXIMUM_DB, "dB", {"DB": 1.0})
_METRES: Final = {"M": 1.0, "UM": 1e-6, "NM": 1e-9, "PM": 1e-12}
_SECONDS: Final = {"S": 1.0, "MS": 1e-3}
_QUANTITIES: Final = {
    "INPut#[:CHANnel#]:ATTenuation:SPEed": _Quantity(
        "speed_db_per_s", "speed", 0.1, FULL_SPEED_DB_PER_S, "dB/s", {"DB/S": 1.0}
    ),
    "INPut#[:CHANnel#]:OFFSet": _Quantity("offset_db", "offset", -200.0, 200.0, "dB", {"DB": 1.0}),
    "INPut#[:CHANnel#]:WAVelength": _Quantity(
        "wavelength_m", "wavelength", 1260e-9, 1640e-9, "m", _METRES
    ),
    "OUTPut#[:CHANnel#]:POWer": _Quantity("power_dbm", "power", -100.0, 100.0, "dBm", {"DBM": 1.0}),
    "OUTPut#[:CHANnel#]:POWer:OFFSet": _Quantity(
        "power_offset_db", "power offset", -200.0, 200.0, "dB", {"DB": 1.0}
    ),
    "OUTPut#[:CHANnel#]:ATIMe": _Quantity("averaging_s", "averaging", 0.002, 1.0, "s", _SECONDS),
}


class _RefusedError(Exception):
    """A command ends with this entry in the error queue."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(ERRORS[code])


class N77xx:
    """One box of attenuators, each with a shutter.

    Args:
        name: What the record calls it.
        attenuators: The optics, by each slot that carries any.
        record: Where commands are noted.
        settings: The box.
    """

    def __init__(
        self,
        name: str,
        attenuators: Mapping[int, Attenuator],
        record: Record,
        settings: N77xxSettings | None = None,
    ) -> None:
        self._name = name
        self._record = record
        self._settings = settings or N77xxSettings()
        if set(attenuators) != set(self._settings.slots):
            raise ValueError(f"an {self._settings.model} has {list(self._settings.slots)} in use")
        self._slots = {slot: _Slot(slot, optics) for slot, optics in attenuators.items()}
        self._box_table = CommandTable(self._box_commands())
        self._slot_table = CommandTable(self._slot_commands())
        self._received = bytearray()
        self._errors: deque[int] = deque()
        self._event_status = 0
        self._event_mask = 0
        self._zeroing_until_s = -inf

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the socket; the parser starts at each line feed."""
        self._received += data
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        replies = [reply for line in lines if (reply := self._answer(line, now_s))]
        if len(self._received) > LONGEST_LINE:
            self._received.clear()
            self._queue(-363)
        return replies

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return where filter and shutter of the slot in use are."""
        optics = self._slots[self._settings.slot].optics
        return {
            "attenuation": optics.actual_db(now_s),
            "shutter": optics.shutter_open(now_s),
        }

    def reset_line(self, now_s: float) -> None:
        """Forget half a received line."""
        self._received.clear()

    def power_cycle(self, now_s: float) -> None:
        """Come up with empty queue and default settings; ``APOW`` decides about the shutters."""
        self._received.clear()
        self._errors.clear()
        self._event_status = self._event_mask = 0
        self._restore_defaults(now_s)
        for slot in self._slots.values():
            if slot.opens_at_power_on:
                slot.optics.set_shutter(True, now_s)

    def _answer(self, line: bytes, now_s: float) -> Reply | None:
        answers: list[str] = []
        for command in commands(line.decode("latin-1")):
            try:
                answer = self._obey(command, now_s, is_read_pending=bool(answers))
            except _RefusedError as refusal:
                self._queue(refusal.code)
                self._record.reject(now_s, self._name, command.text)
            else:
                answers += [] if answer is None else [answer]
        return Reply(";".join(answers).encode() + b"\n") if answers else None

    def _obey(self, command: Command, now_s: float, *, is_read_pending: bool) -> str | None:
        if command.header == "*STB?":
            return self._status_byte(is_read_pending=is_read_pending)
        if found := self._box_table.find(command.header):
            return found[0](command.argument, now_s)
        if found_in_slot := self._slot_table.find(command.header):
            do, numbers = found_in_slot
            return do(self._slot(*numbers), command.argument, now_s)
        raise _RefusedError(-113)

    def _slot(self, number: int | None = None, channel: int | None = None) -> _Slot:
        slot = 1 if number is None else number
        if slot in self._slots and channel in (None, 1):
            return self._slots[slot]
        is_empty = slot - 1 in self._slots
        raise _RefusedError(-241 if is_empty else -114)

    def _queue(self, code: int) -> None:
        """Add an error; when the queue is full its last entry says so."""
        self._event_status |= 1 << (5 if -200 < code <= -100 else 4)
        if len(self._errors) == QUEUE_LENGTH:
            self._errors[-1] = -350
        else:
            self._errors.append(code)

    def _box_commands(self) -> dict[str, Callable[[str, float], str | None]]:
        return {
            "*IDN?": self._identify,
            "*OPT?": self._list_slots,
            "*OPC?": self._is_complete,
            "*OPC": self._ignore,
            "*WAI": self._ignore,
            "*TST?": self._self_test,
            "*CLS": self._clear_status,
            "*ESE": self._set_event_mask,
            "*ESE?": self._read_event_mask,
            "*ESR?": self._read_event_status,
            "*RST": self._reset,
            "SYSTem:ERRor[:NEXT]?": self._next_error,
            "SYSTem:PRESet": self._preset,
            "INPut#[:CHANnel#]:ATTenuation:ALL": partial(self._for_all, self._set_attenuation),
            "OUTPut#[:CHANnel#]:STATe:ALL": partial(self._for_all, self._set_shutter),
            "OUTPut#[:CHANnel#]:CORRection:COLLection:ZERO": self._zero,
        }

    def _slot_commands(self) -> dict[str, Callable[[_Slot, str, float], str | None]]:
        input_, output = "INPut#[:CHANnel#]", "OUTPut#[:CHANnel#]"
        table: dict[str, Callable[[_Slot, str, float], str | None]] = {
            "SLOT#:OPC?": self._is_slot_complete,
            "STATus#:OPERation:CONDition?": self._read_condition,
            f"{input_}:ATTenuation": self._set_attenuation,
            f"{input_}:ATTenuation?": self._read_attenuation,
            f"{output}[:STATe]": self._set_shutter,
            f"{output}[:STATe]?": self._read_shutter,
            f"{output}:STATe:APOWeron": self._set_power_on_state,
            f"{output}:STATe:APOWeron?": self._read_power_on_state,
            f"{output}:POWer:CONTrol": self._set_power_control,
            f"{output}:POWer:CONTrol?": self._read_power_control,
        }
        for header, quantity in _QUANTITIES.items():
            table[header] = partial(self._set_quantity, quantity)
            table[header + "?"] = partial(self._read_quantity, quantity)
        return table

    def _identify(self, argument: str, now_s: float) -> str:
        box = self._settings
        return f"{box.manufacturer},{box.model},{box.serial},{box.firmware}"

    def _list_slots(self, argument: str, now_s: float) -> str:
        return ", ,".join([self._settings.model] * len(self._slots)) + ", "

    def _is_complete(self, argument: str, now_s: float) -> str:
        return _flag(not any(self._is_busy(slot, now_s) for slot in self._slots.values()))

    def _is_slot_complete(self, slot: _Slot, argument: str, now_s: float) -> str:
        return _flag(not self._is_busy(slot, now_s))

    def _is_busy(self, slot: _Slot, now_s: float) -> bool:
        return self._is_zeroing(now_s) or slot.optics.time_left_s(now_s) > 0

    def _is_zeroing(self, now_s: float) -> bool:
        return now_s < self._zeroing_until_s

    def _ignore(self, argument: str, now_s: float) -> None:
        return None

    def _self_test(self, argument: str, now_s: float) -> str:
        return "0"

    def _status_byte(self, *, is_read_pending: bool) -> str:
        bits = (1 << 2) * bool(self._errors)
        bits |= (1 << 4) * is_read_pending
        return str(bits | (1 << 5) * bool(self._event_status & self._event_mask))

    def _clear_status(self, argument: str, now_s: float) -> None:
        self._errors.clear()
        self._event_status = 0

    def _set_event_mask(self, argument: str, now_s: float) -> None:
        self._event_mask = int(_within(_number(argument), 0, 255))

    def _read_event_mask(self, argument: str, now_s: float) -> str:
        return str(self._event_mask)

    def _read_event_status(self, argument: str, now_s: float) -> str:
        status, self._event_status = self._event_status, 0
        return str(status)

    def _next_error(self, argument: str, now_s: float) -> str:
        code = self._errors.popleft() if self._errors else 0
        return f'{code:+d},"{ERRORS[code]}"'

    def _read_condition(self, slot: _Slot, argument: str, now_s: float) -> str:
        bits = _SHUTTER_OPEN * slot.optics.shutter_open(now_s)
        bits |= _ZEROING * self._is_zeroing(now_s)
        return str(bits | _OFFSET_ENABLED * (slot.offset_db != 0))

    def _reset(self, argument: str, now_s: float) -> None:
        """Restore defaults, the saved ones too."""
        for slot in self._slots.values():
            slot.opens_at_power_on = False
        self._preset(argument, now_s)

    def _preset(self, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "preset", "defaults")
        self._restore_defaults(now_s)

    def _restore_defaults(self, now_s: float) -> None:
        self._zeroing_until_s = -inf
        for slot in self._slots.values():
            self._slots[slot.number] = _Slot(
                slot.number, slot.optics, opens_at_power_on=slot.opens_at_power_on
            )
            slot.optics.set_shutter(False, now_s)
            slot.optics.set_speed(FULL_SPEED_DB_PER_S)
            slot.optics.move_to(0.0, now_s)

    def _zero(self, argument: str, now_s: float) -> None:
        """Stop every filter and shut every shutter in the box, for a while."""
        self._record.tell(now_s, self._name, "zero", "monitors")
        self._zeroing_until_s = now_s + ZEROING_S
        for slot in self._slots.values():
            slot.optics.set_shutter(False, now_s)
            slot.optics.move_to(slot.optics.actual_db(now_s), now_s)

    def _for_all(
        self, do: Callable[[_Slot, str, float], None], argument: str, now_s: float
    ) -> None:
        for slot in self._slots.values():
            do(slot, argument, now_s)

    def _set_attenuation(self, slot: _Slot, argument: str, now_s: float) -> None:
        bounds = {"MIN": 0.0, "DEF": 0.0, "MAX": MAXIMUM_DB}
        filter_db = bounds.get(argument.upper())
        if filter_db is None:
            filter_db = _number(argument, _ATTENUATION.units) - slot.offset_db
        self._tell(slot, _ATTENUATION, filter_db, now_s)
        if slot.is_power_controlled or self._is_zeroing(now_s):
            raise _RefusedError(-221)
        slot.optics.move_to(_within(filter_db, 0.0, MAXIMUM_DB), now_s)

    def _read_attenuation(self, slot: _Slot, argument: str, now_s: float) -> str:
        actual_db = slot.optics.actual_db(now_s)
        readings = {"": actual_db, "MIN": 0.0, "DEF": 0.0, "MAX": MAXIMUM_DB}
        if argument.upper() not in readings:
            raise _RefusedError(-224)
        return _real(readings[argument.upper()] + slot.offset_db)

    def _set_shutter(self, slot: _Slot, argument: str, now_s: float) -> None:
        is_open = _boolean(argument)
        self._record.tell(now_s, self._name, "shutter", float(is_open), channel=slot.number)
        if self._is_zeroing(now_s):
            raise _RefusedError(-221)
        slot.optics.set_shutter(is_open, now_s)

    def _read_shutter(self, slot: _Slot, argument: str, now_s: float) -> str:
        return _flag(slot.optics.shutter_open(now_s))

    def _set_power_on_state(self, slot: _Slot, argument: str, now_s: float) -> None:
        slot.opens_at_power_on = _boolean(argument)

    def _read_power_on_state(self, slot: _Slot, argument: str, now_s: float) -> str:
        return _flag(slot.opens_at_power_on)

    def _set_power_control(self, slot: _Slot, argument: str, now_s: float) -> None:
        is_on = _boolean(argument)
        self._record.tell(now_s, self._name, "power control", float(is_on), channel=slot.number)
        slot.is_power_controlled = is_on
        self._control_power(slot, now_s)

    def _read_power_control(self, slot: _Slot, argument: str, now_s: float) -> str:
        return _flag(slot.is_power_controlled)

    def _control_power(self, slot: _Slot, now_s: float) -> None:
        """Let the closed loop choose the attenuation by itself."""
        if not slot.is_power_controlled:
            return
        wanted_db = self._settings.input_power_dbm + slot.power_offset_db - slot.power_dbm
        filter_db = min(max(wanted_db, 0.0), MAXIMUM_DB)
        self._tell(slot, _ATTENUATION, filter_db, now_s)
        slot.optics.move_to(filter_db, now_s)

    def _set_quantity(self, quantity: _Quantity, slot: _Slot, argument: str, now_s: float) -> None:
        words = {"MIN": quantity.minimum, "MAX": quantity.maximum}
        value = words.get(argument.upper())
        if value is None:
            value = _number(argument, quantity.units)
        self._tell(slot, quantity, value, now_s)
        _within(value, quantity.minimum, quantity.maximum)
        if quantity.what == "speed" and SLOW_SPEED_DB_PER_S < value < FULL_SPEED_DB_PER_S:
            raise _RefusedError(-222)
        setattr(slot, quantity.attribute, value)
        slot.optics.set_speed(slot.speed_db_per_s)
        self._control_power(slot, now_s)

    def _read_quantity(self, quantity: _Quantity, slot: _Slot, argument: str, now_s: float) -> str:
        return _real(getattr(slot, quantity.attribute))

    def _tell(self, slot: _Slot, quantity: _Quantity, value: float, now_s: float) -> None:
        self._record.tell(now_s, self._name, quantity.what, value, quantity.unit, slot.number)


def _number(text: str, units: Mapping[str, float] | None = None) -> float:
    if not text:
        raise _RefusedError(-109)
    value = number(text, units)
    if value is None:
        raise _RefusedError(-224)
    return value


def _boolean(text: str) -> bool:
    if not text:
        raise _RefusedError(-109)
    value = boolean(text)
    if value is None:
        raise _RefusedError(-224)
    return value


def _within(value: float, minimum: float, maximum: float) -> float:
    if not minimum <= value <= maximum:
        raise _RefusedError(-222)
    return value


def _flag(value: bool) -> str:
    return str(int(value))


def _real(value: float) -> str:
    """Format a number as the box does: ``+1.23400000E+001``."""
    mantissa, exponent = f"{value:+.8E}".split("E")
    return f"{mantissa}E{int(exponent):+04d}"
