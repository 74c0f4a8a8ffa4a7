"""Ours: the signal stages, as ``qkdctl calibrate`` runs them, on the benches of the benchmark."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.signal_twins import arrivals, detectors, emission, modulator
from benchmarks.tasks.signal_bench import SignalBench
from calibration.account import Account, StageBudget
from calibration.attenuation import AttenuationProcedure, AttenuationSettings
from calibration.bias import BiasSettings, NullProcedure
from calibration.clicks import STATES, Window
from calibration.crowds import crowds_of
from calibration.delay import DelayProcedure, DelaySettings, find_arrival
from calibration.detector import DetectorProcedure, DetectorSettings
from calibration.folding import Pattern
from calibration.link_model import Counted, link_model
from calibration.signal_run import Figure, PreconditionError, Procedure, SignalRun
from calibration.slots import SlotReader
from calibration.trials import MemoryTrialLog
from drivers.roles import TimeTags

INPUTS = {letter: number for number, letter in enumerate(STATES, start=1)}
KNOBS = {letter: f"bias-{letter.lower()}" for letter in STATES}

FIT_PHOTONS, FIT_LOOKS = 400, 50
"""The estimator of the delay stage is asked again after so many clicks, so often."""


def whole_stage(bench: SignalBench[Any], seed: int) -> None:
    """Run the stage: measure, search, measure afresh; it recommends once, when it ends."""
    asyncio.run(_whole(bench))


def search_alone(bench: SignalBench[Any], seed: int) -> None:
    """Run the stage's search without the measurements before and after it.

    The attenuation stage cannot do without the one before: that is its way towards the light.
    """
    asyncio.run(_search(bench))


def fit_alone(bench: SignalBench[Any], seed: int) -> None:
    """Ask the estimator of the delay stage again and again, as clicks come in."""
    pattern = _pattern(arrivals)
    stamps = {number: np.empty(0, dtype=np.uint64) for number in INPUTS.values()}
    for _ in range(FIT_LOOKS):
        seen = bench.look(bench.start, FIT_PHOTONS).stamps
        stamps = {number: np.concatenate([old, seen[number]]) for number, old in stamps.items()}
        try:
            found = [
                find_arrival(stamps[number], pattern, arrivals.MEANS, 0.0, crowds).delay_ps
                for number, crowds in crowds_of(INPUTS, None).items()
            ]
        except ValueError as exc:  # too few clicks as yet
            bench.stopped = str(exc)
            continue
        bench.stopped = ""
        bench.recommend(found)


class _Stage(Protocol):
    """A stage on a bench."""

    procedure: Procedure

    @property
    def setting(self) -> list[float]:
        """What is in force."""
        ...


async def _whole(bench: SignalBench[Any]) -> None:
    stage = STAGES[bench.stage](bench)
    judged = cast(Procedure, _Judged(stage, lambda figure: _claim(bench, stage, figure)))
    result = await SignalRun(judged, _account(bench)).run()
    if result.outcome == "failed":
        bench.stopped = result.reason
    bench.recommend(stage.setting)


async def _search(bench: SignalBench[Any]) -> None:
    stage, account = STAGES[bench.stage](bench), _account(bench)
    try:
        if bench.stage == "attenuation":
            await stage.procedure.measure(account)
        await stage.procedure.search(account)
    except PreconditionError as exc:
        bench.stopped = str(exc)
        await stage.procedure.restore()
    bench.recommend(stage.setting)


def _claim(bench: SignalBench[Any], stage: _Stage, figure: Figure) -> None:
    bench.claim(stage.setting, figure.low, figure.high)


class _Judged:
    """A procedure of which every figure is held against the truth at the moment it is told."""

    def __init__(self, stage: _Stage, judge: Callable[[Figure], None]) -> None:
        self._procedure = stage.procedure
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._procedure, name)

    async def measure(self, account: Account) -> Figure:
        figure = await self._procedure.measure(account)
        self._judge(figure)
        return figure


def _account(bench: SignalBench[Any]) -> Account:
    budget = StageBudget(max_photons=max(bench.left, 1))
    return Account(bench.stage, bench.stage, budget, MemoryTrialLog(), lambda progress: None)


def _pattern(twin: Any) -> Pattern:
    return Pattern(twin.STATES, twin.INTENSITIES, twin.CLOCK_HZ)


class _Attenuation:
    """Attenuator, shutter and meter."""

    def __init__(self, bench: SignalBench[emission.EmissionReading]) -> None:
        self._bench = bench
        self._is_lit = False
        self.attenuation_db = float(bench.start[0])
        self.procedure: Procedure = AttenuationProcedure(
            AttenuationSettings(
                tap_db=emission.TAP_DB,
                tap_sigma_db=emission.TAP_SIGMA_DB,
                meter_sigma=emission.METER_SIGMA,
                wavelength_nm=emission.WAVELENGTH_NM,
                check_photons=0,
            ),
            self,
            _pattern(emission),
            emission.MEANS,
            None,
        )

    @property
    def setting(self) -> list[float]:
        return [self.procedure.in_force()["light.attenuation_db"]]

    def attenuation_limits_db(self) -> tuple[float, float]:
        low_db, high_db = self._bench.limits[:, 0].tolist()
        return low_db, high_db

    async def attenuate(self, attenuation_db: float) -> float:
        self.attenuation_db = emission.EmissionTwin.rounded_db(attenuation_db)
        return self.attenuation_db

    async def let_light(self, *, is_on: bool) -> None:
        self._is_lit = is_on

    async def read_power(self) -> float:
        return self._bench.look([self.attenuation_db], lit=self._is_lit).power_w


class _Bias:
    """A bias voltage, and time tags."""

    def __init__(self, bench: SignalBench[modulator.ModulatorReading]) -> None:
        self._bench = bench
        self._bias_v = float(bench.start[0])
        pattern = _pattern(modulator)
        gate_ps = modulator.GATE_SHARE * modulator.SLOT_PS
        slots = SlotReader(self, pattern, INPUTS, gate_ps, modulator.MEANS)
        settings = BiasSettings(
            half_wave_v=modulator.HALF_WAVE_V,
            half_wave_sigma=bench.told.get("half_wave_sigma", 0.1),
        )
        self.procedure: Procedure = NullProcedure(settings, slots, self, "bias", self._bias_v)

    @property
    def setting(self) -> list[float]:
        return [self._bias_v]

    def limits(self, name: str) -> tuple[float, float]:
        low_v, high_v = self._bench.limits[:, 0].tolist()
        return low_v, high_v

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        self._bias_v = setting["bias"]
        return dict(setting)

    async def measure(self, photons: int) -> Window:
        raise NotImplementedError("the bias stage looks at time tags")

    def delays_ps(self) -> dict[str, float]:
        return dict.fromkeys(STATES, 0.0)

    async def acquire(self, photons: int) -> TimeTags:
        reading = self._bench.look([self._bias_v], photons)
        return TimeTags(reading.duration_s, reading.tags())


class _Delay:
    """A tagger, and delays to fold its stamps by."""

    def __init__(self, bench: SignalBench[arrivals.ArrivalReading]) -> None:
        self._bench = bench
        self._delays_ps = dict(zip(STATES, bench.start.tolist(), strict=True))
        self.procedure: Procedure = DelayProcedure(
            DelaySettings(), self, _pattern(arrivals), INPUTS, arrivals.MEANS
        )

    @property
    def setting(self) -> list[float]:
        return list(self._delays_ps.values())

    def delays_ps(self) -> dict[str, float]:
        return dict(self._delays_ps)

    def set_delays(self, delays_ps: Mapping[str, float]) -> None:
        self._delays_ps = {letter: delays_ps[letter] for letter in STATES}

    async def acquire(self, photons: int) -> TimeTags:
        reading = self._bench.look(self.setting, photons)
        return TimeTags(reading.duration_s, reading.stamps)


class _Detector:
    """Biases of four detectors, a shutter, and counts."""

    def __init__(self, bench: SignalBench[detectors.DetectorReading]) -> None:
        self._bench = bench
        self._biases = dict(zip(KNOBS.values(), bench.start.tolist(), strict=True))
        gate_s = detectors.GATE_SHARE / detectors.CLOCK_HZ
        link = link_model(_pattern(detectors), detectors.MEANS, gate_s, detectors.OPTICAL_ERROR)
        self.procedure: Procedure = DetectorProcedure(
            DetectorSettings(optical_error=detectors.OPTICAL_ERROR),
            self,
            KNOBS,
            self._biases,
            link,
            detectors.GATE_SHARE,
        )

    @property
    def setting(self) -> list[float]:
        return list(self._biases.values())

    def limits(self, name: str) -> tuple[float, float]:
        low, high = self._bench.limits[:, list(KNOBS.values()).index(name)].tolist()
        return low, high

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        self._biases |= setting
        return dict(setting)

    async def let_light(self, *, is_on: bool) -> None:
        """Leave the shutter to the looks, which say themselves whether there is light."""

    async def measure(self, photons: int) -> Window:
        return self._window(self._bench.look(self.setting, photons, dark_s=0.0).counted, lit=True)

    async def measure_for(self, duration_s: float) -> Window:
        reading = self._bench.look(self.setting, 0, lit=False, dark_s=duration_s)
        return self._window(reading.counted, lit=False)

    @staticmethod
    def _window(counted: Counted, *, lit: bool) -> Window:
        singles: NDArray[np.int64] = counted.lit if lit else counted.dark
        clicks = np.zeros((3, 4, 4), dtype=np.int64)
        clicks[0, 0] = singles - counted.outside
        duration_s = counted.lit_s if lit else counted.dark_s
        return Window(
            0.0, duration_s, "pattern", "calibration", tuple(detectors.MEANS), clicks, singles
        )


STAGES: Mapping[str, Callable[[SignalBench[Any]], _Stage]] = {
    "attenuation": _Attenuation,
    "bias": _Bias,
    "delay": _Delay,
    "detector": _Detector,
}
