import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.scpi import CommandTable, boolean, commands, header_pattern, number


@pytest.mark.parametrize(
    "header", ["INP1:ATT", "INPUT1:ATTENUATION", "INP1:CHAN1:ATT", "INPUT12:CHANNEL3:ATT"]
)
def test_short_and_long_forms_match(header: str) -> None:
    assert header_pattern("INPut#[:CHANnel#]:ATTenuation").fullmatch(header)


@pytest.mark.parametrize("header", ["INPU1:ATT", "INP1:ATTE", "INP1", "INP1:ATT?", "INP1:ATT:ALL"])
def test_anything_between_short_and_long_does_not_match(header: str) -> None:
    assert not header_pattern("INPut#[:CHANnel#]:ATTenuation").fullmatch(header)


def test_a_header_without_colon_continues_at_the_level_of_the_last_one() -> None:
    message = "REC:PWID 5;PPER 6;*OPC?;NUM 1;:INP1:ATT 3"

    assert [(c.header, c.argument) for c in commands(message)] == [
        ("REC:PWID", "5"),
        ("REC:PPER", "6"),
        ("*OPC?", ""),
        ("REC:NUM", "1"),
        ("INP1:ATT", "3"),
    ]


def test_headers_come_in_any_case_and_arguments_keep_theirs() -> None:
    (command,) = commands(" :inp1:att Min ")

    assert (command.header, command.argument) == ("INP1:ATT", "Min")


@pytest.mark.parametrize("space", [" ", "  ", "\t", "\r"])
def test_any_white_space_parts_header_and_argument(space: str) -> None:
    (command,) = commands(f"INP1:ATT{space}3 DB\r")

    assert (command.header, command.argument) == ("INP1:ATT", "3 DB")


def test_empty_commands_are_skipped() -> None:
    assert list(commands(" ;; ; ")) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12.0), ("-1.5e3", -1500.0), (".5", 0.5), ("3 MV", 0.003), ("2v", 2.0)],
)
def test_numbers_may_have_a_unit(text: str, value: float) -> None:
    assert number(text, {"V": 1.0, "MV": 1e-3}) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e999", "1 A", "1 2", "--1", "1_000", "١"])
def test_what_is_no_finite_number_is_none(text: str) -> None:
    assert number(text, {"V": 1.0}) is None


def test_switches_are_words_or_digits() -> None:
    assert [boolean(text) for text in ("ON", "off", "1", "0", "2", "")] == [
        True,
        False,
        True,
        False,
        None,
        None,
    ]


def test_the_table_returns_the_numbers_in_a_header() -> None:
    table = CommandTable({"INPut#[:CHANnel#]:ATTenuation?": "read", "*IDN?": "who"})

    assert table.find("INP3:ATT?") == ("read", (3, None))
    assert table.find("INP:CHAN2:ATT?") == ("read", (None, 2))
    assert table.find("*IDN?") == ("who", ())
    assert table.find("*OPC?") is None


@given(st.text())
def test_any_text_can_be_split_into_commands(text: str) -> None:
    for command in commands(text):
        number(command.argument)
        boolean(command.argument)
