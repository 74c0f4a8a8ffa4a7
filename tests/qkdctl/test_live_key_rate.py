import numpy as np
import pytest

from calibration.clicks import Window
from keyrate.decoy_bb84 import DecoyBB84, decoy_bb84
from keyrate.link import WeakCoherentLink
from qkdctl.config import LinkConfig, PatternConfig
from qkdctl.live_key_rate import LiveKeyRate

SEEN = WeakCoherentLink(0.01, 1e-6, 0.006)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
SHARES = {"signal": 0.6, "decoy": 0.2, "vacuum": 0.2}


def link(**means: float) -> LinkConfig:
    names = ["signal"] * (5 - len(means) + 1) + list(means)[1:]  # five of them
    pattern = PatternConfig(states="HVDA", intensities=names)
    return LinkConfig(name="lab1", clock_hz=1e8, intensities=means, pattern=pattern)


def window(duration_s: float, flags: frozenset[str] = frozenset(), loss: float = 1.0) -> Window:
    """Count as expected: sifted counts with the link's QBER, none in mismatched bases missing."""
    clicks = np.zeros((3, 4, 4))
    for number, (name, mean) in enumerate(MEANS.items()):
        per_state = 1e8 * duration_s * SHARES[name] * float(SEEN.gain(mean)) * loss / 4
        wrong = float(SEEN.qber(mean))
        right = np.kron(np.eye(2), [[1 - wrong, wrong], [wrong, 1 - wrong]]) / 2
        clicks[number] = per_state * (right + np.kron(1 - np.eye(2), np.full((2, 2), 0.25)))
    return Window(
        start_s=0.0,
        duration_s=duration_s,
        source="pattern",
        disclosure="calibration",
        intensities=tuple(MEANS),
        clicks=np.rint(clicks).astype(np.int64),
        singles=np.rint(clicks.sum(axis=(0, 1))).astype(np.int64),
        flags=flags,
    )


def test_windows_of_a_held_link_tell_its_key_rate() -> None:
    live = LiveKeyRate(link(**MEANS))
    for _ in range(100):
        live.take(window(1.0))

    found = live.as_dict()

    expected = float(decoy_bb84(SEEN, DecoyBB84(*MEANS.values()), "two weak").bits_per_pulse)
    assert found is not None
    assert found["bits_per_pulse"]["value"] == pytest.approx(expected, rel=0.01)
    assert found["bits_per_s"]["value"] == pytest.approx(expected * 0.6e8, rel=0.01)
    assert found["bits_per_s"]["low"] < found["bits_per_s"]["value"] < found["bits_per_s"]["high"]


def test_what_was_long_ago_fades() -> None:
    live = LiveKeyRate(link(**MEANS))
    for _ in range(60):
        live.take(window(1.0, loss=0.1))
    for _ in range(300):
        live.take(window(1.0))

    fresh = LiveKeyRate(link(**MEANS))
    fresh.take(window(30.0))

    rates = [each.as_dict() for each in (live, fresh)]
    assert rates[0]["bits_per_s"]["value"] == pytest.approx(
        rates[1]["bits_per_s"]["value"], rel=0.01
    )


def test_nothing_is_told_of_a_link_that_is_held_no_longer() -> None:
    live = LiveKeyRate(link(**MEANS))
    live.take(window(1.0))

    live.forget()

    assert live.as_dict() is None


@pytest.mark.parametrize(
    "means",
    [{"signal": 0.5, "decoy": 0.1}, {"signal": 0.5, "decoy": 0.3, "other": 0.25}],
    ids=["one decoy", "decoys too bright"],
)
def test_without_two_decoys_no_key_rate_is_told(means: dict[str, float]) -> None:
    live = LiveKeyRate(link(**means))

    live.take(window(1.0))

    assert live.as_dict() is None


def test_a_doubtful_window_is_left_out() -> None:
    live = LiveKeyRate(link(**MEANS))

    live.take(window(1.0, flags=frozenset({"dark"})))

    assert live.as_dict() is None
