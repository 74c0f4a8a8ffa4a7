"""What may be posted, what is refused, and that no refusal repeats what was sent."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdctl.feed import MAX_LINE, FeedError, message_line, parse_message
from qkdctl.feed_windows import FeedWindow, window_of

COUNTS = [[90, 3, 40, 44], [2, 88, 41, 39], [45, 40, 91, 1], [38, 42, 4, 86]]
BASES = {"Z": {"sifted": 812, "errors": 9}, "X": {"sifted": 790, "errors": 12}}


def message(**changes: Any) -> dict[str, Any]:
    """A message of error counts; a field set to None is left out."""
    whole = {
        "version": 1,
        "sequence": 7,
        "start_s": 1.7e9,
        "duration_s": 0.5,
        "origin": "error-correction",
        "bases": BASES,
    } | changes
    return {name: value for name, value in whole.items() if value is not None}


def line(**changes: Any) -> bytes:
    return json.dumps(message(**changes)).encode() + b"\n"


def refusal(text: bytes) -> FeedError:
    with pytest.raises(FeedError) as caught:
        parse_message(text)
    return caught.value


def window(**changes: Any) -> FeedWindow:
    return FeedWindow(parse_message(line(**changes)), 0.0, {})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"origin": "calibration", "counts": COUNTS, "bases": None},
        {"origin": "sampled", "sampled_share": 0.1},
        {"origin": "sampled", "sampled_share": 1, "counts": COUNTS, "bases": None},
        {"bases": {"Z": {"sifted": 0, "errors": 0}}},
        {"bases": {"both": {"sifted": 9, "errors": 9}}},
        {"stream": "alice-2", "posted_s": 1.7e9 + 1, "in_force_s": 1.7e9, "singles": [9, 9, 9, 9]},
    ],
)
def test_every_kind_of_message_survives_being_written_and_read(changes: dict[str, Any]) -> None:
    posted = parse_message(line(**changes))

    assert parse_message(message_line(posted)) == posted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version"),
        ({"version": None}, "version: Field required"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": 1.5}, "sequence"),
        ({"start_s": "now"}, "start_s"),
        ({"duration_s": 0}, "duration_s"),
        ({"duration_s": 1e9}, "duration_s"),
        ({"origin": "guessed"}, "origin"),
        ({"origin": "sampled"}, "sampled_share goes with origin 'sampled'"),
        ({"sampled_share": 0.5}, "sampled_share goes with origin 'sampled'"),
        ({"bases": None}, "give counts (4 x 4) or bases"),
        ({"counts": COUNTS}, "give counts (4 x 4) or bases"),
        ({"bases": {}}, "there are no counts"),
        ({"bases": BASES | {"both": BASES["Z"]}}, "'both' stands alone"),
        ({"bases": {"Z": {"sifted": 3, "errors": 4}}}, "more errors than sifted"),
        ({"bases": {"Z": {"sifted": True, "errors": 0}}}, "bases.Z.sifted"),
        ({"bases": None, "counts": COUNTS[:3], "origin": "calibration"}, "counts"),
        ({"bases": None, "counts": COUNTS, "origin": "mismatched"}, "zeros where the bases"),
        ({"qber": 0.02}, "qber: there is no such field; known are version, sequence"),
        ({"bases": {"Y": BASES["Z"]}}, "bases.Y: there is no such field; known are Z, X, both"),
    ],
)
def test_a_mistake_is_named_with_its_field(changes: dict[str, Any], said: str) -> None:
    error = refusal(line(**changes))

    assert error.reason == "malformed"
    assert said in str(error)


@pytest.mark.parametrize("number", [7, None])
def test_a_refusal_says_which_window_it_is_about(number: int | None) -> None:
    assert refusal(line(sequence=number, origin="guessed")).sequence == number


@pytest.mark.parametrize(
    "secret",
    [
        {"key": "0110"},
        {"sifted_key": [0, 1, 1]},
        {"siftedBits": 5},
        {"raw": "0110101101101011"},
        {"x": "deadbeefdeadbeef"},
        {"x": [0, 1, 1, 0, 1, 0, 0, 1]},
        {"x": {"y": "c2VjcmV0IGtleSBiaXRz"}},
        {"x": 2**200},
        {"0110101101101011": 1},
    ],
)
def test_what_looks_like_key_is_refused_and_not_repeated(secret: dict[str, Any]) -> None:
    error = refusal(line(**secret))

    assert error.reason == "key-bits"
    assert "never send key" in str(error)
    assert "0110" not in str(error)
    assert "deadbeef" not in str(error)


@pytest.mark.parametrize("text", [b"", b"nonsense", b"\xff\xfe", b"{", b"[" * 8000, b'{"a": NaN}'])
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    assert refusal(text).reason in {"not-json", "malformed"}


def test_a_line_that_is_too_long_is_refused_unread() -> None:
    assert refusal(b" " * (MAX_LINE + 1)).reason == "too-long"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    assert refusal(text).reason in {"not-json", "malformed", "key-bits"}


@settings(max_examples=60)
@given(st.sampled_from(sorted(message(counts=COUNTS, singles=[1] * 4, stream="a"))), JSON)
def test_any_value_in_any_field_is_read_or_refused(name: str, value: Any) -> None:
    text = json.dumps(message() | {name: value}).encode()
    try:
        posted = parse_message(text)
    except FeedError:
        assert len(str(refusal(text))) < 300
    else:
        assert parse_message(message_line(posted)) == posted


@settings(max_examples=30)
@given(st.text("0123456789abcdef", min_size=8, max_size=64))
def test_no_refusal_repeats_hexadecimal_digits(secret: str) -> None:
    for changes in ({secret: 1}, {"note": secret}, {"origin": secret}, {"version": secret}):
        assert secret not in str(refusal(line(**changes)))


@settings(max_examples=20)
@given(
    st.integers(0, 10**9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    st.integers(0, 10**9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
)
def test_error_counts_become_a_table_with_the_same_errors(
    z: tuple[int, int], x: tuple[int, int]
) -> None:
    bases = {"Z": {"sifted": z[0], "errors": z[1]}, "X": {"sifted": x[0], "errors": x[1]}}

    n, k = window_of([window(bases=bases)], "signal", (), 0.0).signal.by_basis()

    assert n.tolist() == [[z[0], 0], [0, x[0]]]
    assert k.tolist() == [[z[1], 0], [0, x[1]]]


@settings(max_examples=20)
@given(st.integers(0, 10**9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pooled_errors_keep_their_sum(both: tuple[int, int]) -> None:
    bases = {"both": {"sifted": both[0], "errors": both[1]}}

    pooled = window_of([window(bases=bases)], "signal", (), 0.0)

    assert (pooled.signal.sifted, pooled.signal.errors) == both
    assert "pooled" in pooled.flags


def test_a_window_counts_what_was_sampled_and_says_that_it_was() -> None:
    sampled = window(origin="sampled", sampled_share=0.05)

    counted = window_of([sampled], "signal", (), 0.0)

    assert counted.disclosure == "sampled"
    assert counted.photons == counted.signal.sifted == 812 + 790


def test_error_counts_are_those_of_the_bits_and_a_table_is_that_of_the_detectors() -> None:
    errors = window_of([window()], "signal", ("Z",), 0.0)
    table = window(bases=None, counts=COUNTS, origin="calibration")
    counts = window_of([table], "signal", ("Z",), 0.0)

    assert errors.signal.errors == 9 + 12
    assert np.array_equal(counts.clicks[0], COUNTS)
    assert counts.signal.qber_z.value > 0.9


def test_windows_of_one_setting_add_up() -> None:
    both = window_of([window(), window(singles=[500, 500, 500, 500])], "signal", (), 0.0)

    assert both.duration_s == 1.0
    assert both.signal.sifted == 2 * (812 + 790)
    assert both.photons == 812 + 790 + 2000


@pytest.mark.parametrize(("dark_rate_hz", "is_dark"), [(0.0, False), (1000.0, False), (4e3, True)])
def test_no_more_counts_than_the_dark_ones_are_darkness(dark_rate_hz: float, is_dark: bool) -> None:
    counted = window_of([window()], "signal", (), dark_rate_hz)

    assert ("dark" in counted.flags) is is_dark
