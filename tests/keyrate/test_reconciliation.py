import numpy as np
import pytest

from keyrate.entropy import binary_entropy
from keyrate.reconciliation import inefficiency, leak_per_bit, prepare


@pytest.mark.parametrize(
    ("qber", "offset", "f"), [(0.01, -0.005, 2.32), (0.03, 0.002, 1.215), (0.05, 0.0, 1.176)]
)
def test_the_measured_inefficiencies(qber: float, offset: float, f: float) -> None:
    assert inefficiency(np.array(qber), np.array(qber + offset)) == pytest.approx(f)


def test_a_code_never_tells_less_than_it_must() -> None:
    qber, prepared = np.meshgrid(np.linspace(0.001, 0.2, 40), np.linspace(0.001, 0.3, 40))

    assert np.all(leak_per_bit(qber, prepared) >= binary_entropy(qber))


def test_a_known_error_rate_needs_hardly_a_margin() -> None:
    best = prepare(0.03, 0.0)

    assert abs(best.margin) < 5e-4
    assert best.leak_per_bit == pytest.approx(1.197 * float(binary_entropy(0.03)), rel=1e-3)


@pytest.mark.parametrize("qber", [0.01, 0.03])
def test_doubt_asks_for_a_margin_above(qber: float) -> None:
    assert prepare(qber, 0.003).margin > max(prepare(qber, 0.0005).margin, 0.0)


def test_the_choice_is_the_best_of_all_under_its_posterior() -> None:
    draw = np.random.default_rng(5)
    pseudo = 0.02 * 0.98 / 0.002**2 - 1
    true = draw.beta(0.02 * pseudo, 0.98 * pseudo, 20_000)
    best = prepare(0.02, 0.002)

    leaks = [leak_per_bit(true, np.array(0.02 + m)).mean() for m in np.linspace(-0.004, 0.008, 25)]

    assert leak_per_bit(true, np.array(best.qber)).mean() <= 1.002 * min(leaks)
    assert best.leak_per_bit == pytest.approx(min(leaks), rel=0.01)


@pytest.mark.parametrize(("qber", "sigma"), [(0.0, 0.001), (0.6, 0.01), (0.02, 0.2), (0.02, -1.0)])
def test_what_is_no_posterior_is_refused(qber: float, sigma: float) -> None:
    with pytest.raises(ValueError, match="no posterior of a QBER"):
        prepare(qber, sigma)
