import numpy as np
import pytest

from sim.channel import Channel
from sim.polarization_twin import PolarizationTwin, PolarizationTwinSettings


@pytest.fixture
def twin() -> PolarizationTwin:
    built = PolarizationTwinSettings(seed=1).build(start_s=0.0)
    built.attenuator.set_shutter(True, 0.0)
    return built


def test_a_bent_fibre_lets_less_light_through(twin: PolarizationTwin) -> None:
    twin.channel.bend(10.0, 50.0)

    assert twin.transmission(60.0) == pytest.approx(twin.transmission(49.0) / 10)


def test_behind_a_cut_fibre_only_dark_counts_are_left(twin: PolarizationTwin) -> None:
    twin.channel.bend(100.0, 50.0)

    darks_hz = sum(twin.receiver.settings.dark_hz)
    assert twin.detection_rate_hz(60.0) == pytest.approx(darks_hz, rel=1e-3)


def test_a_cut_in_the_middle_of_a_window_ends_its_clicks_there(twin: PolarizationTwin) -> None:
    twin.channel.bend(100.0, 50.03)

    times = np.concatenate(list(twin.arrivals(50.0, 0.06).values()))

    assert np.sum(times >= 0.03e12) < 0.01 * np.sum(times < 0.03e12)


def test_stray_light_adds_clicks_to_each_detector(twin: PolarizationTwin) -> None:
    before = twin.counts(40.0, 1.0)
    twin.channel.illuminate(50_000.0, 50.0)
    after = twin.counts(60.0, 1.0)

    assert np.all(np.abs(after - before - 50_000) < 2_500)


def test_what_is_mended_is_as_it_was(twin: PolarizationTwin) -> None:
    before_hz = twin.detection_rate_hz(49.0)
    twin.channel.bend(20.0, 50.0)
    twin.channel.illuminate(1e4, 50.0)
    twin.channel.bend(0.0, 60.0)
    twin.channel.illuminate(0.0, 60.0)

    assert twin.detection_rate_hz(61.0) == pytest.approx(before_hz, rel=0.01)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_loss_and_stray_light_are_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValueError, match="is not possible"):
        Channel().bend(value, 0.0)
    with pytest.raises(ValueError, match="is not possible"):
        Channel().illuminate(value, 0.0)
