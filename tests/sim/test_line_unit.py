from sim.command_lines import EndedLines
from sim.line_unit import CommandPatterns, LineUnit
from sim.record import Record
from sim.wire import Reply


class Unit(LineUnit):
    def __init__(self) -> None:
        super().__init__("unit", Record(), EndedLines(b"\n"), boot_s=0.5)
        self.starts_s: list[float] = []

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        return {}

    def _start(self, now_s: float) -> None:
        self.starts_s.append(now_s)

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        if line == "reset":
            self.power_cycle(now_s)
        return [Reply(line.encode())]


def said(replies: list[Reply]) -> list[bytes]:
    return [reply.data for reply in replies]


def test_while_it_boots_it_hears_nothing() -> None:
    unit = Unit()
    unit.power_cycle(1.0)

    assert unit.handle(b"a\nhalf", 1.4) == []
    assert said(unit.handle(b"b\n", 1.5)) == [b"b"]
    assert unit.starts_s == [1.0]


def test_what_comes_with_a_reset_is_lost() -> None:
    assert said(Unit().handle(b"a\nreset\nb\n", 1.0)) == [b"a", b"reset"]


def test_half_a_line_does_not_survive_the_client_or_the_power() -> None:
    unit = Unit()
    unit.handle(b"half", 0.0)
    unit.reset_line(0.0)
    assert said(unit.handle(b"a\nhalf", 1.0)) == [b"a"]

    unit.power_cycle(2.0)

    assert said(unit.handle(b"b\n", 3.0)) == [b"b"]


def test_the_first_pattern_that_is_the_whole_line_counts() -> None:
    patterns = CommandPatterns[str](
        [(r"V(\d)\?", lambda now_s, n: f"{n} at {now_s}"), (r"V.*", lambda now_s: "other")]
    )

    found = [patterns.find(line) for line in ("V3?", "V3?x", "W")]

    assert [command(1.5) if command else None for command in found] == ["3 at 1.5", "other", None]
