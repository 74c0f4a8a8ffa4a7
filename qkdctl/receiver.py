"""Where windows come from: Alice's pattern folded on time tags, or counters state by state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from calibration.clicks import STATES, Window
from calibration.folding import Pattern, fold
from calibration.inversion import NOTHING, Inverted
from calibration.scan import scan_window
from drivers.roles import PhotonCounter, StateSource, TimeTagger, TimeTags
from qkdctl.config import LinkConfig, ReceiverConfig

PATTERN_STATE = "PATTERN"


class Receiver(Protocol):
    """Takes measurement windows.

    Attributes:
        inverted: Bases whose bits are inverted in software, in every window from now on. Inputs,
            delays and biases stay those of the detectors as they are wired.
    """

    inverted: Inverted

    async def measure(self, duration_s: float) -> Window:
        """Integrate for ``duration_s`` (all of Alice's states together)."""
        ...


@dataclass(frozen=True)
class HeldWindow:
    """A window measured while a setting is held.

    Attributes:
        window: The counts.
        setting: What was in force meanwhile, as confirmed.
        end_s: When it ended, seconds since the epoch.
    """

    window: Window
    setting: Mapping[str, float]
    end_s: float


def pattern_of(link: LinkConfig) -> Pattern:
    """Describe what Alice sends; the first intensity of the file is the signal."""
    signal = next(iter(link.intensities))
    return Pattern(link.pattern.states, link.pattern.intensities, link.clock_hz, signal=signal)


class PatternReceiver:
    """Folds time tags on Alice's repeating pattern.

    Attributes:
        delays_ps: When slot 0 starts at each detector, ps; may be changed between windows.
        inverted: Bases whose bits are inverted; may be changed between windows.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        pattern: Pattern,
        tagger: TimeTagger,
        alice: StateSource,
        now: Callable[[], float],
    ) -> None:
        self._config = config
        self._pattern = pattern
        self._tagger = tagger
        self._alice = alice
        self._now = now
        self._pattern_is_on = False
        self.delays_ps = {state: config.delays_ps.get(state, 0.0) for state in STATES}
        self.inverted: Inverted = NOTHING

    @property
    def pattern(self) -> Pattern:
        """What Alice sends."""
        return self._pattern

    @property
    def gate_ps(self) -> float:
        """Accepted width about a slot's centre, ps."""
        return self._config.gate_ps or self._pattern.slot_ps

    async def measure(self, duration_s: float) -> Window:
        """Integrate over the running pattern."""
        start_s = self._now()
        tags = await self.acquire(duration_s)
        window = fold(
            tags,
            self._pattern,
            inputs=dict(self._config.inputs),
            delays_ps=self.delays_ps,
            gate_ps=self.gate_ps,
            start_s=start_s,
        )
        return replace(window, inverted=self.inverted)

    def forget_pattern(self) -> None:
        """Take note that Alice was told to send something else."""
        self._pattern_is_on = False

    async def acquire(self, duration_s: float) -> TimeTags:
        """Record tags of all detectors over the running pattern."""
        if not self._pattern_is_on:
            await self._alice.set_state(PATTERN_STATE)
            self._pattern_is_on = True
        inputs = sorted(set(self._config.inputs.values()))
        try:
            return await self._tagger.acquire(duration_s, inputs)
        except BaseException:
            self._pattern_is_on = False  # whatever broke, make sure of the pattern next time
            raise


class ScanReceiver:
    """Sets Alice's states one after the other and counts each; the signal intensity only.

    Attributes:
        inverted: Bases whose bits are inverted; may be changed between windows.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        signal: str,
        counter: PhotonCounter,
        alice: StateSource,
        now: Callable[[], float],
    ) -> None:
        self._config = config
        self._signal = signal
        self._counter = counter
        self._alice = alice
        self._now = now
        self.inverted: Inverted = NOTHING

    async def measure(self, duration_s: float) -> Window:
        """Count a quarter of ``duration_s`` for each state, as far as the counter allows."""
        start_s = self._now()
        counts: dict[str, Mapping[int, int]] = {}
        inputs = sorted(self._config.inputs.values())
        each_s = max(duration_s / len(STATES), self._config.min_window_s)
        for state in STATES:
            await self._alice.set_state(state)
            counted = await self._counter.count(each_s, inputs)
            counts[state], each_s = counted.by_input, counted.duration_s
        window = scan_window(
            counts,
            inputs=dict(self._config.inputs),
            duration_s=each_s,
            intensity=self._signal,
            start_s=start_s,
        )
        return replace(window, inverted=self.inverted)
