"""Message set of the Thorlabs MPC320 / MPC220 motorised paddles: APT binary on a serial line.

Messages have a header of six bytes, little-endian, and long ones data behind it. The unit turns one
paddle after the other, in the order in which it was told to, and says when each has arrived. A
target for a paddle whose motor is off is remembered and carried out as a jump when the motor goes
on. A unit whose messages nobody acknowledges falls silent after some tens of them.

Assumed, for want of a manual: motors off and paddles not homed at power-up, positions then counted
from where each paddle stands; homing by way of the end of the travel; speed and home position back
to their defaults; a target beyond the travel is not carried out and shows as a position error until
the next move; an enable byte other than 1 switches the channels of the mask off; an acknowledgement
brings a silent unit back.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from sim.instruments.mpc320_motors import (
    TRAVEL_STEPS,
    TURNING_CCW,
    TURNING_CW,
    Motor,
    Motors,
    Paddles,
    degrees,
    position,
)
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

MODELS: Final = {"MPC220": 2, "MPC320": 3}
"""Models, and how many paddles they have."""

UPDATE_S: Final = 0.1
SILENT_AFTER: Final = 50
"""Messages that a unit sends without being acknowledged."""

HOST: Final = 0x01
UNIT: Final = 0x50
LONGEST_DATA: Final = 255

_HEADER: Final = struct.Struct("<HBBBB")
_INFO: Final = struct.Struct("<I8sH4B60sHHH")
_PARAMETERS: Final = struct.Struct("<6H")
_TYPE: Final = 44
_BAUD_RATE: Final = 115200
_BITS_PER_BYTE: Final = 10
_MOTOR_MA: Final = 120


@dataclass(frozen=True)
class Mpc320Settings:
    """One unit.

    Attributes:
        model: One of MODELS.
        serial: Serial number.
        firmware: Major, interim and minor number.
        full_speed_deg_per_s: Speed at 100 %, degrees/s.
        velocity_percent: Speed at power-up, %.
        home_steps: Home position at power-up, steps.
        jog_steps: Length of a jog at power-up, steps.
        counter_offset_steps: What the position counter shows too much, steps.
        is_homed_at_power_up: Whether it knows its angles without homing.
        sends_updates_at_power_up: Whether it sends every paddle's status unasked, ten times a
            second, until it is told to stop.
        answer_s: Time that it takes over an answer, s.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    acts_on: ClassVar[str | None] = "polarization"
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "MPC320"
    serial: int = 38000042
    firmware: tuple[int, int, int] = (1, 0, 4)
    full_speed_deg_per_s: float = 400.0
    velocity_percent: int = 10
    home_steps: int = 685
    jog_steps: int = 25
    counter_offset_steps: int = -989
    is_homed_at_power_up: bool = False
    sends_updates_at_power_up: bool = False
    answer_s: float = 0.002
    boot_s: float = 0.5

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model {self.model!r} is not one of {', '.join(MODELS)}")

    def front_end(self, name: str, twin: Twin, record: Record) -> "Mpc320":
        """Build the unit in front of the link's paddles."""
        return Mpc320(name, twin.paddles, record, self)


Message = tuple[int, int, int, bytes]
"""Id, the two parameters of the short form, the data of the long one."""


class Mpc320:
    """One unit.

    Args:
        name: What the record calls it.
        paddles: The optics.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        paddles: Paddles,
        record: Record,
        settings: Mpc320Settings | None = None,
    ) -> None:
        self._name = name
        self._paddles = paddles
        self._record = record
        self._settings = settings or Mpc320Settings()
        self._deaf_until_s = -inf
        self._commands: dict[int, Callable[[float, int, int, bytes], None]] = {
            0x0005: self._tell_info,
            0x0011: self._start_updates,
            0x0012: self._stop_updates,
            0x0210: self._enable,
            0x0211: self._tell_enabled,
            0x0223: self._do_nothing,
            0x0411: self._tell_counter,
            0x0443: self._home,
            0x0453: self._move,
            0x0465: self._stop,
            0x046A: self._jog,
            0x046B: self._suspend_arrivals,
            0x046C: self._resume_arrivals,
            0x0490: self._tell_status,
            0x0492: self._acknowledge,
            0x0530: self._set_parameters,
            0x0531: self._tell_parameters,
        }
        self._start(0.0)

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the serial line; return what the unit says to them, and said since."""
        if now_s < self._deaf_until_s:
            return []
        self._advance(now_s)
        self._received += data
        while (message := self._next_message(now_s)) is not None:
            self._obey(message, now_s)
        return self._take_replies()

    def due_s(self) -> float | None:
        """When it next says something unasked, or a paddle arrives."""
        times_s = (self._motors.due_s, self._update_s)
        return min((each for each in times_s if each is not None), default=None)

    def tick(self, now_s: float) -> list[Reply]:
        """Let paddles arrive, and send status updates."""
        self._advance(now_s)
        return self._take_replies()

    def reset_line(self, now_s: float) -> None:
        """Forget half a received message."""
        self._received.clear()

    def power_cycle(self, now_s: float) -> None:
        """Drop whatever turns, and start again; the paddles stay where they are."""
        self._motors.advance(now_s)
        self._motors.halt(now_s)
        self._start(now_s)
        self._deaf_until_s = now_s + self._settings.boot_s

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return each paddle's angle, degrees, and whether any is on its way or waits to be."""
        angles = {str(n): self._paddles.angle_deg(n, now_s) for n in self._motors.motors}
        return {**angles, "moves": self._motors.is_moving(now_s)}

    def _start(self, now_s: float) -> None:
        settings = self._settings
        self._received = bytearray()
        self._replies: list[Reply] = []
        self._velocity_percent = settings.velocity_percent
        self._home_steps = settings.home_steps
        self._jog_steps = [settings.jog_steps] * 3
        is_homed = settings.is_homed_at_power_up
        motors = {
            n: Motor(
                is_homed=is_homed,
                zero_steps=0 if is_homed else position(self._paddles, n, now_s),
            )
            for n in range(1, MODELS[settings.model] + 1)
        }
        self._motors = Motors(self._paddles, motors, self._speed_deg_per_s)
        self._update_s = now_s if settings.sends_updates_at_power_up else None
        self._tells_arrivals = True
        self._unacknowledged = 0
        self._wire_free_s = 0.0

    def _next_message(self, now_s: float) -> Message | None:
        """Cut the next message out of what was received; drop bytes that begin none."""
        while len(self._received) >= _HEADER.size:
            message_id, first, second, destination, source = _HEADER.unpack_from(self._received)
            n_bytes = (first | second << 8) if destination & 0x80 else 0
            if destination & 0x7F != UNIT or source != HOST or n_bytes > LONGEST_DATA:
                self._record.reject(now_s, self._name, f"byte {self._received[0]:02x}")
                del self._received[0]
                continue
            end = _HEADER.size + n_bytes
            if len(self._received) < end:
                return None
            data = bytes(self._received[_HEADER.size : end])
            del self._received[:end]
            return message_id, first, second, data
        return None

    def _obey(self, message: Message, now_s: float) -> None:
        message_id, first, second, data = message
        command = self._commands.get(message_id, self._refuse)
        try:
            command(now_s, first, second, data)
        except (ValueError, struct.error):
            text = f"{message_id:04x} {first:02x} {second:02x} {data.hex()}"
            self._record.reject(now_s, self._name, text)

    def _say(
        self, now_s: float, message_id: int, first: int = 0, second: int = 0, data: bytes = b""
    ) -> None:
        """Put one message on the wire, if the host still listens."""
        if self._unacknowledged >= SILENT_AFTER:
            return
        self._unacknowledged += 1
        address = HOST | (0x80 if data else 0)
        first, second = (len(data), 0) if data else (first, second)
        message = _HEADER.pack(message_id, first, second, address, UNIT) + data
        ready_s = max(now_s + self._settings.answer_s, self._wire_free_s)
        self._wire_free_s = ready_s + len(message) * _BITS_PER_BYTE / _BAUD_RATE
        self._replies.append(Reply(message, after_s=self._wire_free_s - now_s))

    def _take_replies(self) -> list[Reply]:
        replies, self._replies = self._replies, []
        return replies

    def _advance(self, now_s: float) -> None:
        """Carry out what was due until now."""
        for move in self._motors.advance(now_s):
            if self._tells_arrivals:
                self._say(now_s, 0x0444 if move.is_homing else 0x0464, _mask(move.paddle))
        if self._update_s is not None and self._update_s <= now_s:
            self._update_s = now_s + UPDATE_S
            for n in self._motors.motors:
                self._say_status(now_s, n)

    @property
    def _speed_deg_per_s(self) -> float:
        return self._settings.full_speed_deg_per_s * self._velocity_percent / 100

    def _say_status(self, now_s: float, paddle: int) -> None:
        bits, steps = self._motors.bits(paddle), self._motors.steps(paddle, now_s)
        direction = bool(bits & TURNING_CCW) - bool(bits & TURNING_CW)
        velocity = direction * self._velocity_percent
        current_ma = _MOTOR_MA * abs(direction)
        data = struct.pack("<HihhI", _mask(paddle), steps, velocity, current_ma, bits)
        self._say(now_s, 0x0491, data=data)

    def _paddle(self, mask: int) -> int:
        """Return the paddle that a channel identifier names.

        Raises:
            ValueError: It names none.
        """
        if mask not in map(_mask, self._motors.motors):
            raise ValueError(f"no channel {mask}")
        return mask.bit_length()

    def _refuse(self, now_s: float, first: int, second: int, data: bytes) -> None:
        raise ValueError("no such message")

    def _do_nothing(self, now_s: float, first: int, second: int, data: bytes) -> None:
        pass

    def _tell_info(self, now_s: float, first: int, second: int, data: bytes) -> None:
        settings, (major, interim, minor) = self._settings, self._settings.firmware
        who = (settings.serial, settings.model.encode("ascii"), _TYPE, minor, interim, major, 0)
        notes = b"Motorised polarisation controller"
        self._say(now_s, 0x0006, data=_INFO.pack(*who, notes, 1, 0, len(self._motors.motors)))

    def _start_updates(self, now_s: float, first: int, second: int, data: bytes) -> None:
        self._update_s = now_s + UPDATE_S

    def _stop_updates(self, now_s: float, first: int, second: int, data: bytes) -> None:
        self._update_s = None

    def _enable(self, now_s: float, first: int, second: int, data: bytes) -> None:
        everything = sum(map(_mask, self._motors.motors))
        mask = first if second == 1 else everything & ~first
        self._record.tell(now_s, self._name, "motors on", float(mask))
        for paddle in self._motors.motors:
            self._motors.switch(paddle, now_s, is_on=bool(mask & _mask(paddle)))
            self._say_status(now_s, paddle)

    def _tell_enabled(self, now_s: float, first: int, second: int, data: bytes) -> None:
        is_on = self._motors.motors[self._paddle(first)].is_on
        self._say(now_s, 0x0212, first, 1 if is_on else 2)

    def _tell_counter(self, now_s: float, first: int, second: int, data: bytes) -> None:
        # Channel 0 is none, and yet it is answered: with the bare offset.
        steps = self._motors.steps(self._paddle(first), now_s) if first else 0
        counter = steps + self._settings.counter_offset_steps
        self._say(now_s, 0x0412, data=struct.pack("<Hi", first, counter))

    def _home(self, now_s: float, first: int, second: int, data: bytes) -> None:
        paddle = self._paddle(first)
        home_deg = degrees(self._home_steps)
        self._record.tell(now_s, self._name, "home", home_deg, "deg", paddle)
        self._note_if_off(paddle, now_s)
        self._motors.home(paddle, self._home_steps, now_s)

    def _move(self, now_s: float, first: int, second: int, data: bytes) -> None:
        mask, steps = struct.unpack("<Hi", data)
        self._send(self._paddle(mask), steps, now_s)

    def _jog(self, now_s: float, first: int, second: int, data: bytes) -> None:
        paddle = self._paddle(first)
        length = self._jog_steps[paddle - 1] * (1 if second == 1 else -1)
        self._send(paddle, self._motors.steps(paddle, now_s) + length, now_s)

    def _send(self, paddle: int, steps: int, now_s: float) -> None:
        self._record.tell(now_s, self._name, "angle", degrees(steps), "deg", paddle)
        self._note_if_off(paddle, now_s)
        self._motors.send(paddle, steps, now_s)

    def _note_if_off(self, paddle: int, now_s: float) -> None:
        if not self._motors.motors[paddle].is_on:
            text = f"paddle {paddle} was told to turn although its motor is off"
            self._record.violate(now_s, self._name, text)

    def _stop(self, now_s: float, first: int, second: int, data: bytes) -> None:
        paddle = self._paddle(first)
        how = "at once" if second == 1 else "profiled"
        self._record.tell(now_s, self._name, "stop", how, channel=paddle)
        if self._motors.stop(paddle, now_s):
            self._say(now_s, 0x0466, first)

    def _suspend_arrivals(self, now_s: float, first: int, second: int, data: bytes) -> None:
        self._tells_arrivals = False

    def _resume_arrivals(self, now_s: float, first: int, second: int, data: bytes) -> None:
        self._tells_arrivals = True

    def _tell_status(self, now_s: float, first: int, second: int, data: bytes) -> None:
        self._say_status(now_s, self._paddle(first))

    def _acknowledge(self, now_s: float, first: int, second: int, data: bytes) -> None:
        self._unacknowledged = 0

    def _set_parameters(self, now_s: float, first: int, second: int, data: bytes) -> None:
        _, velocity_percent, home_steps, *jog_steps = _PARAMETERS.unpack(data)
        self._record.tell(now_s, self._name, "velocity", velocity_percent, "%")
        self._record.tell(now_s, self._name, "home position", degrees(home_steps), "deg")
        if not 10 <= velocity_percent <= 100 or home_steps > TRAVEL_STEPS:
            raise ValueError("out of range")
        self._velocity_percent, self._home_steps = velocity_percent, home_steps
        self._jog_steps = jog_steps
        self._motors.speed_deg_per_s = self._speed_deg_per_s

    def _tell_parameters(self, now_s: float, first: int, second: int, data: bytes) -> None:
        parameters = (0, self._velocity_percent, self._home_steps, *self._jog_steps)
        self._say(now_s, 0x0532, data=_PARAMETERS.pack(*parameters))


def _mask(paddle: int) -> int:
    """Return the bit that names a paddle."""
    return 1 << (paddle - 1)
