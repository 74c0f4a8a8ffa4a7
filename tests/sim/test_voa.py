from math import nan

import pytest

from sim.voa import AttenuatorModel


def opened(attenuation_db: float = 10.0, speed_db_per_s: float = 10.0) -> AttenuatorModel:
    """An attenuator whose shutter has long been open."""
    model = AttenuatorModel(attenuation_db, speed_db_per_s=speed_db_per_s)
    model.set_shutter(True, now_s=-100.0)
    return model


def test_the_shutter_is_shut_at_power_up() -> None:
    model = AttenuatorModel(10.0)

    assert not model.shutter_open(0.0)
    assert model.transmission(0.0) == 0.0


@pytest.mark.parametrize(("attenuation_db", "share"), [(0, 1.0), (3, 0.501187), (20, 0.01)])
def test_ten_decibel_are_a_factor_of_ten(attenuation_db: float, share: float) -> None:
    assert opened(attenuation_db).transmission(0.0) == pytest.approx(share, rel=1e-6)


def test_the_filter_moves_at_its_speed() -> None:
    model = opened(10.0)
    model.move_to(30.0, now_s=0.0)

    assert [model.actual_db(t) for t in (0.0, 0.5, 2.0, 5.0)] == pytest.approx([10, 15, 30, 30])
    assert model.target_db == 30.0


def test_time_left_runs_out_when_the_filter_arrives() -> None:
    model = opened(10.0)
    model.move_to(30.0, now_s=0.0)

    assert [model.time_left_s(t) for t in (0.0, 1.5, 2.0, 9.0)] == pytest.approx([2, 0.5, 0, 0])


def test_a_new_target_is_approached_from_where_the_filter_is() -> None:
    model = opened(10.0)
    model.move_to(30.0, now_s=0.0)
    model.move_to(10.0, now_s=1.0)

    assert model.actual_db(1.5) == pytest.approx(15.0)


def test_a_new_speed_holds_for_the_next_transition() -> None:
    model = opened(10.0)
    model.set_speed(1.0)
    model.move_to(20.0, now_s=0.0)

    assert model.actual_db(5.0) == pytest.approx(15.0)
    assert model.speed_db_per_s == 1.0


def test_the_shutter_shuts_at_once() -> None:
    model = opened()
    model.set_shutter(False, now_s=1.0)

    assert model.transmission(0.999) > 0
    assert model.transmission(1.0) == 0.0
    assert model.time_left_s(1.0) == 0.0


def test_the_opening_shutter_is_a_ramp_of_light() -> None:
    model = AttenuatorModel(0.0, maximum_db=40.0, speed_db_per_s=10.0)
    model.set_shutter(True, now_s=0.0)

    levels = [model.transmission(t) for t in (0.0, 2.0, 4.0, 5.0)]

    assert levels == pytest.approx([1e-4, 1e-2, 1.0, 1.0])
    assert model.time_left_s(1.0) == pytest.approx(3.0)
    assert model.shutter_open(0.0)


def test_opening_an_open_shutter_does_not_interrupt_the_light() -> None:
    model = opened(0.0)
    model.set_shutter(True, now_s=0.0)

    assert model.transmission(0.0) == 1.0


def test_the_past_stays_what_it_was() -> None:
    model = opened(10.0)
    model.move_to(40.0, now_s=1.0)
    model.set_shutter(False, now_s=2.0)

    assert model.transmission(0.5) == pytest.approx(0.1)
    assert model.shutter_open(1.5)


def test_changes_name_the_times_of_filter_and_shutter() -> None:
    model = opened()
    model.move_to(20.0, now_s=1.0)
    model.set_shutter(False, now_s=2.0)

    assert sorted(model.changes(0.0, 3.0)) == [1.0, 2.0]


@pytest.mark.parametrize("attenuation_db", [-0.1, 45.1, nan])
def test_an_attenuation_beyond_the_range_is_refused(attenuation_db: float) -> None:
    model = opened(10.0)
    with pytest.raises(ValueError, match="outside 0 to 45 dB"):
        model.move_to(attenuation_db, now_s=0.0)

    assert model.target_db == 10.0


@pytest.mark.parametrize("speed_db_per_s", [0.0, -1.0, nan])
def test_a_speed_that_is_not_positive_is_refused(speed_db_per_s: float) -> None:
    with pytest.raises(ValueError, match="not positive"):
        opened().set_speed(speed_db_per_s)
