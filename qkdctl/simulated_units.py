"""Which simulated unit stands in for each kind of instrument, set up as its options say."""

from collections.abc import Callable, Mapping
from typing import Any

from drivers.attenuators.keysight_n77xx import N77xxOptions
from drivers.polarization_controllers.ozoptics_epc400 import Epc400Options
from sim.epc400 import Epc400Settings
from sim.id900 import Id900Settings
from sim.instrument import InstrumentSettings
from sim.n77xx import N77xxSettings
from sim.record import Limits
from sim.state_source import StateSourceSettings

Unit = tuple[InstrumentSettings, Mapping[str, Limits]]
"""What the unit is, and the limits that commands to it must keep, by quantity."""


def simulated_unit(kind: str, options: Any, *, is_on_link: bool) -> Unit:
    """Return the unit that stands in for an instrument.

    Args:
        kind: Kind in the testbed file.
        options: The driver's options.
        is_on_link: Whether an attenuator is the one that the link's light passes.

    Raises:
        KeyError: There is no simulated instrument of this kind.
        ValueError: There is none that is set up so.
    """
    return UNITS[kind](options, is_on_link)


def _epc400(options: Epc400Options, is_on_link: bool) -> Unit:
    voltage_v = Limits(options.min_voltage_v, options.max_voltage_v)
    return Epc400Settings(), {"voltage": voltage_v}


def _n77xx(options: N77xxOptions, is_on_link: bool) -> Unit:
    attenuation_db = Limits(options.min_attenuation_db, options.max_attenuation_db)
    settings = N77xxSettings(slot=options.slot, is_on_link=is_on_link)
    return settings, {"attenuation": attenuation_db}


def _id900(options: Any, is_on_link: bool) -> Unit:
    return Id900Settings(), {}


def _state_source(options: Any, is_on_link: bool) -> Unit:
    return StateSourceSettings(), {}


UNITS: Mapping[str, Callable[[Any, bool], Unit]] = {
    "idq-id900": _id900,
    "keysight-n77xx": _n77xx,
    "line-instrument": _state_source,
    "ozoptics-epc400": _epc400,
}
