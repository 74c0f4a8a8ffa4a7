"""Motors of a Thorlabs paddle controller: one turns at a time, the others wait for their turn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

TRAVEL_DEG: Final = 170.0
TRAVEL_STEPS: Final = 1370
JUMP_DEG_PER_S: Final = 4000.0
"""Speed of a paddle that carries out a remembered target, or that is stopped."""

TURNING_CW: Final = 1 << 4
TURNING_CCW: Final = 1 << 5
HOMING: Final = 1 << 9
HOMED: Final = 1 << 10
POSITION_ERROR: Final = 1 << 14
ENABLED: Final = 1 << 31


class Paddles(Protocol):
    """The fibre paddles behind the motors."""

    def turn(self, paddle: int, angle_deg: float, start_s: float, speed_deg_per_s: float) -> None:
        """Send one paddle towards an angle, from where it is when it sets off."""
        ...

    def angle_deg(self, paddle: int, now_s: float) -> float:
        """Return where a paddle is, degrees."""
        ...


@dataclass
class Motor:
    """What the unit knows of one paddle.

    Attributes:
        is_on: Whether it may turn.
        is_homed: Whether positions count from the end of the travel.
        zero_steps: Where the paddle stands when its position reads 0.
        remembered_steps: A target that came while the motor was off.
        has_missed: Whether the latest target was out of reach.
    """

    is_on: bool = False
    is_homed: bool = False
    zero_steps: int = 0
    remembered_steps: int | None = None
    has_missed: bool = False


@dataclass
class Move:
    """One paddle on its way, or waiting for its turn.

    Attributes:
        paddle: Its number.
        target_steps: Where it goes, in steps from the end of the travel.
        is_last: Whether its arrival is worth a message.
        bits: Status bits on the way.
        end_s: When it arrives; infinite while it waits.
    """

    paddle: int
    target_steps: int
    is_last: bool = True
    bits: int = 0
    end_s: float = inf

    @property
    def is_homing(self) -> bool:
        """Whether it ends with the paddle homed."""
        return bool(self.bits & HOMING)


@dataclass
class Motors:
    """The motors of one unit, by paddle.

    Attributes:
        paddles: The optics.
        motors: What is known of each.
        speed_deg_per_s: Speed of all, degrees/s.
    """

    paddles: Paddles
    motors: Mapping[int, Motor]
    speed_deg_per_s: float
    _moves: list[Move] = field(default_factory=list)

    @property
    def due_s(self) -> float | None:
        """When the next paddle arrives."""
        return self._moves[0].end_s if self._moves else None

    def is_moving(self, now_s: float) -> bool:
        """Whether any paddle is on its way or waits to be."""
        return any(now_s < each.end_s for each in self._moves)

    def steps(self, paddle: int, now_s: float) -> int:
        """Return where the unit takes a paddle to be, steps."""
        return position(self.paddles, paddle, now_s) - self.motors[paddle].zero_steps

    def bits(self, paddle: int) -> int:
        """Return the status bits of a paddle."""
        motor = self.motors[paddle]
        on_the_way = [each.bits for each in self._moves[:1] if each.paddle == paddle]
        return (
            ENABLED * motor.is_on
            | HOMED * motor.is_homed
            | POSITION_ERROR * motor.has_missed
            | sum(on_the_way)
        )

    def advance(self, now_s: float) -> list[Move]:
        """Let arrive what was to arrive until now; return the moves that a message tells of."""
        arrived = []
        while self._moves and self._moves[0].end_s <= now_s:
            move = self._moves.pop(0)
            if move.is_homing and move.is_last:
                motor = self.motors[move.paddle]
                motor.is_homed, motor.zero_steps = True, 0
            arrived += [move] if move.is_last else []
            self._set_off(move.end_s)
        return arrived

    def send(self, paddle: int, steps: int, now_s: float) -> None:
        """Send a paddle to a position; a motor that is off remembers it.

        Raises:
            ValueError: The position is beyond the travel.
        """
        motor = self.motors[paddle]
        target_steps = steps + motor.zero_steps
        motor.has_missed = not 0 <= target_steps <= TRAVEL_STEPS
        if motor.has_missed:
            raise ValueError(f"{steps} steps are out of reach")
        if not motor.is_on:
            motor.remembered_steps = target_steps
            return
        self._moves.append(Move(paddle, target_steps))
        self._set_off(now_s)

    def home(self, paddle: int, home_steps: int, now_s: float) -> None:
        """Have a paddle find the end of its travel, and go to the home position from there."""
        if not self.motors[paddle].is_on:
            return
        to_the_end = Move(paddle, 0, is_last=False, bits=HOMING)
        self._moves += [to_the_end, Move(paddle, home_steps, bits=HOMING)]
        self._set_off(now_s)

    def switch(self, paddle: int, now_s: float, *, is_on: bool) -> None:
        """Switch a motor on or off; one that goes on jumps to a target that it remembers."""
        motor = self.motors[paddle]
        motor.is_on = is_on
        if not is_on:
            self.stop(paddle, now_s)
        elif motor.remembered_steps is not None:
            self._moves.insert(0, Move(paddle, motor.remembered_steps, is_last=False))
            motor.remembered_steps = None
            self._set_off(now_s, JUMP_DEG_PER_S)

    def stop(self, paddle: int, now_s: float) -> bool:
        """Stop a paddle at the next whole step; tell whether it was on its way or waited to be."""
        kept = [each for each in self._moves if each.paddle != paddle]
        had_any = len(kept) < len(self._moves)
        self._moves = kept
        if had_any:
            here_deg = degrees(position(self.paddles, paddle, now_s))
            self.paddles.turn(paddle, here_deg, now_s, JUMP_DEG_PER_S)
            self._set_off(now_s)
        return had_any

    def halt(self, now_s: float) -> None:
        """Stop all paddles."""
        for paddle in self.motors:
            self.stop(paddle, now_s)

    def _set_off(self, now_s: float, speed_deg_per_s: float | None = None) -> None:
        """Have the first move of the queue begin, unless it has."""
        if not self._moves or self._moves[0].end_s < inf:
            return
        move, speed = self._moves[0], speed_deg_per_s or self.speed_deg_per_s
        target_deg = degrees(move.target_steps)
        distance_deg = target_deg - self.paddles.angle_deg(move.paddle, now_s)
        move.end_s = now_s + abs(distance_deg) / speed
        move.bits |= TURNING_CCW if distance_deg > 0 else TURNING_CW
        self.paddles.turn(move.paddle, target_deg, now_s, speed)


def position(paddles: Paddles, paddle: int, now_s: float) -> int:
    """Return where a paddle is, in steps from the end of its travel."""
    return round(paddles.angle_deg(paddle, now_s) * TRAVEL_STEPS / TRAVEL_DEG)


def degrees(steps: int) -> float:
    """Return an angle from a position, degrees."""
    return steps * TRAVEL_DEG / TRAVEL_STEPS
