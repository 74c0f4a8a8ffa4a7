"""Put the simulated bench behind a testbed file: the one place where both are known."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomlkit

from calibration.clicks import STATES
from drivers.transport.connect import Connector
from qkdctl.check import build
from qkdctl.config import (
    InstrumentConfig,
    Problem,
    Testbed,
    TestbedFileError,
    load_testbed,
    parse_testbed,
    read_toml,
)
from qkdctl.simulated_units import driven_levels, level_settings, simulated_unit
from sim.bench import Resources, SimulatedBench, SimulatedInstrument, Transport
from sim.control import ask as ask_bench
from sim.control import serve_control
from sim.fibre import FibreSettings
from sim.instruments.lcc25 import Lcc25Settings
from sim.liquid_crystals import LiquidCrystalSettings
from sim.modulator import ModulatorSettings
from sim.paddles import PADDLES, PaddleSettings
from sim.phase_drift import PhaseDriftSettings
from sim.phase_shifter import PhaseShifterSettings
from sim.polarization_twin import ControllerSettings, PolarizationTwinSettings
from sim.receiver import ReceiverSettings
from sim.source import SourceSettings
from sim.squeezers import SqueezerSettings
from sim.time_bin import TimeBinTwinSettings
from sim.twin import TwinSettings

__all__ = ["ask_bench", "build_bench", "run_simulate", "serve_simulated", "with_resources"]

TRANSPORTS: Mapping[str, Transport] = {
    "serial": "pty",
    "tcp": "tcp",
    "visa": "visa",
    "zmq": "zmq",
    "timetagger": "library",
}
"""How the simulated unit is reached, by the scheme of the resource in the testbed file."""

HOMING_SPREAD_DEG = 1.0
"""How far simulated wave plates stand from where homing should have left them."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def run_simulate(path: Path, *, seed: int | None, write: Path | None, control: Path | None) -> int:
    """Serve the instruments of a testbed file, simulated, until SIGTERM or SIGINT.

    Args:
        path: Testbed file.
        seed: Seed of the bench instead of the file's.
        write: Where to write the file with the simulated resources; None prints it.
        control: Socket of the bench's side channel (truth, faults), or None.

    Returns:
        Exit status: 0 stopped, 1 it cannot be served, 2 mistakes in the file.
    """
    try:
        asyncio.run(_simulate(path, seed, write, control))
    except TestbedFileError as exc:
        for problem in exc.problems:
            sys.stderr.write(f"error: {problem}\n")
        return EXIT_USAGE
    except OSError as exc:
        sys.stderr.write(f"error: the simulated bench cannot be served: {exc}\n")
        return EXIT_FAILED
    return EXIT_DONE


@asynccontextmanager
async def serve_simulated(path: Path, seed: int | None) -> AsyncIterator[Testbed]:
    """Serve a testbed file's instruments in this process; yield the file with their resources.

    Raises:
        TestbedFileError: The file is wrong, or names what cannot be simulated.
    """
    document = read_toml(path)
    bench = _servable(build_bench(parse_testbed(document, str(path)), str(path), seed), path)
    with TemporaryDirectory(prefix="qkdctl-bench-") as directory:
        async with bench.serving(Path(directory)) as resources:
            yield parse_testbed(with_resources(document, resources), str(path))


def build_bench(config: Testbed, where: str, seed: int | None = None) -> SimulatedBench:
    """Build the bench that a testbed file describes.

    Args:
        config: The testbed file.
        where: Its name, for errors.
        seed: Seed instead of the file's.

    Raises:
        TestbedFileError: An instrument cannot be simulated.
    """
    instruments = []
    for name, entry in config.instruments.items():
        try:
            role = name in _on_link(config), driven_levels(config).get(name)
            instruments.append(_on_cell(_instrument(name, entry, *role), config))
        except _NotSimulatedError as exc:
            cure = "leave it out of a file that is to be simulated"
            raise TestbedFileError(
                [Problem(f"{where}: instruments.{name}", str(exc), cure)]
            ) from None
    chosen = config.simulation.seed if seed is None else seed
    try:
        return SimulatedBench(
            instruments, _twin(config), seed=chosen, ceiling_hz=config.receiver.max_rate_hz
        )
    except ValueError as exc:
        cure = "correct the file"
        raise TestbedFileError([Problem(f"{where}: simulation", str(exc), cure)]) from None


def _servable(bench: SimulatedBench, path: Path) -> SimulatedBench:
    """Return the bench if all its instruments have a wire.

    Raises:
        TestbedFileError: One is reached through its vendor's library, inside the client's process.
    """
    problems = [
        Problem(
            f"{path}: instruments.{each.name}",
            "its vendor's library reaches it inside the client's process: nobody can serve it",
            "leave it out of a file that is to be simulated, or put another kind in its place",
        )
        for each in bench.instruments
        if each.transport == "library"
    ]
    if problems:
        raise TestbedFileError(problems)
    return bench


def with_resources(document: Mapping[str, Any], resources: Resources) -> dict[str, Any]:
    """Return a testbed document in which the instruments are the simulated ones."""
    instruments = {name: dict(entry) for name, entry in document["instruments"].items()}
    for name, ports in resources.items():
        instruments[name].update(_resource_keys(ports))
    return {**document, "instruments": instruments}


def _resource_keys(ports: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of an instrument's table that say where the simulated one is."""
    keys: dict[str, Any] = {"resource": ports["main"]}
    streams = {}
    for port, resource in ports.items():
        match port:
            case "main" | "tcp":  # the second is the same port under another name
                pass
            case "datalink":
                keys["data_link"] = resource
            case _ if port.startswith("stream-"):
                streams[port.removeprefix("stream-")] = resource
            case _:
                keys[f"{port}_resource"] = resource
    return {**keys, "stream_resources": streams} if streams else keys


class _NotSimulatedError(Exception):
    """There is no simulated instrument of this kind, or not behind this wire."""


def _instrument(
    name: str, entry: InstrumentConfig, is_on_link: bool, level: str | None
) -> SimulatedInstrument:
    scheme = entry.resource.partition(":")[0]
    transport = TRANSPORTS.get(scheme)
    if transport is None:
        offered = ", ".join(TRANSPORTS)
        raise _NotSimulatedError(f"no simulated wire for {scheme!r}; there are {offered}")
    try:
        settings, limits = simulated_unit(
            entry.kind, entry.options, is_on_link=is_on_link, level=level
        )
        return SimulatedInstrument(name, settings, transport, limits)
    except KeyError:
        what = f"there is no simulated instrument of kind {entry.kind!r}"
        raise _NotSimulatedError(what) from None
    except ValueError as exc:
        raise _NotSimulatedError(str(exc)) from None


def _on_link(config: Testbed) -> set[str]:
    """Name the instruments whose output passes into the link: light, phase, modulator's bias."""
    phase, bias = config.stages.phase, config.stages.bias
    named = {config.light.attenuator}
    if phase is not None:
        named.add(config.knobs[phase.knob].instrument)
    if bias is not None and bias.knob is not None:
        named.add(config.knobs[bias.knob].instrument)
    if bias is not None and bias.controller is not None:
        named.add(bias.controller)
    return named


def _twin(config: Testbed) -> TwinSettings:
    link, simulation = config.link, config.simulation
    source = SourceSettings(
        clock_hz=link.clock_hz,
        states=link.pattern.states,
        intensities=link.pattern.intensities,
        mean_photon_numbers=link.intensities,
    )
    if link.encoding == "polarization":
        return PolarizationTwinSettings(
            source=source,
            controller=_controller(config),
            fibre=FibreSettings(
                drift_rad_per_sqrt_s=simulation.drift_rad_per_sqrt_s,
                slow_amplitude_rad=simulation.slow_drift_rad,
                slow_period_s=simulation.slow_drift_period_s,
            ),
            receiver=_receiver(config, STATES),
            modulator=_modulator(config),
            levels=level_settings(config),
            laser_offset_db=simulation.laser_offset_db,
            loss_db=simulation.loss_db,
            nominal_attenuation_db=config.light.attenuation_db,
        )
    # Early and late pulses meet the same detector.
    detectors = ("H", "D", "A", "V") if link.encoding == "time-bin" else STATES
    return TimeBinTwinSettings(
        source=source,
        encoding=link.encoding,
        drift=PhaseDriftSettings(
            drift_rad_per_sqrt_s=simulation.drift_rad_per_sqrt_s,
            slow_amplitude_rad=simulation.slow_drift_rad,
            slow_period_s=simulation.slow_drift_period_s,
        ),
        shifter=_shifter(config),
        bins_per_slot=simulation.bins_per_slot,
        receiver=_receiver(config, detectors),
        modulator=_modulator(config),
        levels=level_settings(config),
        laser_offset_db=simulation.laser_offset_db,
        loss_db=simulation.loss_db,
        nominal_attenuation_db=config.light.attenuation_db,
    )


def _modulator(config: Testbed) -> ModulatorSettings:
    simulation = config.simulation
    return ModulatorSettings(
        half_wave_v=simulation.modulator_half_wave_v,
        null_v=simulation.modulator_null_v,
        drift_v_per_hour=simulation.modulator_drift_v_per_hour,
        drift_v_per_sqrt_s=simulation.modulator_drift_v_per_sqrt_s,
        extinction_db=simulation.modulator_extinction_db,
    )


def _receiver(config: Testbed, detectors: tuple[str, ...]) -> ReceiverSettings:
    """Describe the detectors on inputs 1 to 4, named after what they see."""
    simulation = config.simulation
    return ReceiverSettings(
        efficiencies=_per_detector(simulation.efficiencies, detectors),
        dark_hz=(simulation.dark_hz,) * 4,
        dead_time_s=simulation.dead_time_s,
        afterpulse_probability=simulation.afterpulse_probability,
        jitter_ps=simulation.jitter_ps,
        delay_ps=_per_detector(simulation.delays_ps, detectors),
        delay_drift_ps_per_sqrt_s=simulation.delay_drift_ps_per_sqrt_s,
        visibility=simulation.visibility,
        z_share=simulation.z_share,
    )


def _shifter(config: Testbed) -> PhaseShifterSettings:
    simulation, stage = config.simulation, config.stages.phase
    if stage is None:
        raise ValueError("a link with interferometers needs [stages.phase]")
    return PhaseShifterSettings(
        v_pi_v=simulation.half_wave_v,
        scale_spread=simulation.half_wave_spread,
        hysteresis_v=simulation.hysteresis_v,
        max_v=config.knobs[stage.knob].maximum,
    )


def _controller(config: Testbed) -> ControllerSettings:
    """Choose what turns the polarization by what is there to drive it."""
    stage = config.stages.polarization
    if stage is not None and stage.actuator == "retarders":
        return LiquidCrystalSettings(azimuth_deg=stage.azimuth_deg)
    if any(entry.kind == "thorlabs-mpc320" for entry in config.instruments.values()):
        if stage is not None and stage.actuator == "wave-plates":
            return _homed(stage.retardance_waves)
        return PaddleSettings()
    return SqueezerSettings(hysteresis_v=config.simulation.hysteresis_v)


def _homed(retardance_waves: tuple[float, ...]) -> PaddleSettings:
    """Describe wave plates of which homing tells where their axes lie."""
    if len(retardance_waves) != len(PADDLES):
        raise ValueError(f"{len(retardance_waves)} wave plates on the {len(PADDLES)} of an MPC320")
    first, second, third = retardance_waves
    return PaddleSettings((first, second, third), 0.01, homing_spread_deg=HOMING_SPREAD_DEG)


def _on_cell(unit: SimulatedInstrument, config: Testbed) -> SimulatedInstrument:
    """Put a liquid-crystal controller on the cell of its knob, in the order of the light."""
    stage = config.stages.polarization
    if (
        stage is None
        or stage.actuator != "retarders"
        or not isinstance(unit.settings, Lcc25Settings)
    ):
        return unit
    drivers = [config.knobs[name].instrument for name in stage.knobs]
    cell = drivers.index(unit.name) + 1 if unit.name in drivers else None
    return replace(unit, settings=replace(unit.settings, cell=cell))


def _per_detector(
    values: Mapping[str, float], detectors: tuple[str, ...]
) -> tuple[float, float, float, float]:
    first, second, third, fourth = (values.get(name, 0.0) for name in detectors)
    return first, second, third, fourth


async def _simulate(path: Path, seed: int | None, write: Path | None, control: Path | None) -> None:
    config = load_testbed(path)
    build(path, config, Connector())
    bench = _servable(build_bench(config, str(path), seed), path)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with TemporaryDirectory(prefix="qkdctl-bench-") as directory:
        async with bench.serving(Path(directory)) as resources, asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(stop.wait(), name="signals")]
            if control is not None:
                waits.append(tasks.create_task(serve_control(bench, control), name="control"))  # type: ignore[arg-type]
            await asyncio.to_thread(_publish, path, resources, write)
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()


def _publish(path: Path, resources: Resources, write: Path | None) -> None:
    """Write the testbed file with the simulated resources, comments kept; or print it."""
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    for name, ports in resources.items():
        document["instruments"][name].update(_resource_keys(ports))
    text = tomlkit.dumps(document)
    if write is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    unfinished = write.with_name(write.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(write)
