from collections.abc import Callable

import pytest

from sim.record import REJECTED, Record
from sim.scpi_unit import (
    LONGEST_LINE,
    Answer,
    LateAnswer,
    RefusedError,
    ScpiUnit,
    chosen,
    real,
    required_boolean,
    required_number,
    within,
)


class Unit(ScpiUnit):
    def __init__(self, record: Record) -> None:
        table: dict[str, Callable[..., Answer]] = {
            "VALue#?": lambda argument, now_s, n: f"{argument}/{n}",
            "SLOW#?": lambda argument, now_s, n: LateAnswer("slow", n or 0.0),
            "SET": lambda argument, now_s: None,
            "SYSTem:ERRor?": self._next_error,
            "*CLS": self._clear_status,
        }
        super().__init__("unit", record, table)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        return {}

    def _start(self, now_s: float) -> None:
        pass


class Bench:
    def __init__(self) -> None:
        self.record = Record()
        self.unit = Unit(self.record)

    def ask(self, line: str) -> list[tuple[bytes, float]]:
        replies = self.unit.handle(line.encode() + b"\n", 0.0)
        return [(reply.data, reply.after_s) for reply in replies]


def test_answers_go_out_together_once_the_last_of_them_is_there() -> None:
    said = Bench().ask("VAL3? X;:SET;:SLOW2?;:SLOW1?;:VALUE?")

    assert said == [(b"X/3;slow;slow;/None\n", 2.0)]


def test_a_message_without_questions_is_not_answered() -> None:
    assert Bench().ask("SET 1;:SET 2") == []


def test_a_refusal_is_noted_and_queued_and_the_rest_of_the_message_obeyed() -> None:
    bench = Bench()

    assert bench.ask("NONSENSE 1;:VAL1? A") == [(b"A/1\n", 0.0)]

    assert bench.record.totals["unit", REJECTED] == 1
    assert bench.ask("SYST:ERR?;ERR?") == [(b'-113,"Undefined header";+0,"No error"\n', 0.0)]


def test_a_full_queue_ends_with_overflow() -> None:
    bench = Bench()
    bench.ask(";".join(["X"] * 40))

    errors = [bench.ask("SYST:ERR?")[0][0] for _ in range(31)]

    assert errors[28:] == [
        b'-113,"Undefined header"\n',
        b'-350,"Queue overflow"\n',
        b'+0,"No error"\n',
    ]


def test_an_endless_message_is_an_overrun() -> None:
    bench = Bench()
    bench.unit.handle(b"X" * (LONGEST_LINE + 1), 0.0)

    assert bench.ask("SYST:ERR?") == [(b'-363,"Input buffer overrun"\n', 0.0)]
    assert bench.record.totals["unit", REJECTED] == 1


@pytest.mark.parametrize("ends", ["*CLS", "power"])
def test_the_queue_can_be_emptied(ends: str) -> None:
    bench = Bench()
    bench.ask("X")

    if ends == "power":
        bench.unit.power_cycle(0.0)
    else:
        bench.ask(ends)

    assert bench.ask("SYST:ERR?") == [(b'+0,"No error"\n', 0.0)]


def test_arguments_are_read() -> None:
    assert required_number("2 MV", {"MV": 1e-3}) == pytest.approx(0.002)
    assert required_boolean("on") is True
    assert chosen("max", {"MAX": 5.0}) == 5.0
    assert within(1.0, 0.0, 1.0) == 1.0


@pytest.mark.parametrize(
    ("read", "code"),
    [
        (lambda: required_number(""), -109),
        (lambda: required_number("much"), -224),
        (lambda: required_number("much", otherwise=-104), -104),
        (lambda: required_boolean(""), -109),
        (lambda: required_boolean("2"), -224),
        (lambda: chosen("some", {"MAX": 5.0}), -224),
        (lambda: within(1.1, 0.0, 1.0), -222),
    ],
)
def test_each_kind_of_wrong_argument_has_its_error(read: object, code: int) -> None:
    assert callable(read)
    with pytest.raises(RefusedError) as caught:
        read()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("value", "text"), [(12.34, "+1.2340E+001"), (-1e-12, "-1.0000E-012"), (0.0, "+0.0000E+000")]
)
def test_numbers_are_printed_with_three_digits_of_exponent(value: float, text: str) -> None:
    assert real(value, 4) == text
