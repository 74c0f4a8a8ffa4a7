"""Which simulated unit stands in for each kind of instrument, and what it drives."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from calibration.clicks import STATES
from drivers.attenuators.hp_8156a import Hp8156aOptions
from drivers.attenuators.jdsu_ha9 import Ha9Options
from drivers.attenuators.keysight_n77xx import N77xxOptions
from drivers.attenuators.ozoptics_dd100 import Dd100Options
from drivers.detectors.sfifteen_spd_options import SpdOptions
from drivers.detectors.singlequantum_websq_options import WebSqOptions
from drivers.phase.thorlabs_mbx_options import MbxOptions
from drivers.phase.thorlabs_mdt693b import Mdt693bOptions
from drivers.polarization_controllers.ozoptics_epc400 import Epc400Options
from drivers.polarization_controllers.thorlabs_lcc25 import Lcc25Options
from drivers.polarization_controllers.thorlabs_mpc320_options import Mpc320Options
from drivers.switches.polatis import PolatisOptions
from drivers.temperature.meerstetter_tec import MeerstetterTecOptions
from drivers.temperature.thorlabs_tc200 import Tc200Options
from drivers.time_taggers.sfifteen_tdc1_options import Tdc1Options
from drivers.time_taggers.swabian_timetagger_options import TimeTaggerOptions
from drivers.voltage_sources.keysight_33500b import Keysight33500Options
from drivers.voltage_sources.limits import VoltageOptions
from drivers.voltage_sources.siglent_sdg import SdgOptions
from drivers.voltage_sources.srs_sim928 import Sim928Options
from drivers.voltage_sources.yokogawa_gs200 import Gs200Options
from qkdctl.config import Testbed
from sim.instrument import InstrumentSettings
from sim.instruments.dd100 import Dd100Settings
from sim.instruments.epc400 import Epc400Settings
from sim.instruments.gs200 import Gs200Settings
from sim.instruments.ha9 import Ha9Settings
from sim.instruments.hp8156a import Hp8156aSettings
from sim.instruments.id900 import Id900Settings
from sim.instruments.keysight33500 import Keysight33500Settings
from sim.instruments.lcc25 import Lcc25Settings
from sim.instruments.mbx import MbxSettings
from sim.instruments.mdt693b import Mdt693bSettings
from sim.instruments.meerstetter import MeerstetterSettings
from sim.instruments.mpc320 import Mpc320Settings
from sim.instruments.n77xx import N77xxSettings
from sim.instruments.osw import OswSettings
from sim.instruments.pm100d import Pm100dSettings
from sim.instruments.polatis import PolatisSettings
from sim.instruments.sdg import SdgSettings
from sim.instruments.sim928 import Sim928Settings
from sim.instruments.spd import SpdSettings
from sim.instruments.state_source import StateSourceSettings
from sim.instruments.tc200 import Tc200Settings
from sim.instruments.tdc1 import Tdc1Settings
from sim.instruments.timetagger import TimeTaggerSettings
from sim.instruments.websq import WebSqSettings
from sim.levels import LevelSettings
from sim.record import Limits

LevelDriver = Gs200Settings | Keysight33500Settings | SdgSettings | Sim928Settings
"""Voltage sources that may drive a state or an intensity of Alice's source."""

Unit = tuple[InstrumentSettings, Mapping[str, Limits]]
"""What the unit is, and the limits that commands to it must keep, by quantity."""


def simulated_unit(kind: str, options: Any, *, is_on_link: bool, level: str | None = None) -> Unit:
    """Return the unit that stands in for an instrument.

    Args:
        kind: Kind in the testbed file.
        options: The driver's options.
        is_on_link: Whether an attenuator is the one that the link's light passes, or a piezo the
            one that moves the phase.
        level: The drive of Alice's source that its voltage is, such as ``state V``, or None.

    Raises:
        KeyError: There is no simulated instrument of this kind.
        ValueError: There is none that is set up so, or that drives a level.
    """
    settings, limits = UNITS[kind](options, is_on_link)
    if level is None:
        return settings, limits
    if isinstance(settings, LevelDriver):
        return replace(settings, level=level), limits
    raise ValueError(f"no simulated {kind} drives a level of the source ({level})")


def driven_levels(config: Testbed) -> dict[str, str]:
    """Name the drive of Alice's source that an instrument's voltage is, by instrument."""
    modulation = config.stages.modulation
    if modulation is None:
        return {}
    named = {f"state {state}": knob for state, knob in modulation.states.items()}
    named |= {f"intensity {name}": knob for name, knob in modulation.intensities.items()}
    return {config.knobs[knob].instrument: level for level, knob in named.items()}


def level_settings(config: Testbed) -> LevelSettings:
    """Describe Alice's modulators: half-wave voltages about those that the stage is told."""
    simulation, stage = config.simulation, config.stages.modulation
    loss_db = np.array([simulation.state_loss_db.get(state, 0.0) for state in STATES])
    settings = LevelSettings(spread=simulation.half_wave_spread, state_loss_db=loss_db)
    if stage is None:
        return settings
    return replace(
        settings,
        half_wave_v=stage.half_wave_v or settings.half_wave_v,
        intensity_half_wave_v=stage.intensity_half_wave_v or settings.intensity_half_wave_v,
    )


def _epc400(options: Epc400Options, is_on_link: bool) -> Unit:
    voltage_v = Limits(options.min_voltage_v, options.max_voltage_v)
    return Epc400Settings(), {"voltage": voltage_v}


def _n77xx(options: N77xxOptions, is_on_link: bool) -> Unit:
    attenuation_db = Limits(options.min_attenuation_db, options.max_attenuation_db)
    settings = N77xxSettings(slot=options.slot, is_on_link=is_on_link)
    return settings, {"attenuation": attenuation_db}


def _ha9(options: Ha9Options, is_on_link: bool) -> Unit:
    attenuation_db = Limits(options.min_attenuation_db, options.max_attenuation_db)
    settings = Ha9Settings(baud_rate=options.baud_rate, is_on_link=is_on_link)
    return settings, {"attenuation": attenuation_db}


def _hp8156a(options: Hp8156aOptions, is_on_link: bool) -> Unit:
    attenuation_db = Limits(options.min_attenuation_db, options.max_attenuation_db)
    return Hp8156aSettings(is_on_link=is_on_link), {"attenuation": attenuation_db}


def _dd100(options: Dd100Options, is_on_link: bool) -> Unit:
    attenuation_db = Limits(options.min_attenuation_db, options.max_attenuation_db)
    return Dd100Settings(is_on_link=is_on_link), {"attenuation": attenuation_db}


def _id900(options: Any, is_on_link: bool) -> Unit:
    return Id900Settings(), {}


def _state_source(options: Any, is_on_link: bool) -> Unit:
    return StateSourceSettings(), {}


def _mpc320(options: Mpc320Options, is_on_link: bool) -> Unit:
    angle_deg = Limits(options.min_angle_deg, options.max_angle_deg)
    return Mpc320Settings(), {"angle": angle_deg}


def _websq(options: WebSqOptions, is_on_link: bool) -> Unit:
    bias_ua = Limits(options.min_bias_ua, options.max_bias_ua)
    trigger_mv = Limits(options.min_trigger_mv, options.max_trigger_mv)
    return WebSqSettings(), {"bias current": bias_ua, "trigger level": trigger_mv}


def _voltage(options: VoltageOptions) -> Mapping[str, Limits]:
    return {"voltage": Limits(options.min_voltage_v, options.max_voltage_v)}


def _gs200(options: Gs200Options, is_on_link: bool) -> Unit:
    return Gs200Settings(is_on_link=is_on_link), _voltage(options)


def _osw(options: Any, is_on_link: bool) -> Unit:
    return OswSettings(), {}


def _keysight33500(options: Keysight33500Options, is_on_link: bool) -> Unit:
    return Keysight33500Settings(channel=options.channel), _voltage(options)


def _mdt693b(options: Mdt693bOptions, is_on_link: bool) -> Unit:
    voltage_v = Limits(options.min_voltage_v, options.max_voltage_v)
    return Mdt693bSettings(is_on_link=is_on_link), {"voltage": voltage_v}


def _lcc25(options: Lcc25Options, is_on_link: bool) -> Unit:
    voltage_v = Limits(options.min_voltage_v, options.max_voltage_v)
    return Lcc25Settings(), {"voltage": voltage_v}


def _polatis(options: PolatisOptions, is_on_link: bool) -> Unit:
    n_ingress = min(options.egress) - 1
    n_egress = max(n_ingress, max(options.egress) - n_ingress)
    return PolatisSettings(n_ingress, n_egress, options.ingress), {}


def _pm100d(options: Any, is_on_link: bool) -> Unit:
    return Pm100dSettings(), {}


def _sdg(options: SdgOptions, is_on_link: bool) -> Unit:
    return SdgSettings(channel=options.channel), _voltage(options)


def _sim928(options: Sim928Options, is_on_link: bool) -> Unit:
    return Sim928Settings(slot=options.slot), _voltage(options)


def _spd(options: SpdOptions, is_on_link: bool) -> Unit:
    lowest_v = min(options.min_bias_v, options.rest_bias_v)
    settings = SpdSettings(
        detector=options.input,
        breakdown_v=0.9 * options.max_bias_v,
        saved={"hvolt": round(0.95 * options.max_bias_v, 1)},
    )
    limits = {
        "bias voltage": Limits(lowest_v, options.max_bias_v),
        "threshold": Limits(options.min_threshold_v, options.max_threshold_v),
        "temperature": Limits(options.min_temperature_degc, options.max_temperature_degc),
    }
    return settings, limits


def _tdc1(options: Tdc1Options, is_on_link: bool) -> Unit:
    threshold_v = Limits(options.min_threshold_v, options.max_threshold_v)
    return Tdc1Settings(), {"threshold": threshold_v}


def _timetagger(options: TimeTaggerOptions, is_on_link: bool) -> Unit:
    level_v = Limits(options.min_trigger_level_v, options.max_trigger_level_v)
    delay_ps = Limits(options.min_delay_ps, options.max_delay_ps)
    settings = TimeTaggerSettings(sync_input=options.sync_channel or 0)
    return settings, {"trigger level": level_v, "delay": delay_ps}


def _tc200(options: Tc200Options, is_on_link: bool) -> Unit:
    temperature_degc = Limits(options.min_temperature_degc, options.max_temperature_degc)
    return Tc200Settings(), {"temperature": temperature_degc}


def _meerstetter_tec(options: MeerstetterTecOptions, is_on_link: bool) -> Unit:
    temperature_c = Limits(options.min_temperature_c, options.max_temperature_c)
    return MeerstetterSettings(), {"temperature": temperature_c}


def _mbx(options: MbxOptions, is_on_link: bool) -> Unit:
    limits = {
        "attenuation": Limits(options.min_attenuation_db, options.max_attenuation_db),
        "bias": Limits(options.min_bias_v, options.max_bias_v),
    }
    return MbxSettings(is_on_link=False, biases_link=is_on_link), limits


UNITS: Mapping[str, Callable[[Any, bool], Unit]] = {
    "thorlabs-mbx": _mbx,
    "thorlabs-tc200": _tc200,
    "hp-8156a": _hp8156a,
    "idq-id900": _id900,
    "jdsu-ha9": _ha9,
    "keysight-33500b": _keysight33500,
    "keysight-n77xx": _n77xx,
    "line-instrument": _state_source,
    "ozoptics-dd100": _dd100,
    "meerstetter-tec": _meerstetter_tec,
    "ozoptics-epc400": _epc400,
    "polatis": _polatis,
    "sfifteen-spd": _spd,
    "sfifteen-tdc1": _tdc1,
    "siglent-sdg": _sdg,
    "singlequantum-websq": _websq,
    "srs-sim928": _sim928,
    "swabian-timetagger": _timetagger,
    "thorlabs-lcc25": _lcc25,
    "thorlabs-mdt693b": _mdt693b,
    "thorlabs-mpc320": _mpc320,
    "thorlabs-osw": _osw,
    "thorlabs-pm100d": _pm100d,
    "yokogawa-gs200": _gs200,
}
