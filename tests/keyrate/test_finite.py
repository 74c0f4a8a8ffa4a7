"""Finite blocks: worked examples of the two analyses, and what must hold of any."""

import numpy as np
import pytest

from keyrate.decoy_bb84 import DecoyBB84, decoy_bb84
from keyrate.finite import Block, Security, Source, expected_block
from keyrate.finite_one_decoy import one_decoy_length
from keyrate.finite_two_decoys import two_decoy_length
from keyrate.link import WeakCoherentLink, fibre_transmittance

LINK = WeakCoherentLink(0.1 * fibre_transmittance(100.0), 1.2e-6, 0.005, 0.04)
THREE = Source([0.45, 0.20, 2e-4], [0.40, 0.45, 0.15])
TWO = Source([0.5, 0.15], [0.7, 0.3])


def block() -> Block:
    return expected_block(LINK, THREE, 1e11, 0.85)


def test_counts_to_expect_of_the_worked_example() -> None:
    counts = block()

    assert counts.key == pytest.approx([13_558_208.26, 6_802_491.27, 15_779.397], rel=1e-8)
    assert counts.test == pytest.approx([422_227.939, 211_842.289, 491.400], rel=1e-6)
    assert counts.key_errors == pytest.approx([343_085.146, 182_833.889, 6_816.787], rel=1e-7)
    assert counts.test_errors == pytest.approx([10_684.312, 5_693.789, 212.287], rel=1e-5)


def test_the_key_of_the_worked_example_with_two_decoys() -> None:
    length = two_decoy_length(block(), THREE, Security(1e-10, 1e-15))

    assert length.key_singles == pytest.approx(13_072_705.18, rel=1e-8)
    assert length.test_singles == pytest.approx(366_225.95, rel=1e-7)
    assert length.test_single_errors == pytest.approx(15_770.10, rel=1e-6)
    assert length.phase_error == pytest.approx(0.0462616, rel=1e-6)
    assert length.leak == pytest.approx(4_128_687.37, rel=1e-8)
    assert length.bits == 5_410_201


def test_the_key_of_the_worked_example_with_one_decoy() -> None:
    link = WeakCoherentLink(1e-3, 1e-7, 0.01)
    counts = expected_block(link, TWO, 1e11, 0.9)

    length = one_decoy_length(counts, TWO, Security(1e-9, 1e-15))

    assert counts.key.sum() == pytest.approx(31_995_737, rel=1e-7)
    assert counts.qber == pytest.approx(0.0101240, rel=1e-5)
    assert length.key_singles == pytest.approx(18_419_280, rel=1e-7)
    assert length.test_singles == pytest.approx(193_126, rel=1e-5)
    assert length.test_single_errors == pytest.approx(5_650.2, rel=1e-5)
    assert length.phase_error == pytest.approx(0.0327175, rel=1e-5)
    assert length.bits == 11_561_600


def test_a_measured_leak_takes_the_place_of_the_modelled_one() -> None:
    told = two_decoy_length(block(), THREE, Security(1e-10, 1e-15), leak=5e6)
    modelled = two_decoy_length(block(), THREE, Security(1e-10, 1e-15))

    assert told.unclipped == pytest.approx(modelled.unclipped + modelled.leak - 5e6)


def test_a_block_of_nothing_has_no_key_and_still_a_figure() -> None:
    nothing = Block(*np.zeros((4, 3)))

    length = two_decoy_length(nothing, THREE, Security())

    assert length.bits == 0
    assert np.isfinite(length.unclipped)


def test_blocks_are_computed_side_by_side() -> None:
    pulses = np.array([1e9, 1e10, 1e11])
    counts = expected_block(LINK, THREE, pulses, 0.85)

    together = two_decoy_length(counts, THREE, Security())
    alone = two_decoy_length(block(), THREE, Security())

    assert together.unclipped.shape == (3,)
    assert together.unclipped[2] == pytest.approx(alone.unclipped)
    assert np.all(np.diff(together.unclipped / pulses) > 0)


def test_endless_blocks_approach_the_asymptotic_rate_from_below() -> None:
    link, source = WeakCoherentLink(1e-2, 1e-7, 0.01), Source([0.5, 0.1, 1e-4], [0.98, 0.01, 0.01])
    pulses = 1e18

    length = two_decoy_length(expected_block(link, source, pulses, 0.99), source, Security())
    endless = decoy_bb84(link, DecoyBB84(0.5, 0.1, sifting=0.99**2 * 0.98), "vacuum+weak")

    assert 0.95 < length.unclipped / pulses / endless.unclipped < 1.05


@pytest.mark.parametrize(
    ("length_of", "source", "said"),
    [(two_decoy_length, TWO, "three intensities"), (one_decoy_length, THREE, "two intensities")],
)
def test_another_number_of_intensities_is_refused(
    length_of: object, source: Source, said: str
) -> None:
    counts = expected_block(LINK, source, 1e9, 0.9)

    with pytest.raises(ValueError, match=said):
        length_of(counts, source, Security())  # type: ignore[operator]
