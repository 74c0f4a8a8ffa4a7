from binascii import crc_hqx
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.meerstetter import Meerstetter, MeerstetterSettings
from sim.record import REJECTED, Limits, Record


class Bench:
    def __init__(self, settings: MeerstetterSettings | None = None) -> None:
        self.record = Record({("tec", "temperature"): Limits(10, 40)})
        self.unit = Meerstetter("tec", self.record, settings)

    def send(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))

    def ask(self, payload: str, now_s: float = 0.0) -> str:
        """Send a query with the right CRC; return the answer's payload and CRC."""
        text = f"#020007{payload}".encode()
        answer = self.send(text + b"%04X\r" % crc_hqx(text, 0), now_s).decode()
        assert answer[:7] == "!020007"
        assert answer[-1] == "\r"
        return answer[7:-1]


def test_the_published_frames_are_answered_as_published() -> None:
    bench = Bench(MeerstetterSettings(address=0, ambient_c=25.0))
    assert bench.send(b"#0015AB?VR03E801C21A\r") == b"!0015AB41C8000023C5\r"
    assert bench.send(b"#0015ACVS0BB80141C80000186D\r") == b"!0015AC186D\r"


def test_it_tells_who_it_is_in_20_characters() -> None:
    assert Bench().ask("?IF")[:-4] == "1161-TEC SW G01     "


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("?XY", "+01"),
        ("?VR03E8", "+04"),
        ("?VRFFFF01", "+05"),
        ("VS03E80100000000", "+06"),
        ("VS0BB801447A0000", "+07"),
        ("VS0BB8017FC00000", "+07"),
        ("?VR03E802", "+08"),
    ],
)
def test_an_error_is_answered_with_its_number(payload: str, error: str) -> None:
    bench = Bench()
    assert bench.ask(payload)[:-4] == error
    assert bench.record.totals["tec", REJECTED] == 1


@pytest.mark.parametrize("frame", [b"#0015AB?VR03E801C21B\r", b"hello\r", b"\r", b"#\r"])
def test_a_damaged_frame_is_not_answered(frame: bytes) -> None:
    assert Bench().send(frame) == b""


def test_a_frame_for_another_controller_is_not_answered() -> None:
    text = b"#030007?IF"
    assert Bench().send(text + b"%04X\r" % crc_hqx(text, 0)) == b""


def test_the_object_approaches_the_set_point_while_the_output_is_on() -> None:
    bench = Bench(MeerstetterSettings(ambient_c=22.0, time_constant_s=5.0))
    bench.ask("VS0BB80141400000", 0.0)  # 12
    assert bench.ask("?VR04B001", 1.0)[:8] == "00000000"

    bench.ask("VS07DA0100000001", 1.0)

    assert bench.unit._object_c(6.0) == pytest.approx(12 + 10 * exp(-1))
    assert bench.ask("?VR04B001", 6.0)[:8] == "00000001"
    assert bench.ask("?VR04B001", 60.0)[:8] == "00000002"


def test_in_an_error_the_output_is_off_whatever_it_is_set_to() -> None:
    bench = Bench(MeerstetterSettings(error=21, is_enabled=True))
    assert bench.ask("?VR006801")[:8] == "00000003"
    assert bench.ask("?VR006901")[:8] == "00000015"
    assert bench.unit._object_c(100.0) == 22.0


def test_a_reset_is_acknowledged_and_restores_what_is_stored() -> None:
    bench = Bench()
    bench.ask("VS0BB80141400000")
    assert len(bench.ask("RS")) == 4
    assert bench.send(b"#0015AB?VR03E801C21A\r", 0.1) == b""  # it boots
    assert bench.unit.outputs(1.0)["temperature"] == 25.0


def test_a_set_point_beyond_the_limits_of_the_bench_is_a_violation() -> None:
    bench = Bench()
    bench.ask("VS0BB80142480000")
    assert [each.text for each in bench.record.violations] == [
        "temperature 50 degC is outside 10 to 40 degC"
    ]


def test_frames_may_come_in_pieces() -> None:
    bench = Bench()
    assert bench.send(b"#0015AB?VR03") == b""
    assert bench.send(b"E801C21A\r") != b""


def test_half_a_frame_is_forgotten_when_the_client_goes() -> None:
    bench = Bench()
    bench.send(b"#0015AB?VR03")
    bench.unit.reset_line(0.0)
    assert bench.send(b"#0015AB?VR03E801C21A\r") != b""


@given(st.lists(st.binary(max_size=60)))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.send(piece)
    bench.unit.reset_line(0.0)
    assert bench.send(b"#0015AB?VR03E801C21A\r") != b""
