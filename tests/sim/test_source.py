import numpy as np
import pytest

from sim.source import PATTERN, Source, SourceSettings


def test_the_pattern_repeats_after_the_common_multiple_of_both_sequences() -> None:
    source = Source(SourceSettings())

    assert source.period_slots == 20
    assert source.slot_ps == pytest.approx(10_000)
    assert source.period_ps == pytest.approx(200_000)


def test_each_slot_carries_its_state_and_its_intensity() -> None:
    source = Source(SourceSettings())

    assert source.sent_states(0.0)[:6].tolist() == [0, 1, 2, 3, 0, 1]
    assert source.mean_photons()[:6].tolist() == [0.5, 0.5, 0.5, 0.1, 0.0005, 0.5]


def test_every_state_is_sent_equally_often_at_every_intensity() -> None:
    source = Source(SourceSettings())
    pairs = set(zip(source.pattern_states().tolist(), source.mean_photons(), strict=True))

    assert len(pairs) == 4 * 3


def test_a_static_state_fills_every_slot_from_its_time_on() -> None:
    source = Source(SourceSettings())
    source.set_state("A", now_s=1.0)

    assert set(source.sent_states(1.0).tolist()) == {3}
    assert source.sent_states(0.5)[:4].tolist() == [0, 1, 2, 3]


def test_a_static_state_leaves_intensities_and_period_alone() -> None:
    source = Source(SourceSettings())
    before = source.mean_photons()
    source.set_state("H", now_s=0.0)

    np.testing.assert_array_equal(source.mean_photons(), before)
    assert source.sent_states(0.0).shape == (20,)


def test_the_state_is_the_latest_or_that_of_a_time() -> None:
    source = Source(SourceSettings())
    source.set_state("D", now_s=1.0)
    source.set_state(PATTERN, now_s=2.0)

    assert [source.state(), source.state(1.5), source.state(0.0)] == [PATTERN, "D", PATTERN]


def test_the_signal_is_the_brightest_intensity_that_is_sent() -> None:
    settings = SourceSettings(
        intensities=("dim", "bright"), mean_photon_numbers={"dim": 0.1, "bright": 0.4, "unused": 9}
    )

    assert Source(settings).signal_mean_photons == 0.4


@pytest.mark.parametrize("state", ["", "HV", "pattern", "R"])
def test_a_state_that_alice_does_not_have_is_refused(state: str) -> None:
    source = Source(SourceSettings())
    with pytest.raises(ValueError, match="neither PATTERN nor one of HVDA"):
        source.set_state(state, now_s=0.0)

    assert source.state() == PATTERN


@pytest.mark.parametrize(
    "wrong",
    [
        {"clock_hz": 0.0},
        {"states": "HR"},
        {"states": ""},
        {"intensities": ("unheard-of",)},
        {"mean_photon_numbers": {"signal": -0.5, "decoy": 0.1, "vacuum": 0.0}},
    ],
)
def test_a_source_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        SourceSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose
