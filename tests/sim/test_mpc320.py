import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.mpc320 import SILENT_AFTER, Mpc320, Mpc320Settings
from sim.record import REJECTED, Limits, Record

MOVE_1_TO_685 = "53 04 06 00 d0 01 01 00 ad 02 00 00"
ENABLE_ALL = "10 02 07 01 50 01"
DISABLE_ALL = "10 02 00 01 50 01"
ACKNOWLEDGE = "92 04 00 00 50 01"
TURNING_CCW, HOMING, HOMED, POSITION_ERROR, ENABLED = 1 << 5, 1 << 9, 1 << 10, 1 << 14, 1 << 31


class Paddles:
    """Paddles that turn at constant speed."""

    def __init__(self) -> None:
        self.turns: list[tuple[int, float, float, float]] = []
        self._ramps = dict.fromkeys((1, 2, 3), (0.0, 85.0, 85.0, 1.0))

    def turn(self, paddle: int, angle_deg: float, start_s: float, speed_deg_per_s: float) -> None:
        self.turns.append((paddle, angle_deg, start_s, speed_deg_per_s))
        start_deg = self.angle_deg(paddle, start_s)
        self._ramps[paddle] = (start_s, start_deg, angle_deg, speed_deg_per_s)

    def angle_deg(self, paddle: int, now_s: float) -> float:
        start_s, start_deg, target_deg, speed = self._ramps[paddle]
        travelled = speed * (now_s - start_s)
        if travelled >= abs(target_deg - start_deg):
            return target_deg
        return start_deg + (travelled if target_deg > start_deg else -travelled)


class Bench:
    def __init__(self, settings: Mpc320Settings | None = None) -> None:
        self.paddles = Paddles()
        self.record = Record({("mpc", "angle"): Limits(2, 158)})
        self.unit = Mpc320("mpc", self.paddles, self.record, settings)

    def ask(self, message: str, now_s: float = 0.0) -> str:
        replies = self.unit.handle(bytes.fromhex(message), now_s)
        return b"".join(reply.data for reply in replies).hex(" ")

    def status(self, channel: int, now_s: float) -> tuple[int, int]:
        """Return position and status bits."""
        reply = bytes.fromhex(self.ask(f"90 04 0{channel} 00 50 01", now_s))
        self.ask(ACKNOWLEDGE, now_s)
        answered, steps, _, _, bits = struct.unpack("<HihhI", reply[-14:])
        assert answered == channel
        return steps, bits

    def wait_until_still(self) -> float:
        """Let everything happen that is due; return when the last did."""
        now_s = 0.0
        while (due_s := self.unit.due_s()) is not None:
            now_s = due_s
            self.unit.tick(now_s)
        return now_s


def homed() -> Mpc320Settings:
    return Mpc320Settings(is_homed_at_power_up=True)


def test_it_says_who_it_is() -> None:
    reply = bytes.fromhex(Bench().ask("05 00 00 00 50 01"))

    assert reply[:6].hex(" ") == "06 00 54 00 81 50"
    assert len(reply) == 90
    assert reply[6:10] == struct.pack("<I", 38000042)
    assert reply[10:18] == b"MPC320\0\0"
    assert reply[-2:] == b"\x03\x00"


def test_a_status_has_the_bytes_of_the_protocol() -> None:
    bench = Bench(homed())
    bench.ask("10 02 01 01 50 01")

    status = "91 04 0e 00 81 50 01 00 ad 02 00 00 00 00 00 00 00 04 00 80"
    assert bench.ask("90 04 01 00 50 01", 1.0) == status


def test_enabling_is_followed_by_a_status_of_every_paddle() -> None:
    reply = bytes.fromhex(Bench(homed()).ask("10 02 05 01 50 01"))
    statuses = [reply[i : i + 20] for i in range(0, len(reply), 20)]

    assert [each[6] for each in statuses] == [1, 2, 4]
    assert [bool(each[-1] & 0x80) for each in statuses] == [True, False, True]


def test_the_mask_of_enabling_is_the_whole_mask() -> None:
    bench = Bench(homed())
    bench.ask("10 02 01 01 50 01")
    bench.ask("10 02 02 01 50 01")

    assert not bench.status(1, 0.1)[1] & ENABLED
    assert bench.status(2, 0.1)[1] & ENABLED
    assert bench.ask("11 02 02 00 50 01", 0.1) == "12 02 02 01 01 50"


def test_a_move_takes_its_time_and_says_when_it_is_over() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL)
    bench.ask("53 04 06 00 d0 01 01 00 a2 00 00 00", 1.0)  # 64.9 degrees down, at 40 degrees/s

    steps, bits = bench.status(1, 1.5)
    assert 162 < steps < 685
    assert bits & 1 << 4
    assert bench.unit.due_s() == pytest.approx(1 + 523 * 170 / 1370 / 40)
    (reply,) = bench.unit.tick(bench.unit.due_s() or 0.0)
    assert reply.data.hex(" ") == "64 04 01 00 01 50"
    assert bench.status(1, 5.0) == (162, HOMED | ENABLED)


def test_a_late_look_finds_the_message_of_a_move_that_ended() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL)
    bench.ask("53 04 06 00 d0 01 01 00 a2 00 00 00")

    assert bench.ask(ACKNOWLEDGE, 100.0) == "64 04 01 00 01 50"


def test_paddles_turn_one_after_the_other() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL)
    bench.ask("53 04 06 00 d0 01 01 00 a2 00 00 00" + "53 04 06 00 d0 01 04 00 a2 00 00 00")

    assert bench.status(4, 1.0) == (685, HOMED | ENABLED)  # it waits for its turn
    first_s = bench.unit.due_s() or 0.0
    bench.unit.tick(first_s)
    paddle, _, start_s, _ = bench.paddles.turns[-1]
    assert (paddle, start_s) == (3, first_s)
    assert bench.unit.due_s() == pytest.approx(2 * first_s)
    assert bench.unit.outputs(first_s)["moves"]


def test_the_speed_follows_the_parameters() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL + "30 05 0c 00 d0 01 00 00 32 00 ad 02 19 00 19 00 19 00")
    bench.ask("53 04 06 00 d0 01 01 00 a2 00 00 00")

    assert bench.paddles.turns[-1][3] == 200
    reply = bench.ask("31 05 00 00 50 01", 1.0)
    assert reply.endswith("32 05 0c 00 81 50 00 00 32 00 ad 02 19 00 19 00 19 00")


@pytest.mark.parametrize("velocity", ["09 00", "65 00"])
def test_a_speed_out_of_range_is_refused(velocity: str) -> None:
    bench = Bench()
    bench.ask(f"30 05 0c 00 d0 01 00 00 {velocity} ad 02 19 00 19 00 19 00")

    assert bench.record.totals["mpc", REJECTED] == 1
    assert bench.ask("31 05 00 00 50 01").split()[8] == "0a"


def test_a_target_out_of_reach_is_refused_and_shows_in_the_status() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL + "53 04 06 00 d0 01 01 00 d0 07 00 00")

    assert bench.status(1, 0.1) == (685, HOMED | ENABLED | POSITION_ERROR)
    assert bench.record.totals["mpc", REJECTED] == 1
    bench.ask(MOVE_1_TO_685, 0.2)
    assert bench.status(1, 0.3) == (685, HOMED | ENABLED)


def test_a_target_of_a_motor_that_is_off_is_carried_out_as_a_jump_when_it_goes_on() -> None:
    bench = Bench(homed())
    bench.ask("53 04 06 00 d0 01 01 00 a2 00 00 00")
    assert bench.paddles.turns == []
    assert "motor is off" in bench.record.violations[0].text

    bench.ask(ENABLE_ALL, 1.0)

    ((paddle, angle_deg, start_s, speed),) = bench.paddles.turns
    assert (paddle, start_s) == (1, 1.0)
    assert angle_deg == pytest.approx(162 * 170 / 1370)
    assert speed > 400
    assert bench.unit.tick(2.0) == []  # and nobody is told


def test_a_stopped_paddle_stands_where_it_was_and_forgets_its_target() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL + "53 04 06 00 d0 01 01 00 a2 00 00 00")

    assert bench.ask("65 04 01 01 50 01", 0.5) == "66 04 01 00 01 50"
    steps, bits = bench.status(1, 1.0)
    assert steps == round((85 - 20) * 1370 / 170)
    assert bits == HOMED | ENABLED
    assert bench.unit.due_s() is None


def test_stopping_a_paddle_that_stands_is_answered_with_nothing() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL)

    assert bench.ask("65 04 01 01 50 01", 1.0) == ""


def test_stopping_one_paddle_lets_the_next_begin() -> None:
    bench = Bench(homed())
    bench.ask(
        ENABLE_ALL + "53 04 06 00 d0 01 01 00 a2 00 00 00" + "53 04 06 00 d0 01 04 00 a2 00 00 00"
    )

    bench.ask("65 04 01 01 50 01", 0.5)

    assert bench.paddles.turns[-1][0] == 3
    assert bench.paddles.turns[-1][2] == 0.5


def test_a_paddle_that_is_not_homed_counts_from_where_it_stood_at_power_up() -> None:
    bench = Bench()
    assert bench.status(1, 0.0) == (0, 0)

    bench.ask(ENABLE_ALL + "43 04 01 00 50 01")

    _, bits = bench.status(1, 1.0)
    assert bits & HOMING
    assert not bits & HOMED
    end_s = bench.wait_until_still()
    assert end_s == pytest.approx((85 + 85) / 40)
    assert bench.status(1, end_s) == (685, HOMED | ENABLED)


def test_homing_ends_with_a_message_of_its_own() -> None:
    bench = Bench()
    bench.ask(ENABLE_ALL + "43 04 02 00 50 01")
    first_s = bench.unit.due_s() or 0.0
    assert bench.unit.tick(first_s) == []  # at the end of the travel

    (reply,) = bench.unit.tick(bench.unit.due_s() or 0.0)

    assert reply.data.hex(" ") == "44 04 02 00 01 50"


def test_the_position_counter_has_an_offset() -> None:
    bench = Bench(homed())

    assert bench.ask("11 04 01 00 50 01").endswith(struct.pack("<Hi", 1, 685 - 989).hex(" "))
    assert bench.ask("11 04 00 00 50 01").endswith(struct.pack("<Hi", 0, -989).hex(" "))


@pytest.mark.parametrize(("direction", "steps"), [(1, 710), (2, 660)])
def test_a_jog_goes_a_little_way(direction: int, steps: int) -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL + f"6a 04 01 0{direction} 50 01")

    assert bench.status(1, bench.wait_until_still())[0] == steps


def test_completions_can_be_suspended() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL + "6b 04 00 00 50 01" + "53 04 06 00 d0 01 01 00 a2 00 00 00")
    assert bench.unit.tick(50.0) == []

    bench.ask("6c 04 00 00 50 01" + "53 04 06 00 d0 01 01 00 ad 02 00 00", 60.0)
    assert [reply.data.hex(" ") for reply in bench.unit.tick(99.0)] == ["64 04 01 00 01 50"]


def test_status_updates_come_unasked_until_they_are_stopped() -> None:
    bench = Bench(homed())
    bench.ask("11 00 00 00 50 01")
    assert bench.unit.due_s() == pytest.approx(0.1)
    assert len(bench.unit.tick(0.1)) == 3
    assert bench.unit.due_s() == pytest.approx(0.2)

    bench.ask("12 00 00 00 50 01", 0.15)

    assert bench.unit.due_s() is None


def test_a_unit_that_nobody_acknowledges_falls_silent() -> None:
    bench = Bench(homed())
    for _ in range(SILENT_AFTER):
        assert bench.ask("90 04 01 00 50 01")
    assert bench.ask("90 04 01 00 50 01") == ""

    bench.ask(ACKNOWLEDGE)

    assert bench.ask("90 04 01 00 50 01")


def test_answers_take_their_time_on_the_wire() -> None:
    unit = Bench().unit
    first, second = unit.handle(bytes.fromhex("90 04 01 00 50 01" * 2), 0.0)

    assert first.after_s == pytest.approx(0.002 + 20 * 10 / 115200)
    assert second.after_s == pytest.approx(0.002 + 40 * 10 / 115200)


def test_a_power_cycle_forgets_home_motors_and_speed_but_moves_nothing() -> None:
    bench = Bench()
    bench.ask(ENABLE_ALL + "30 05 0c 00 d0 01 00 00 64 00 a2 00 19 00 19 00 19 00")
    bench.ask("43 04 01 00 50 01")
    now_s = bench.wait_until_still()
    assert bench.status(1, now_s) == (162, HOMED | ENABLED)

    bench.unit.power_cycle(now_s)

    assert bench.ask("90 04 01 00 50 01", now_s + 0.1) == ""  # still booting
    assert bench.status(1, now_s + 1) == (0, 0)
    assert bench.ask("31 05 00 00 50 01", now_s + 1).split()[8] == "0a"
    assert bench.unit.outputs(now_s + 1)["1"] == 162 * 170 / 1370


def test_a_power_cycle_stops_what_turns() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL + "53 04 06 00 d0 01 01 00 a2 00 00 00")

    bench.unit.power_cycle(0.5)

    assert bench.unit.outputs(1.0)["1"] == pytest.approx(85 - 20, abs=0.13)
    assert not bench.unit.outputs(1.0)["moves"]


def test_a_two_paddle_unit_knows_no_third() -> None:
    bench = Bench(Mpc320Settings(model="MPC220"))

    assert bench.ask("90 04 04 00 50 01") == ""
    assert bench.record.totals["mpc", REJECTED] == 1
    assert set(bench.unit.outputs(0.0)) == {"1", "2", "moves"}


def test_messages_may_come_in_pieces() -> None:
    bench = Bench(homed())
    message = bytes.fromhex(ENABLE_ALL + MOVE_1_TO_685 + "90 04 01 00 50 01")

    replies = [reply for byte in message for reply in bench.unit.handle(bytes([byte]), 0.0)]

    ids = [reply.data[:2].hex() for reply in replies]
    assert ids == ["9104"] * 3 + ["6404", "9104"]


def test_half_a_message_is_forgotten_when_the_client_goes() -> None:
    bench = Bench(homed())
    bench.ask("53 04 06 00 d0 01 01")

    bench.unit.reset_line(0.0)

    assert bench.ask("90 04 01 00 50 01")


def test_an_angle_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench(homed())
    bench.ask(ENABLE_ALL + "53 04 06 00 d0 01 01 00 01 00 00 00")

    assert [each.text for each in bench.record.violations] == [
        "angle of channel 1 0.124088 deg is outside 2 to 158 deg"
    ]


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="MPC420"):
        Mpc320Settings(model="MPC420")


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench(homed())
    now_s = 0.0
    for piece in pieces:
        bench.unit.handle(piece, now_s)
        now_s += 0.1
    bench.unit.reset_line(now_s)

    assert "91 04 0e 00 81 50" in bench.ask(ACKNOWLEDGE + "90 04 01 00 50 01", now_s + 1)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 4]), st.integers(-3000, 3000), st.floats(0, 3)),
        max_size=20,
    )
)
def test_no_target_beyond_the_travel_reaches_a_paddle(
    moves: list[tuple[int, int, float]],
) -> None:
    bench = Bench()
    bench.ask(ENABLE_ALL)
    now_s = 0.0
    for channel, steps, wait_s in moves:
        data = struct.pack("<HHBBHi", 0x0453, 6, 0xD0, 1, channel, steps)
        bench.unit.handle(data, now_s)
        now_s += wait_s
    bench.wait_until_still()

    assert all(0 <= angle_deg <= 170 for _, angle_deg, _, _ in bench.paddles.turns)
