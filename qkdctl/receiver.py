"""Where windows come from: Alice's pattern folded on time tags, or counters state by state."""

from collections.abc import Callable, Mapping
from typing import Protocol

from calibration.clicks import STATES, Window
from calibration.folding import Pattern, fold
from calibration.scan import scan_window
from drivers.roles import PhotonCounter, StateSource, TimeTagger
from qkdctl.config import ReceiverConfig

PATTERN_STATE = "PATTERN"


class Receiver(Protocol):
    """Takes measurement windows."""

    async def measure(self, duration_s: float) -> Window:
        """Integrate for ``duration_s`` (all of Alice's states together)."""
        ...


class PatternReceiver:
    """Folds time tags on Alice's repeating pattern."""

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

    async def measure(self, duration_s: float) -> Window:
        """Integrate over the running pattern."""
        if not self._pattern_is_on:
            await self._alice.set_state(PATTERN_STATE)
            self._pattern_is_on = True
        start_s = self._now()
        inputs = sorted(self._config.inputs.values())
        try:
            tags = await self._tagger.acquire(duration_s, inputs)
        except BaseException:
            self._pattern_is_on = False  # whatever broke, make sure of the pattern next time
            raise
        return fold(
            tags,
            self._pattern,
            inputs=dict(self._config.inputs),
            delays_ps={state: self._config.delays_ps.get(state, 0.0) for state in STATES},
            gate_ps=self._config.gate_ps or self._pattern.slot_ps,
            start_s=start_s,
        )


class ScanReceiver:
    """Sets Alice's states one after the other and counts each; the signal intensity only."""

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
        return scan_window(
            counts,
            inputs=dict(self._config.inputs),
            duration_s=each_s,
            intensity=self._signal,
            start_s=start_s,
        )
