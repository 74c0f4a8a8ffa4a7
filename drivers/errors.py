"""What can go wrong with an instrument, told apart by what the caller does next."""


class InstrumentError(Exception):
    """Something went wrong with one instrument.

    Attributes:
        instrument: Name of the instrument in the testbed file.
        problem: What is wrong, and where possible how to mend it.
        sent: What was sent, or None.
        received: What came back, or None.
    """

    def __init__(
        self,
        instrument: str,
        problem: str,
        *,
        sent: str | None = None,
        received: str | None = None,
    ) -> None:
        self.instrument = instrument
        self.problem = problem
        self.sent = sent
        self.received = received
        exchange = [
            f"{verb} {text!r}" for verb, text in (("sent", sent), ("received", received)) if text
        ]
        super().__init__(
            f"{instrument}: {problem}" + (f" ({', '.join(exchange)})" if exchange else "")
        )


class SettingError(InstrumentError, ValueError):
    """The caller asked for something impossible; nothing was sent."""


class RejectedError(InstrumentError):
    """The instrument refused; its state is unchanged."""


class ReplyError(InstrumentError):
    """The reply does not parse, or comes from another model than configured."""


class TransportError(InstrumentError, ConnectionError):
    """The link is lost or the exchange was cut short; the instrument's state is unknown."""
