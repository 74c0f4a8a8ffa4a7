"""What happened to a link: a cut, stray light, a jump of the fibre, or drift and nothing else.

Three things change the two rates of sifted counts, right and wrong ones, each in its own direction:

=============  ===============  ===============  =============================================
cause          right counts     wrong counts     what to do
=============  ===============  ===============  =============================================
cut, bend      fall             fall alike       nothing: the light says too little, or nothing
stray light    rise as much     rise             nothing: it says nothing of the alignment
jump           fall as much     rise             align, or follow where it was small
drift          as they were     rise slowly      follow
=============  ===============  ===============  =============================================

What is usual is an average over the newest undisturbed windows, which follows drift.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, pdtr

from calibration.clicks import STATES, Window

Cause = Literal["cut", "stray light", "jump", "drift"]

SIGNIFICANCE = 1e-7
"""Probability that noise of one window is taken for a disturbance."""

FADING = 15 / 16
"""Per window, of what is usual."""

LEAST_COUNTS = 200
"""Counts of the signal on which a comparison can rest."""

CUT_SHARE = 0.5
"""Light below this share of the usual has been cut: lasers and controllers vary by less."""

DARK_SHARE = 0.05
"""Light below this share of the usual is no light to track by."""

WINDOWS_UNTIL_LIT = 2
"""Windows with light, one after the other, before darkness counts as over: one may be chance."""

QBER_FACTOR, QBER_STEP = 2.0, 0.005
"""A QBER above so many times the usual one, and so much more, has risen suddenly."""

STRAY_SHARE = 0.5
"""Share of the risen errors that stray light must explain to be what brought them."""

ONE_DETECTOR_SHARE = 0.6
"""Share of the clicks that came in addition from which one detector is named."""

SETTLING_S = 10.0
"""Weaker light, or a risen QBER, that has lasted as long is usual from then on."""


@dataclass(frozen=True)
class Finding:
    """What a window says of the link.

    Attributes:
        cause: What disturbs it, or None.
        text: The same for the operator, with figures; empty without a cause.
        is_dark: Whether there is no light to track by.
    """

    cause: Cause | None = None
    text: str = ""
    is_dark: bool = False

    @property
    def is_frozen(self) -> bool:
        """Whether the window says nothing of the alignment: hold still, and learn nothing."""
        return self.cause in ("cut", "stray light")


UNDISTURBED = Finding()


@dataclass
class _Counts:
    """What windows counted, old ones faded.

    Attributes:
        duration_s: How long, s.
        signal: Counts of the signal, in all bases.
        sifted: Those in the basis that was sent.
        errors: Errors among them.
        background: Clicks outside of the gates.
        singles: All clicks per detector, shape ``(4,)``.
    """

    duration_s: float
    signal: float
    sifted: float
    errors: float
    background: float
    singles: NDArray[np.float64]

    @classmethod
    def of(cls, window: Window) -> "_Counts":
        signal = window.signal
        return cls(
            duration_s=window.duration_s,
            signal=float(signal.photons),
            sifted=float(signal.sifted),
            errors=float(signal.errors),
            background=float(window.singles.sum() - window.clicks.sum()),
            singles=window.singles.astype(np.float64),
        )

    def plus(self, other: "_Counts", fading: float = 1.0) -> "_Counts":
        """Add newer counts."""
        return _Counts(
            fading * self.duration_s + other.duration_s,
            fading * self.signal + other.signal,
            fading * self.sifted + other.sifted,
            fading * self.errors + other.errors,
            fading * self.background + other.background,
            fading * self.singles + other.singles,
        )

    def within(self, duration_s: float) -> "_Counts":
        """Return what is to be expected within a time."""
        share = duration_s / self.duration_s
        return _Counts(
            duration_s,
            share * self.signal,
            share * self.sifted,
            share * self.errors,
            share * self.background,
            share * self.singles,
        )

    @property
    def qber(self) -> float:
        """Share of errors, a little too high where few were counted."""
        return (self.errors + 1) / (self.sifted + 2)


class Disturbances:
    """Compares each window with what is usual; knows counts only, no setting and no clock.

    Args:
        gate_share: Share of the time within gates. Outside of them there is hardly any light but
            stray light; of 1, the sum of all counts has to tell.
        signal_share: Share of the slots that carry the signal.
    """

    def __init__(self, gate_share: float = 1.0, signal_share: float = 1.0) -> None:
        self._gate_share = gate_share
        self._signal_share = signal_share
        self._usual: _Counts | None = None
        self._lately: _Counts | None = None
        self._is_dark = False
        self._lit_windows = 0

    def look(self, window: Window) -> Finding:
        """Tell what disturbs the link in a window; ``drift`` is never told: it is the usual."""
        counts = _Counts.of(window)
        if (dark := self._darkness(counts, "dark" in window.flags)) is not None:
            self._lately = None
            return dark
        finding = self._compare(counts)
        if finding.cause is None:
            self._lately = None
            self._usual = counts if self._usual is None else self._usual.plus(counts, FADING)
        elif finding.cause != "stray light":
            self._settle(counts)
        return finding

    def _settle(self, counts: _Counts) -> None:
        """Take what has lasted for the usual."""
        self._lately = counts if self._lately is None else self._lately.plus(counts)
        if self._lately.duration_s >= SETTLING_S:
            self._usual, self._lately = self._lately, None

    def _darkness(self, counts: _Counts, is_flagged: bool) -> Finding | None:
        usual = None if self._usual is None else self._usual.within(counts.duration_s).signal
        is_faint = usual is not None and _is_below(counts.signal, DARK_SHARE * usual)
        if is_flagged or is_faint or counts.signal == 0:
            self._is_dark, self._lit_windows = True, 0
        elif self._is_dark:
            self._lit_windows += 1
            self._is_dark = self._lit_windows < WINDOWS_UNTIL_LIT
        if not self._is_dark:
            return None
        text = f"no light: {_rate(counts.signal / counts.duration_s)}"
        if usual is not None:
            text += f" where {_rate(usual / counts.duration_s)} is usual"
        return Finding("cut", text, is_dark=True)

    def _compare(self, counts: _Counts) -> Finding:
        if self._usual is None or self._usual.signal < LEAST_COUNTS:
            return UNDISTURBED
        usual = self._usual.within(counts.duration_s)
        if _is_below(counts.signal, CUT_SHARE * usual.signal):
            lost_db = 10 * np.log10(usual.signal / max(counts.signal, 1.0))
            return Finding("cut", f"the light fell by {lost_db:.1f} dB: a bend, or a bad joint")
        allowed = QBER_FACTOR * self._usual.qber + QBER_STEP
        if not _is_above(counts.errors, counts.sifted, min(allowed, 1.0)):
            return UNDISTURBED
        rise = f"QBER {counts.errors / counts.sifted:.2%} where {self._usual.qber:.2%} is usual"
        if self._is_stray(counts, usual):
            return Finding("stray light", f"{rise}, and {_more_clicks(counts, usual)}")
        return Finding("jump", f"{rise}, and as much light as before")

    def _is_stray(self, counts: _Counts, usual: _Counts) -> bool:
        """Whether errors came with light of their own: half of its clicks are errors."""
        more = counts.sifted - usual.sifted
        if self._gate_share < 1:
            outside = counts.background - usual.background
            within = outside * self._gate_share / (1 - self._gate_share)
            more = within * self._signal_share / 2  # half of it in the basis that was sent
        return more / 2 > STRAY_SHARE * (counts.errors - usual.errors)


def _is_below(counted: float, expected: float) -> bool:
    return bool(pdtr(counted, expected) < SIGNIFICANCE)


def _is_above(hits: float, trials: float, share: float) -> bool:
    """Whether more of the trials are hits than chance would make of a share."""
    return hits > 0 and bool(betainc(hits, trials - hits + 1, share) < SIGNIFICANCE)


def _more_clicks(counts: _Counts, usual: _Counts) -> str:
    more = np.maximum(counts.singles - usual.singles, 0.0)
    brightest = int(more.argmax())
    where = "all detectors"
    if more[brightest] > ONE_DETECTOR_SHARE * more.sum():
        where = f"detector {STATES[brightest]} above all"
    return f"{_rate(more.sum() / counts.duration_s)} more in {where}"


def _rate(per_s: float) -> str:
    return f"{per_s:.3g} clicks/s"
