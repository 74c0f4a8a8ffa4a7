import numpy as np

from keyrate.comparison import TWIN_FIELD, Hardware, compare

LENGTHS_KM = np.array([0.0, 50, 150, 300, 400])


def test_no_curve_passes_its_ceiling_and_all_fall() -> None:
    for curve in compare(Hardware(), LENGTHS_KM).values():
        assert np.all(curve.bits_per_pulse <= curve.ceiling)
        assert np.all(np.diff(curve.bits_per_pulse) <= 0)


def test_twin_field_alone_goes_far() -> None:
    hardware = Hardware(dark_probability=1e-8)
    far = {
        name
        for name, curve in compare(hardware, 400.0).items()
        if curve.bits_per_pulse[0] > 1e-8 and curve.security_class == "general"
    }

    assert far == TWIN_FIELD
