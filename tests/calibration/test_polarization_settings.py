from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from calibration.chain import Chain
from calibration.polarization_settings import OWN_SETTINGS, PolarizationSettings

THREE, FOUR = ("a", "b", "c"), ("a", "b", "c", "d")
THREE_CELLS: dict[str, Any] = {"actuator": "retarders", "azimuth_deg": (0, 90, 0)}


def settings(knobs: tuple[str, ...] = THREE, **said: Any) -> PolarizationSettings:
    return PolarizationSettings(knobs=knobs, **said)


def sigmas(chain: Chain) -> list[float]:
    with np.errstate(divide="ignore"):  # infinite where nothing is known
        widths: list[float] = (chain.prior.precision**-0.5).tolist()
    return widths


@pytest.mark.parametrize(
    ("said", "kind", "period"),
    [
        ({"knobs": FOUR}, "retarders", 5.0),
        (THREE_CELLS, "variable-retarders", 1.0),
        ({"knobs": FOUR, "actuator": "retarders"}, "variable-retarders", 1.0),
        ({"actuator": "paddles"}, "wave-plates", None),
        ({"actuator": "wave-plates"}, "wave-plate-stack", None),
    ],
)
def test_each_actuator_has_a_model_and_a_period_where_the_qber_is_a_sinusoid(
    said: dict[str, Any], kind: str, period: float | None
) -> None:
    chosen = settings(**said)

    assert chosen.chain([0.5] * chosen.channels).kind == kind
    assert chosen.period == period


def test_only_the_model_knows_where_bits_are_to_be_inverted() -> None:
    with pytest.raises(ValidationError, match="may_invert needs sampler 'model'"):
        settings(knobs=FOUR, sampler="tpe", may_invert=True)


def test_what_is_known_of_cells_becomes_their_prior() -> None:
    chosen = settings(**THREE_CELLS, scale_sigma=0.04, offset_sigma_waves=0.01)

    # 3 scales, the middle offset, 2 azimuths, the floor
    expected = [0.04] * 3 + [2 * np.pi * 0.01] + [np.radians(6)] * 2 + [0.6]
    assert sigmas(chosen.chain([0.5] * 3)) == pytest.approx(expected)


def test_what_is_known_of_wave_plates_becomes_their_prior() -> None:
    chosen = settings(
        actuator="wave-plates",
        retardance_sigma_waves=0.005,
        homing_sigma_deg=1.0,
        zero_deg=(1, 2, 3),
    )

    chain = chosen.chain([90.0] * 3)

    retardances, offset = sigmas(chain)[:3], sigmas(chain)[3]
    assert retardances == pytest.approx([2 * np.pi * 0.005] * 3)
    assert offset == pytest.approx(2 * np.radians(1.0) * np.sqrt(6))
    assert chain.to_dict()["centre_deg"] == [1, 2, 3]


def test_retardances_are_known_as_well_as_is_usual_for_the_plates() -> None:
    bulk, fibre = (
        sigmas(settings(actuator=each).chain([0.0] * 3))[0] for each in ("wave-plates", "paddles")
    )

    assert (bulk, fibre) == pytest.approx((2 * np.pi * 0.01, 2 * np.pi * 0.02))


@pytest.mark.parametrize(
    ("said", "mistake"),
    [
        ({"actuator": "retarders"}, r"4 retarders \(azimuth_deg\) but 3 knobs"),
        ({**THREE_CELLS, "half_wave_v": 2.5}, "half_wave_v belongs to actuator 'squeezers', but"),
        ({**THREE_CELLS, "twist": 0.1}, "twist belongs to actuator 'paddles', but"),
        ({"actuator": "wave-plates", "twist": 0.1}, "twist belongs to actuator 'paddles', but"),
        ({"actuator": "paddles", "zero_deg": (0, 0, 0)}, "zero_deg belongs to actuator 'wave-"),
        ({"actuator": "wave-plates", "azimuth_deg": (0, 1, 2)}, "'squeezers' or 'retarders'"),
        ({"actuator": "wave-plates", "zero_deg": (0, 0)}, "2 angles for 3 wave plates; give one"),
        ({"actuator": "wave-plates", "homing_sigma_deg": 40}, "less than or equal to 10"),
        ({**THREE_CELLS, "offset_sigma_waves": 0}, "greater than 0"),
    ],
)
def test_what_does_not_fit_the_actuator_is_refused(said: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError, match=mistake):
        settings(**said)


def test_every_actuator_s_own_settings_exist() -> None:
    for names in OWN_SETTINGS.values():
        assert set(names) <= set(PolarizationSettings.model_fields)
