import math

import numpy as np
import pytest

from calibration.plateau import BiasLook, PlateauCurve, fit_plateau

TRUTH = PlateauCurve(
    plateau_hz=50_000, onset=8.0, width=2.0, dark_hz=40.0, dark_scale=1.5, reference=15.0
)


def look(bias: float, generator: np.random.Generator) -> BiasLook:
    at = np.array(bias)
    dark_hz = float(TRUTH.darkness_hz(at))
    lit = generator.poisson((float(TRUTH.light_hz(at)) + dark_hz) * 0.1)
    return BiasLook(bias, int(lit), 0.1, int(generator.poisson(dark_hz)), 1.0)


def test_six_biases_tell_plateau_edge_and_dark_counts() -> None:
    generator = np.random.default_rng(5)

    found = fit_plateau([look(float(bias), generator) for bias in np.linspace(4, 20, 6)])

    assert found.plateau_hz == pytest.approx(TRUTH.plateau_hz, rel=0.03)
    assert found.onset == pytest.approx(TRUTH.onset, abs=0.2)
    assert found.width == pytest.approx(TRUTH.width, abs=0.4)
    assert float(found.darkness_hz(np.array(15.0))) == pytest.approx(40, rel=0.3)
    assert found.dark_scale == pytest.approx(TRUTH.dark_scale, rel=0.15)


def test_on_the_plateau_alone_the_rate_is_flat_and_no_edge_is_invented() -> None:
    generator = np.random.default_rng(6)

    found = fit_plateau([look(float(bias), generator) for bias in (13, 14, 15, 16)])

    rates = found.light_hz(np.array([13.0, 16.0]))
    assert rates[0] / rates[1] == pytest.approx(1, abs=0.05)
    assert math.isfinite(found.onset)


def test_without_any_dark_count_the_fit_stands() -> None:
    looks = [BiasLook(bias, 1000, 1.0, 0, 1.0) for bias in (1.0, 2.0, 3.0)]

    assert float(fit_plateau(looks).darkness_hz(np.array(2.0))) < 1


@pytest.mark.parametrize(
    "looks",
    [
        [BiasLook(1.0, 10, 1, 0, 1), BiasLook(2.0, 10, 1, 0, 1)],
        [BiasLook(bias, 0, 1, 0, 1) for bias in (1.0, 2.0, 3.0)],
    ],
    ids=["two biases", "no counts"],
)
def test_what_shows_no_plateau_is_refused(looks: list[BiasLook]) -> None:
    with pytest.raises(ValueError, match="plateau"):
        fit_plateau(looks)


@pytest.mark.parametrize("last_s", [0.089, 0.0895, 0.0905])
def test_dark_counts_far_above_the_light_do_not_hide_the_plateau(last_s: float) -> None:
    counted = [  # bias, lit, lit_s, dark: about 1150 counts/s of light, a hundred times that dark
        (4.0, 37, 80.0, 1),
        (7.6, 5519, 9.31, 8),
        (11.2, 3712, 3.092, 66),
        (14.8, 4544, 2.327, 880),
        (18.4, 7888, 0.758, 9242),
        (22.0, 9274, last_s, 101_914),
    ]
    looks = [BiasLook(bias, lit, lit_s, dark, 1.0) for bias, lit, lit_s, dark in counted]

    assert fit_plateau(looks).plateau_hz == pytest.approx(1145, rel=0.1)
