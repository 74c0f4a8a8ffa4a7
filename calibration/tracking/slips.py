"""Test for a slip: has the phase jumped by pi?

A slip turns the bits over: what was seldom becomes the rule, and the sine changes its sign. Every
window is weighed under three hypotheses: the phase is where it is expected, it is pi away, or it is
anything (a slip or a burst within the window, a jump of another size).
"""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ordinary", "doubtful", "slipped"]

SLIP_NATS = 25.0
"""Evidence that a slip has to have gathered: without one, false alarms come once in 10^10 windows,
since the likelihood ratio then has mean 1 (Lorden's bound, as in the test for a lost lock)."""

DOUBT_NATS = 12.0
"""Evidence for anything over what is expected, from which a window is not believed: once in 10^5
windows that are all right."""

MOST_DOUBTS = 3
"""Windows in a row that are held back: what goes on for longer is no slip."""


@dataclass
class SlipTest:
    """Page's cumulative sum test for a phase that is turned by pi.

    Attributes:
        evidence: For a slip, gathered so far, nats.
        doubts: Windows in a row that were not believed.
    """

    evidence: float = 0.0
    doubts: int = 0

    def judge(self, expected: float, flipped: float, anything: float) -> Verdict:
        """Weigh one window.

        Args:
            expected: Log evidence with the phase where it is expected.
            flipped: The same with it turned by pi.
            anything: The same with error probabilities of which nothing is known.
        """
        if anything - max(expected, flipped) > DOUBT_NATS:
            self.doubts += 1
            return "doubtful" if self.doubts <= MOST_DOUBTS else "ordinary"
        self.doubts = 0
        self.evidence = max(self.evidence + flipped - expected, 0.0)
        if self.evidence < SLIP_NATS:
            return "ordinary"
        self.evidence = 0.0
        return "slipped"
