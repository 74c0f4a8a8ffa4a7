"""What is checked of a WebSQ: what is asked for before it is sent, and whether the unit fits."""

from collections.abc import Sequence

from drivers.detectors.singlequantum_websq_messages import BIAS, TRIGGER, State
from drivers.detectors.singlequantum_websq_options import WebSqOptions
from drivers.errors import ReplyError, SettingError
from drivers.measuring import checked_inputs
from drivers.outputs import check_within


def check_in_use(
    instrument: str, options: WebSqOptions, detectors: Sequence[int]
) -> tuple[int, ...]:
    """Return the detectors that are asked for; raises as ``checked_inputs``."""
    return checked_inputs(instrument, detectors, options.inputs, "detectors")


def check_bias(instrument: str, options: WebSqOptions, detector: int, current_ua: float) -> None:
    """Refuse a bias outside the limits, or of a detector that is not in use.

    Raises:
        SettingError: It is; nothing was sent.
    """
    low_ua, high_ua = options.min_bias_ua, options.max_bias_ua
    check_in_use(instrument, options, [detector])
    check_within(instrument, f"bias of detector {detector}", current_ua, low_ua, high_ua, "uA")


def check_trigger(instrument: str, options: WebSqOptions, detector: int, level_mv: float) -> None:
    """Refuse a trigger level outside the limits, or of a detector that is not in use.

    Raises:
        SettingError: It is; nothing was sent.
    """
    low_mv, high_mv = options.min_trigger_mv, options.max_trigger_mv
    check_in_use(instrument, options, [detector])
    check_within(instrument, f"trigger of detector {detector}", level_mv, low_mv, high_mv, "mV")


def check_detectors(instrument: str, options: WebSqOptions, state: State) -> None:
    """Refuse a unit that has not the configured detectors.

    Raises:
        ReplyError: It has not.
    """
    missing = [n for n in options.inputs if n > state.detectors]
    if missing:
        raise ReplyError(
            instrument,
            f"it has {state.detectors} detectors and none with number {missing[0]}: is this "
            "the instrument you configured?",
        )


def check_bounds(instrument: str, options: WebSqOptions, state: State) -> None:
    """Refuse limits that reach beyond what the unit says that it can do.

    Raises:
        SettingError: They do.
    """
    for label, what, unit, low, high in (
        (BIAS, "bias", "ua", options.min_bias_ua, options.max_bias_ua),
        (TRIGGER, "trigger", "mv", options.min_trigger_mv, options.max_trigger_mv),
    ):
        least, most = state.bounds.get(label, (low, high))
        if low < least or high > most:
            raise SettingError(
                instrument,
                f"min_{what}_{unit} {low:g} and max_{what}_{unit} {high:g} exceed the unit's "
                f"{least:g} to {most:g}: bring them inside",
            )
