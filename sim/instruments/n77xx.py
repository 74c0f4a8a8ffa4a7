"""Command set of the Keysight N776x single-mode attenuators: N7761A, N7762A and N7764A.

SCPI lines end in LF both ways. Nothing blocks: ``*OPC?`` answers 0 while a filter or shutter moves,
and ``ATT?`` tells where the filter is. Each attenuator occupies one slot and is followed by an
empty one. The power meters and switches of the family are other instruments.

Assumed, for want of a manual: 0 dB and a shut shutter after power-up and preset unless ``APOW``
says otherwise, the text of ``*OPT?`` for an empty slot, a refusal (-221) of ``ATT`` while power
control is on, and how long zeroing takes. Not modelled: a new command clears an unread reply.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final

from sim.instruments.attenuator import AttenuatorSettings, ShutteredFilter
from sim.record import Record
from sim.scpi_unit import (
    Answer,
    RefusedError,
    ScpiUnit,
    flag,
    real,
    required_boolean,
    required_number,
    within,
)
from sim.twin import Twin
from sim.voa import AttenuatorModel

ATTENUATORS: Final = {"N7761A": 1, "N7762A": 2, "N7764A": 4}
"""Models, and how many attenuators they carry."""

MAXIMUM_DB: Final = 45.0
WAVELENGTH_M: Final = 1550e-9
FULL_SPEED_DB_PER_S: Final = 1000.0
SLOW_SPEED_DB_PER_S: Final = 80.0
"""Fastest speed but full speed; nothing lies between."""

ZEROING_S: Final = 5.0

_ZEROING: Final = 1 << 3
_SHUTTER_OPEN: Final = 1 << 4
_OFFSET_ENABLED: Final = 1 << 5


@dataclass(frozen=True)
class N77xxSettings(AttenuatorSettings):
    """One box.

    Attributes:
        model: One of ATTENUATORS.
        manufacturer: ``Agilent Technologies`` on older firmware.
        serial: Serial number.
        firmware: Firmware version.
        slot: Slot whose attenuator sits in the link; the others have optics of their own.
        input_power_dbm: Light at each input, for power control, dBm.
    """

    model: str = "N7764A"
    manufacturer: str = "Keysight Technologies"
    serial: str = "MY49000123"
    firmware: str = "1.18.2764"
    slot: int = 1
    input_power_dbm: float = 0.0

    def __post_init__(self) -> None:
        if self.model not in ATTENUATORS:
            raise ValueError(f"model {self.model!r} is not one of {', '.join(ATTENUATORS)}")
        if self.slot not in self.slots:
            raise ValueError(f"slot {self.slot} of an {self.model} carries no attenuator")

    @property
    def slots(self) -> range:
        """Slots that carry an attenuator: every other one, from 1."""
        return range(1, 2 * ATTENUATORS[self.model], 2)

    def front_end(self, name: str, twin: Twin, record: Record) -> "N77xx":
        """Build the box, one of its attenuators in the link."""
        beside = {slot: AttenuatorModel() for slot in self.slots}
        return N77xx(name, {**beside, self.slot: self.optics(twin, MAXIMUM_DB)}, record, self)


@dataclass
class _Slot:
    """One attenuator and its settings."""

    number: int
    optics: ShutteredFilter
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


class N77xx(ScpiUnit):
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
        attenuators: Mapping[int, ShutteredFilter],
        record: Record,
        settings: N77xxSettings | None = None,
    ) -> None:
        super().__init__(name, record, self._commands())
        self._settings = settings or N77xxSettings()
        if set(attenuators) != set(self._settings.slots):
            raise ValueError(f"an {self._settings.model} has {list(self._settings.slots)} in use")
        self._slots = {slot: _Slot(slot, optics) for slot, optics in attenuators.items()}
        self._event_status = 0
        self._event_mask = 0
        self._zeroing_until_s = -inf

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return where filter and shutter of the slot in use are."""
        optics = self._slots[self._settings.slot].optics
        return {
            "attenuation": optics.actual_db(now_s),
            "shutter": optics.shutter_open(now_s),
        }

    def _start(self, now_s: float) -> None:
        """Come up with default settings; ``APOW`` decides about the shutters."""
        self._event_status = self._event_mask = 0
        self._restore_defaults(now_s)
        for slot in self._slots.values():
            if slot.opens_at_power_on:
                slot.optics.set_shutter(True, now_s)

    def _slot(self, number: int | None = None, channel: int | None = None) -> _Slot:
        slot = 1 if number is None else number
        if slot in self._slots and channel in (None, 1):
            return self._slots[slot]
        is_empty = slot - 1 in self._slots
        raise RefusedError(-241 if is_empty else -114)

    def _queue(self, code: int) -> None:
        self._event_status |= 1 << (5 if -200 < code <= -100 else 4)
        super()._queue(code)

    def _commands(self) -> dict[str, Callable[..., Answer]]:
        input_, output = "INPut#[:CHANnel#]", "OUTPut#[:CHANnel#]"
        table: dict[str, Callable[..., Answer]] = {
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
            "*STB?": self._read_status_byte,
            "*RST": self._reset,
            "SYSTem:ERRor[:NEXT]?": self._next_error,
            "SYSTem:PRESet": self._preset,
            f"{input_}:ATTenuation:ALL": partial(self._in_all, self._set_attenuation),
            f"{output}:STATe:ALL": partial(self._in_all, self._set_shutter),
            f"{output}:CORRection:COLLection:ZERO": self._zero,
        }
        of_slots: dict[str, Callable[[_Slot, str, float], str | None]] = {
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
            of_slots[header] = partial(self._set_quantity, quantity)
            of_slots[header + "?"] = partial(self._read_quantity, quantity)
        return table | {header: partial(self._in_slot, do) for header, do in of_slots.items()}

    def _in_slot(
        self,
        do: Callable[[_Slot, str, float], str | None],
        argument: str,
        now_s: float,
        *numbers: int | None,
    ) -> str | None:
        return do(self._slot(*numbers), argument, now_s)

    def _in_all(
        self,
        do: Callable[[_Slot, str, float], None],
        argument: str,
        now_s: float,
        *numbers: int | None,
    ) -> None:
        for slot in self._slots.values():
            do(slot, argument, now_s)

    def _identify(self, argument: str, now_s: float) -> str:
        box = self._settings
        return f"{box.manufacturer},{box.model},{box.serial},{box.firmware}"

    def _list_slots(self, argument: str, now_s: float) -> str:
        return ", ,".join([self._settings.model] * len(self._slots)) + ", "

    def _is_complete(self, argument: str, now_s: float) -> str:
        return flag(not any(self._is_busy(slot, now_s) for slot in self._slots.values()))

    def _is_slot_complete(self, slot: _Slot, argument: str, now_s: float) -> str:
        return flag(not self._is_busy(slot, now_s))

    def _is_busy(self, slot: _Slot, now_s: float) -> bool:
        return self._is_zeroing(now_s) or slot.optics.time_left_s(now_s) > 0

    def _is_zeroing(self, now_s: float) -> bool:
        return now_s < self._zeroing_until_s

    def _ignore(self, argument: str, now_s: float) -> None:
        return None

    def _self_test(self, argument: str, now_s: float) -> str:
        return "0"

    def _read_status_byte(self, argument: str, now_s: float) -> str:
        bits = (1 << 2) * bool(self._errors)
        bits |= (1 << 4) * bool(self._answers)
        return str(bits | (1 << 5) * bool(self._event_status & self._event_mask))

    def _clear_status(self, argument: str, now_s: float) -> None:
        super()._clear_status(argument, now_s)
        self._event_status = 0

    def _set_event_mask(self, argument: str, now_s: float) -> None:
        self._event_mask = int(within(required_number(argument), 0, 255))

    def _read_event_mask(self, argument: str, now_s: float) -> str:
        return str(self._event_mask)

    def _read_event_status(self, argument: str, now_s: float) -> str:
        status, self._event_status = self._event_status, 0
        return str(status)

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

    def _zero(self, argument: str, now_s: float, *numbers: int | None) -> None:
        """Stop every filter and shut every shutter in the box, for a while."""
        self._record.tell(now_s, self._name, "zero", "monitors")
        self._zeroing_until_s = now_s + ZEROING_S
        for slot in self._slots.values():
            slot.optics.set_shutter(False, now_s)
            slot.optics.move_to(slot.optics.actual_db(now_s), now_s)

    def _set_attenuation(self, slot: _Slot, argument: str, now_s: float) -> None:
        bounds = {"MIN": 0.0, "DEF": 0.0, "MAX": MAXIMUM_DB}
        filter_db = bounds.get(argument.upper())
        if filter_db is None:
            filter_db = required_number(argument, _ATTENUATION.units) - slot.offset_db
        self._tell(slot, _ATTENUATION, filter_db, now_s)
        if slot.is_power_controlled or self._is_zeroing(now_s):
            raise RefusedError(-221)
        slot.optics.move_to(within(filter_db, 0.0, MAXIMUM_DB), now_s)

    def _read_attenuation(self, slot: _Slot, argument: str, now_s: float) -> str:
        actual_db = slot.optics.actual_db(now_s)
        readings = {"": actual_db, "MIN": 0.0, "DEF": 0.0, "MAX": MAXIMUM_DB}
        if argument.upper() not in readings:
            raise RefusedError(-224)
        return real(readings[argument.upper()] + slot.offset_db, 8)

    def _set_shutter(self, slot: _Slot, argument: str, now_s: float) -> None:
        is_open = required_boolean(argument)
        self._record.tell(now_s, self._name, "shutter", float(is_open), channel=slot.number)
        if self._is_zeroing(now_s):
            raise RefusedError(-221)
        slot.optics.set_shutter(is_open, now_s)

    def _read_shutter(self, slot: _Slot, argument: str, now_s: float) -> str:
        return flag(slot.optics.shutter_open(now_s))

    def _set_power_on_state(self, slot: _Slot, argument: str, now_s: float) -> None:
        slot.opens_at_power_on = required_boolean(argument)

    def _read_power_on_state(self, slot: _Slot, argument: str, now_s: float) -> str:
        return flag(slot.opens_at_power_on)

    def _set_power_control(self, slot: _Slot, argument: str, now_s: float) -> None:
        is_on = required_boolean(argument)
        self._record.tell(now_s, self._name, "power control", float(is_on), channel=slot.number)
        slot.is_power_controlled = is_on
        self._control_power(slot, now_s)

    def _read_power_control(self, slot: _Slot, argument: str, now_s: float) -> str:
        return flag(slot.is_power_controlled)

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
            value = required_number(argument, quantity.units)
        self._tell(slot, quantity, value, now_s)
        within(value, quantity.minimum, quantity.maximum)
        if quantity.what == "speed" and SLOW_SPEED_DB_PER_S < value < FULL_SPEED_DB_PER_S:
            raise RefusedError(-222)
        setattr(slot, quantity.attribute, value)
        slot.optics.set_speed(slot.speed_db_per_s)
        self._control_power(slot, now_s)

    def _read_quantity(self, quantity: _Quantity, slot: _Slot, argument: str, now_s: float) -> str:
        return real(getattr(slot, quantity.attribute), 8)

    def _tell(self, slot: _Slot, quantity: _Quantity, value: float, now_s: float) -> None:
        self._record.tell(now_s, self._name, quantity.what, value, quantity.unit, slot.number)
