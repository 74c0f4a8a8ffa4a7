"""A record of what the QKD stack posted: bounded, in the format in which it was posted."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from qkdctl.feed import FeedMessage, message_line

log = logging.getLogger(__name__)


class FeedRecord(RotatingFileHandler):
    """Adds messages to a file, and begins another one when it is full.

    What is written is what was understood of a message, never the line itself. A file that cannot
    be written to is reported once and does not hold up the feed.

    Args:
        path: The newest file; older ones have .1, .2 and so on after its name.
        megabytes: Size of a full file, MB.
        files: Full files kept.
    """

    def __init__(self, path: Path, megabytes: float, files: int) -> None:
        super().__init__(
            path, maxBytes=round(megabytes * 1e6), backupCount=files, encoding="ascii", delay=True
        )
        self._path = path
        self._has_failed = False

    def add(self, message: FeedMessage, received_s: float) -> None:
        """Add a message that came at a time, s."""
        dated = message.model_copy(update={"received_s": received_s})
        line = message_line(dated).decode("ascii").rstrip("\n")
        self.emit(logging.makeLogRecord({"msg": line}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Report the first failure."""
        if not self._has_failed:
            self._has_failed = True
            why = sys.exc_info()[1]
            log.error("the feed is not recorded: %s cannot be written: %s", self._path, why)
