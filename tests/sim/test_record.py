from math import nan

import pytest

from sim.record import REJECTED, Limits, Record, Told


def test_entries_are_kept_in_order_with_everything_that_was_said() -> None:
    record = Record()

    record.tell(1.5, "epc", "voltage", -1.25, "V", 2)
    record.reject(2.0, "epc", "XYZ")

    assert record.since() == (
        0,
        [Told(1.5, "epc", "voltage", -1.25, "V", 2), Told(2.0, "epc", REJECTED, "XYZ")],
    )


@pytest.mark.parametrize("value", [5.0, -5.0, 0.0, 5.0 + 1e-12])
def test_a_value_at_a_limit_is_no_violation(value: float) -> None:
    record = Record({("epc", "voltage"): Limits(-5, 5)})

    record.tell(0, "epc", "voltage", value, "V")

    assert record.violation_total == 0


@pytest.mark.parametrize("value", [5.001, -6.0, nan])
def test_a_value_outside_its_limits_is_a_violation(value: float) -> None:
    record = Record({("epc", "voltage"): Limits(-5, 5)})

    record.tell(3.0, "epc", "voltage", value, "V", 4)

    (violation,) = record.violations
    assert (violation.time_s, violation.instrument) == (3.0, "epc")
    assert "voltage of channel 4" in violation.text
    assert "outside -5 to 5 V" in violation.text


def test_limits_hold_for_their_own_instrument_and_quantity_only() -> None:
    record = Record({("epc", "voltage"): Limits(-5, 5)})

    record.tell(0, "other", "voltage", 100, "V")
    record.tell(0, "epc", "frequency", 100, "Hz")

    assert record.violation_total == 0


def test_totals_stay_exact_when_old_entries_are_forgotten() -> None:
    record = Record({("epc", "voltage"): Limits(0, 0.5)}, kept=10)

    for n in range(1000):
        record.tell(n, "epc", "voltage", n % 2)

    first, told = record.since(0)
    assert (first, len(told), record.total) == (990, 10, 1000)
    assert record.totals["epc", "voltage"] == 1000
    assert (len(record.violations), record.violation_total) == (10, 500)


def test_entries_can_be_read_piece_by_piece() -> None:
    record = Record()
    for n in range(10):
        record.tell(n, "epc", "voltage", n)

    first, told = record.since(4, limit=3)

    assert (first, [each.value for each in told]) == (4, [4, 5, 6])
    assert record.since(10) == (10, [])
    assert record.since(99) == (10, [])


def test_of_an_endless_rejected_command_only_the_beginning_is_kept() -> None:
    record = Record()

    record.reject(0.0, "epc", "x" * 1_000_000)

    _, (told,) = record.since()
    assert told.value == "x" * 200
