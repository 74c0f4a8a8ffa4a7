from math import e, nan

import numpy as np
import pytest

from sim.nanowires import WIRES, Nanowires, NanowireSettings

SETTINGS = NanowireSettings()


def response(current_ua: float) -> tuple[float, float]:
    wires = Nanowires()
    wires.set_bias(2, current_ua, now_s=0.0)
    efficiency, dark = wires.response(1.0)
    return float(efficiency[1]), float(dark[1])


def test_at_the_default_bias_nothing_changes() -> None:
    efficiency, dark = Nanowires().response(0.0)

    assert np.array_equal(efficiency, np.ones(4))
    assert np.array_equal(dark, np.ones(4))


def test_the_default_bias_lies_on_the_plateau() -> None:
    efficiency, _ = response(SETTINGS.default_bias_ua + 2)

    assert efficiency == pytest.approx(1, abs=1e-5)


def test_half_of_the_plateau_is_reached_at_the_onset() -> None:
    efficiency, _ = response(SETTINGS.onset_ua)

    assert efficiency == pytest.approx(0.5, abs=1e-5)


def test_efficiency_and_dark_counts_rise_with_the_bias() -> None:
    steps = [response(current_ua) for current_ua in np.linspace(1, 24, 24)]

    assert np.all(np.diff([efficiency for efficiency, _ in steps]) >= 0)
    assert np.all(np.diff([dark for _, dark in steps]) > 0)


def test_dark_counts_grow_e_fold_with_the_dark_scale() -> None:
    _, dark = response(SETTINGS.default_bias_ua + SETTINGS.dark_scale_ua)

    assert dark == pytest.approx(e)


def test_without_bias_a_wire_is_blind_and_silent() -> None:
    assert response(0.0) == (0.0, 0.0)


def test_the_sign_of_the_bias_does_not_matter() -> None:
    assert response(-12.0) == response(12.0)


def test_above_the_switching_current_a_wire_latches_until_the_bias_is_taken_down() -> None:
    wires = Nanowires()
    for now_s, current_ua in enumerate((26.0, 15.0, 0.0, 15.0)):
        wires.set_bias(1, current_ua, now_s=float(now_s))

    assert [wires.is_latched(1, now_s) for now_s in (0.5, 1.5, 2.5, 3.5)] == [1, 1, 0, 0]
    assert [wires.response(now_s)[0][0] for now_s in (0.5, 1.5, 3.5)] == [0, 0, 1]


def test_each_wire_has_its_own_bias_and_remembers_when_it_was_set() -> None:
    wires = Nanowires()
    wires.set_bias(4, 10.0, now_s=5.0)

    assert [wires.bias_ua(wire, 6.0) for wire in WIRES] == [15.0, 15.0, 15.0, 10.0]
    assert wires.bias_ua(4, 4.0) == 15.0
    assert wires.changes(0.0, 10.0) == [5.0]


@pytest.mark.parametrize(("detector", "current_ua"), [(0, 10.0), (5, 10.0), (1, nan)])
def test_what_cannot_be_set_is_refused(detector: int, current_ua: float) -> None:
    with pytest.raises(ValueError, match=r"1 to 4|not possible"):
        Nanowires().set_bias(detector, current_ua, now_s=0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"default_bias_ua": 30.0},
        {"retrapping_ua": 16.0},
        {"width_ua": 0.0},
        {"dark_scale_ua": -1.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"order|positive"):
        NanowireSettings(**wrong)
