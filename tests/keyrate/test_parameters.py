import numpy as np
import pytest
from scipy.optimize import differential_evolution

from keyrate.ascent import climb
from keyrate.finite import Security, Source, expected_block
from keyrate.finite_two_decoys import two_decoy_length
from keyrate.link import WeakCoherentLink, fibre_transmittance
from keyrate.parameters import Operation, best_two_decoys

LINK = WeakCoherentLink(0.1 * float(fibre_transmittance(50.0)), 1.2e-6, 0.005, 0.04)
SECURITY = Security(1e-10, 1e-15)


def test_a_climb_ends_on_the_summit_of_a_bent_ridge() -> None:
    def height(points: np.ndarray) -> np.ndarray:
        x, y = points.T
        return np.asarray(-((1 - x) ** 2) - 10 * (y - x**2) ** 2)

    at, highest = climb(height, np.array([-1.0, 2.0]))

    assert at == pytest.approx([1.0, 1.0], abs=0.01)
    assert highest == pytest.approx(0, abs=1e-4)


def rate_of(operation: np.ndarray, pulses: float) -> float:
    """Return the rate at a key basis probability, two intensities and two chances."""
    chosen, signal, share, first, second = operation
    means = np.array([signal, share * signal, 2e-4])
    chances = np.array([first, (1 - first) * second, (1 - first) * (1 - second)])
    source = Source(means, chances)
    block = expected_block(LINK, source, pulses, chosen)
    return float(two_decoy_length(block, source, SECURITY).unclipped) / pulses


@pytest.mark.parametrize("pulses", [3e8, 1e11])
def test_the_best_operation_is_that_of_a_global_search(pulses: float) -> None:
    ours = best_two_decoys(LINK, pulses, SECURITY)

    limits = [(0.3, 0.999), (0.1, 1.0), (0.02, 0.95), (0.02, 0.98), (0.02, 0.98)]
    theirs = differential_evolution(
        lambda x: -rate_of(x, pulses) * 1e6, limits, seed=1, maxiter=60, popsize=10, tol=1e-8
    )
    assert ours.bits_per_pulse >= 0.9999e-6 * -theirs.fun
    assert ours.bits_per_pulse == pytest.approx(ours.length.unclipped / pulses)


def test_a_link_that_has_changed_a_little_is_found_from_where_it_was() -> None:
    before = best_two_decoys(WeakCoherentLink(0.011, 1.2e-6, 0.006, 0.04), 1e11, SECURITY)

    warm = best_two_decoys(LINK, 1e11, SECURITY, start=before)
    cold = best_two_decoys(LINK, 1e11, SECURITY)

    assert warm.bits_per_pulse == pytest.approx(cold.bits_per_pulse, rel=1e-4)


def test_a_start_without_key_traps_nobody() -> None:
    hopeless = Source([0.02, 0.001, 2e-4], [0.01, 0.01, 0.98])
    block = expected_block(LINK, hopeless, 1e11, 0.01)
    start = Operation(0.01, hopeless, -1.0, two_decoy_length(block, hopeless, SECURITY))

    found = best_two_decoys(LINK, 1e11, SECURITY, start=start)

    assert found.bits_per_pulse == pytest.approx(
        best_two_decoys(LINK, 1e11, SECURITY).bits_per_pulse, rel=1e-4
    )


def test_the_same_link_gives_the_same_operation() -> None:
    first, second = (best_two_decoys(LINK, 1e10, SECURITY) for _ in range(2))

    assert first.bits_per_pulse == second.bits_per_pulse
    assert first.key_basis_probability == second.key_basis_probability


def test_a_dead_link_has_no_key_and_says_so() -> None:
    assert best_two_decoys(WeakCoherentLink(1e-7, 1e-5, 0.03), 1e9, SECURITY).bits_per_pulse < 0


@pytest.mark.parametrize(("pulses", "weakest"), [(0.0, 1e-4), (1e9, -1.0)])
def test_a_block_that_cannot_be_is_refused(pulses: float, weakest: float) -> None:
    with pytest.raises(ValueError, match="no block of"):
        best_two_decoys(LINK, pulses, SECURITY, weakest=weakest)
