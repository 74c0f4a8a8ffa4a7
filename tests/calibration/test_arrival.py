import numpy as np
import pytest

from calibration.arrival import Comb, fit_peak


def phases(
    centre: float, width: float, background: float, n: int, generator: np.random.Generator
) -> np.ndarray:
    even = generator.uniform(size=generator.binomial(n, background))
    crowd = centre + width * generator.standard_normal(n - len(even))
    return np.asarray(np.concatenate([crowd, even]) % 1.0)


@pytest.mark.parametrize("centre", [0.02, 0.5, 0.98])
def test_the_centre_is_found_to_a_hundredth_of_the_width_wherever_it_lies(centre: float) -> None:
    phase = phases(centre, 0.01, 0.02, 20_000, np.random.default_rng(1))

    peak = fit_peak(phase)

    assert abs((peak.centre - centre + 0.5) % 1 - 0.5) < 3e-4
    assert peak.width == pytest.approx(0.01, rel=0.03)
    assert peak.share == pytest.approx(0.98, abs=0.01)


@pytest.mark.parametrize(("width", "background"), [(0.01, 0.0), (0.01, 0.3), (0.03, 0.2)])
def test_the_standard_error_is_the_scatter_of_the_centre(width: float, background: float) -> None:
    generator = np.random.default_rng(2)
    peaks = [fit_peak(phases(0.4, width, background, 400, generator)) for _ in range(200)]

    pulls = [(peak.centre - 0.4) / peak.centre_sigma for peak in peaks]

    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    assert abs(np.mean(pulls)) < 0.25


def test_clicks_that_may_be_background_tell_less_of_the_centre() -> None:
    generator = np.random.default_rng(3)
    peaks = [fit_peak(phases(0.4, 0.1, 0.5, 600, generator)) for _ in range(300)]

    pulls = [(peak.centre - 0.4) / peak.centre_sigma for peak in peaks]

    assert np.std(pulls) == pytest.approx(1, abs=0.12)


def test_a_single_click_is_a_peak_of_its_own() -> None:
    assert fit_peak(np.array([0.25])).centre == pytest.approx(0.25)


def test_no_clicks_are_refused() -> None:
    with pytest.raises(ValueError, match="no clicks"):
        fit_peak(np.empty(0))


def test_a_comb_is_found_by_all_of_its_crowds() -> None:
    generator = np.random.default_rng(4)
    comb = Comb((-0.2, 0.0, 0.2), (0.25, 0.5, 0.25))
    peaks = []
    for _ in range(200):
        crowd = generator.choice(comb.offsets, size=400, p=comb.shares)
        peaks.append(fit_peak((phases(0.4, 0.01, 0.2, 400, generator) + crowd) % 1.0, comb))

    pulls = [(peak.centre - 0.4) / peak.centre_sigma for peak in peaks]

    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    assert abs(np.mean(pulls)) < 0.25
    assert np.mean([peak.centre_sigma for peak in peaks]) == pytest.approx(5.6e-4, rel=0.1)
