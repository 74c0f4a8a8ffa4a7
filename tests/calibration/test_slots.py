import numpy as np
import pytest

from calibration.account import Account, BudgetError, StageBudget
from calibration.folding import Pattern
from calibration.slots import SlotReader, pattern_likeness
from calibration.trials import MemoryTrialLog
from drivers.roles import TimeTags
from sim.virtual_time import run

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0}
INPUTS = {"H": 1, "V": 2, "D": 3, "A": 4}
LEVELS = (1.0, 1.0, 1.0, 0.2, 0.0)


class Tagger:
    """Four detectors far behind cables of which nobody knows the length."""

    def __init__(self, levels: tuple[float, ...] = LEVELS, most: int = 1_000_000) -> None:
        self.levels = levels
        self.most = most
        self.noise = np.random.default_rng(12)
        self.asked: list[int] = []

    def delays_ps(self) -> dict[str, float]:
        return dict.fromkeys(INPUTS, 0.0)

    async def acquire(self, photons: int) -> TimeTags:
        self.asked.append(photons)
        each = min(photons, self.most) // 4
        return TimeTags(each / 5e4, {number: self.stamps(number, each) for number in (1, 2, 3, 4)})

    def stamps(self, number: int, n: int) -> np.ndarray:
        weights = np.tile(self.levels, 4)
        slots = self.noise.choice(20, size=n, p=weights / weights.sum())
        times = (slots + 0.5 + 1.3 * number) * 1e4 + 100 * self.noise.standard_normal(n)
        return np.asarray(times % 2e5, dtype=np.uint64)


def account(max_photons: int = 1_000_000) -> Account:
    budget = StageBudget(max_photons=max_photons)
    return Account("s", "s", budget, MemoryTrialLog(), lambda progress: None)


def reader(tagger: Tagger) -> SlotReader:
    return SlotReader(tagger, PATTERN, INPUTS, 4000.0, MEANS)


def test_the_intensities_are_told_whatever_the_delays_in_force() -> None:
    async def main() -> None:
        reading = await reader(Tagger()).read(account(), 8000)

        assert reading.counts.counts.tolist()[2] == 0
        assert reading.counts.ratio(1).value == pytest.approx(0.2, abs=0.02)
        assert reading.likeness > 0.99
        assert reading.clicks == 8000
        assert reading.duration_s == pytest.approx(0.04)

    run(main())


def test_what_one_acquisition_cannot_hold_is_collected_in_several() -> None:
    async def main() -> None:
        tagger, spent = Tagger(most=3000), account()

        reading = await reader(tagger).read(spent, 8000)

        assert tagger.asked == [8000, 5000, 2000]
        assert reading.clicks == spent.total == 8000

    run(main())


def test_no_more_is_asked_for_than_the_budget_holds() -> None:
    async def main() -> None:
        with pytest.raises(BudgetError, match="max_photons"):
            await reader(Tagger()).read(account(max_photons=5000), 8000)

    run(main())


def test_a_pattern_that_is_not_recognised_says_so() -> None:
    async def main() -> None:
        reading = await reader(Tagger((0.0, 0.0, 0.0, 0.8, 1.0))).read(account(), 8000)

        assert reading.likeness < 0.8

    run(main())


class SplitTagger(Tagger):
    """Detectors behind interferometers: as much light beside the middle of a slot as in it."""

    def stamps(self, number: int, n: int) -> np.ndarray:
        peaks = self.noise.choice([-2000.0, 0.0, 0.0, 2000.0], size=n)
        return np.asarray((super().stamps(number, n) + peaks) % 2e5, dtype=np.uint64)


def test_side_peaks_of_an_interferometer_are_not_taken_for_background() -> None:
    async def main() -> None:
        split = SlotReader(SplitTagger(), PATTERN, INPUTS, 1600.0, MEANS, has_side_peaks=True)

        counts = (await split.read(account(), 8000)).counts

        assert counts.background.sum() == 0
        assert counts.ratio(1).value == pytest.approx(0.2, abs=0.03)

    run(main())


def test_no_clicks_are_no_likeness() -> None:
    assert pattern_likeness(np.empty(0, dtype=np.uint64), PATTERN, MEANS, 0.0) == 0


def test_a_pattern_of_one_intensity_is_like_everything() -> None:
    even = Pattern("HVDA", ("signal",), 1e8)

    assert pattern_likeness(np.array([5000], dtype=np.uint64), even, MEANS, 0.0) == 1
