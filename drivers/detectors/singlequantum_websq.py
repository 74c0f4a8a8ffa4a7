"""Single Quantum WebSQ (Atlas driver): bias, trigger levels and counts of SNSPDs, over TCP.

Port 12000 takes JSON objects and answers with labels, see ``singlequantum_websq_messages``; port
12345 pushes counts, see ``singlequantum_websq_counts``. The calibration of the bias that the unit
can do by itself is in ``singlequantum_websq_calibration``. Sources: the vendor's client as
published in Qcodes_contrib_drivers and in NQCP-Phot-Git-Drivers; no unit was at hand.

Nothing is acknowledged: a setting counts as made when the unit broadcasts the label with that
value. Where the label has that value already no broadcast may come, and all labels are asked for.
Other clients may set things too; currents of all detectors are sent in one list, so that the
others' are read right before. Counting switches the detectors on if they are off, after setting
the operating point that the testbed file gives.

The safe state is bias off: an SNSPD without bias is in no danger, while one that is flooded with
light under bias latches and stays blind. Currents and trigger levels stay as they are. The option
``is_off_when_safe = false`` leaves the bias on.

Weak facts, to be checked on first contact with a unit:

- Each message ends with 0x17, the last one too; all of it is ASCII.
- ``DetectorEnable`` is among the labels that the unit gives when asked for all.
- ``bounds`` is a list of two numbers; in any other form it is passed over, and only the configured
  limits hold. Resolutions and how far a value read back may lie off are guesses.
- No label with serial number or firmware is known.
- A refused command is followed by a label with ``Error`` in its name.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from drivers.detectors.singlequantum_websq_calibration import (
    MAX_DARK_COUNTS,
    accept_calibration,
    start_calibration,
    wait_for_calibration,
)
from drivers.detectors.singlequantum_websq_checks import (
    check_bias,
    check_bounds,
    check_detectors,
    check_in_use,
    check_trigger,
)
from drivers.detectors.singlequantum_websq_counts import CountStream, Window, plan_periods
from drivers.detectors.singlequantum_websq_labels import Labels
from drivers.detectors.singlequantum_websq_messages import MESSAGES, State
from drivers.detectors.singlequantum_websq_options import (
    RESOLUTION_MV,
    RESOLUTION_UA,
    WebSqOptions,
)
from drivers.errors import ReplyError, SettingError, TransportError
from drivers.linked import LinkedInstrument
from drivers.measuring import Interruption
from drivers.outputs import carry_out_all, check_within
from drivers.registry import register
from drivers.roles import Actuator, Counts, Health, Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

MAX_DURATION_S = 3600.0


@register("singlequantum-websq", WebSqOptions, "high", ("tcp",))
class WebSq(LinkedInstrument):
    """Single Quantum WebSQ / Atlas driver of superconducting nanowire detectors (JSON over TCP).

    Args:
        name: Name in the testbed file.
        resource: Where the control socket is, ``tcp://HOST:12000``.
        options: Detectors in use, limits, operating point.
        connector: Makes the links.
    """

    def __init__(
        self, name: str, resource: str, options: WebSqOptions, connector: Connector
    ) -> None:
        transport = connector.transport(name, resource, MESSAGES, timeout_s=options.timeout_s)
        super().__init__(name, transport)
        self._options = options
        counts_at = options.counts_at(resource)
        self._counts = counts_at and CountStream(name, connector.channel(name, counts_at))
        # Whether a lost link or a power cycle is to be followed by switching on again.
        self._is_in_use = False
        self._measuring = asyncio.Lock()
        self._interruption = Interruption(name)
        self._safe_calls = 0

    async def count(self, duration_s: float, inputs: Sequence[int]) -> Counts:
        """Count detections in whole periods that begin after the call.

        The detectors are switched on if they are off, and the measurement period is changed if
        need be.

        Args:
            duration_s: Least exposure, s; a multiple of the period that is chosen to fit it.
            inputs: Which detectors, from 1.

        Returns:
            Counts by detector and the true exposure.

        Raises:
            SettingError: Unknown detector, impossible duration, or nowhere to get counts from.
            RejectedError: The unit refused a setting.
            ReplyError: A line does not parse, or somebody switched the bias or changed the period
                while it counted.
            TransportError: A link was lost, lines were missing, or cut short by ``make_safe``.
        """
        numbers = check_in_use(self.name, self._options, inputs)
        check_within(self.name, "duration", duration_s, 1e-6, MAX_DURATION_S, "s")
        if not self._counts:
            raise SettingError(self.name, "say in counts_resource where counts are pushed")
        n_periods, period_ms = plan_periods(duration_s)
        period_s = period_ms / 1e3
        safe_calls = self._safe_calls
        async with self._measuring:
            before = await self._prepare(period_ms, safe_calls)
            ready_s = asyncio.get_running_loop().time()
            window = Window(n_periods, period_s, ready_s, skip=int(before.period_ms != period_ms))
            await self._counts.fill(
                window,
                before.detectors,
                within_s=2 * (n_periods + 2) * period_s
                + before.period_ms / 1e3
                + self._options.timeout_s,
                check=self._interruption.check,
            )
            await self._check_as_prepared(period_ms)
            self._interruption.check()
        return Counts(
            n_periods * period_ms / 1e3,
            {n: sum(line.counts[n - 1] for line in window.lines) for n in numbers},
        )

    async def set_bias(self, detector: int, current_ua: float) -> float:
        """Set the bias current of a detector, which flows while the detectors are switched on.

        Args:
            detector: Which, from 1.
            current_ua: Bias current, uA.

        Returns:
            Current that the unit confirmed, uA.

        Raises:
            SettingError: Outside the limits or no such detector; nothing was sent.
            RejectedError: The unit refused; the old setting stands.
            ReplyError: Another value was read back than was set.
            TransportError: Link lost or not confirmed; the current is unknown.
        """
        check_bias(self.name, self._options, detector, current_ua)
        async with self._labels() as labels:
            state = await labels.state()
            return (await labels.set_bias(state, {detector: current_ua}))[detector - 1]

    async def read_bias(self, detector: int) -> float:
        """Read the bias current that a detector is set to, on or off, uA."""
        check_in_use(self.name, self._options, [detector])
        async with self._labels() as labels:
            return (await labels.state()).bias_ua[detector - 1]

    async def set_trigger(self, detector: int, level_mv: float) -> float:
        """Set the trigger level of a detector, mV; as ``set_bias``."""
        check_trigger(self.name, self._options, detector, level_mv)
        async with self._labels() as labels:
            state = await labels.state()
            return (await labels.set_trigger(state, {detector: level_mv}))[detector - 1]

    async def read_trigger(self, detector: int) -> float:
        """Read the trigger level of a detector, mV."""
        check_in_use(self.name, self._options, [detector])
        async with self._labels() as labels:
            return (await labels.state()).trigger_mv[detector - 1]

    async def detector_enable(self, *, is_on: bool) -> bool:
        """Switch the bias of all detectors on or off; return what was confirmed.

        Raises:
            RejectedError: The unit refused.
            TransportError: Link lost or not confirmed; whether they are on is unknown.
        """
        self._is_in_use &= is_on  # what is to be off is not switched on again by a lost link
        async with self._labels() as labels:
            self._is_in_use = await labels.switch(await labels.state(), is_on=is_on)
        return self._is_in_use

    async def calibrate_bias(self, dark_counts: float) -> dict[int, float]:
        """Have the unit look for the bias at which each detector has so many dark counts.

        The caller shuts the light before and until this returns: with light the currents land too
        low. Currents outside the configured limits are not left in force.

        Args:
            dark_counts: Dark counts wanted in one measurement period, the same for all detectors.

        Returns:
            Bias found, by detector in use, uA.

        Raises:
            SettingError: An impossible number of dark counts; nothing was sent.
            RejectedError: The unit refused, or found currents outside the limits: those from before
                are back.
            TransportError: Link lost, not finished in time, or cut short by ``make_safe``. The unit
                may go on looking; ``make_safe`` switches the bias off.
        """
        check_within(self.name, "dark counts", dark_counts, 0.0, MAX_DARK_COUNTS, "")
        safe_calls = self._safe_calls
        async with self._measuring:
            before = await self._start_calibration(dark_counts, safe_calls)
            longest_s = self._options.calibration_timeout_s
            await wait_for_calibration(self.name, self._labels, self._interruption, longest_s)
            async with self._labels() as labels:
                return await accept_calibration(self.name, labels, self._options, before)

    async def make_safe(self) -> None:
        """Switch the bias off, unless ``is_off_when_safe`` says no; breaks off a count."""
        self._interruption.cut_short()
        self._safe_calls += 1
        if not self._options.is_off_when_safe:
            return
        self._is_in_use = False

        async def switch_off(link: Dialogue) -> None:
            await Labels(link, self._options.timeout_s).switch_off()

        await carry_out_all(self._transport, [switch_off])

    async def close(self) -> None:
        """Close both links; leaves the unit as it is."""
        self._interruption.cut_short()
        if self._counts:
            await self._counts.close()
        await super().close()

    def health(self) -> Health:
        """Tell how the control link has fared, the errors of the counts added."""
        control = super().health()
        if not self._counts:
            return control
        return Health(
            exchanges=control.exchanges,
            errors=control.errors + self._counts.errors,
            reconnects=control.reconnects,
            last_round_trip_s=control.last_round_trip_s,
            last_error=control.last_error or self._counts.last_error,
        )

    def actuators(self) -> Mapping[str, Actuator]:
        """``bias-1`` … in uA and ``trigger-1`` … in mV, of the detectors in use."""
        options = self._options
        biases = {
            f"bias-{n}": Actuator(
                "uA",
                options.min_bias_ua,
                options.max_bias_ua,
                RESOLUTION_UA,
                partial(self.set_bias, n),
                partial(self.read_bias, n),
            )
            for n in options.inputs
        }
        triggers = {
            f"trigger-{n}": Actuator(
                "mV",
                options.min_trigger_mv,
                options.max_trigger_mv,
                RESOLUTION_MV,
                partial(self.set_trigger, n),
                partial(self.read_trigger, n),
            )
            for n in options.inputs
        }
        return {**biases, **triggers}

    # Set-up.

    @asynccontextmanager
    async def _labels(self) -> AsyncIterator[Labels]:
        async with self._transport.exclusive() as link:
            yield Labels(link, self._options.timeout_s)

    async def _identify(self, link: Dialogue) -> Identity:
        return self._identity(await Labels(link, self._options.timeout_s).state())

    async def _identify_anew(self, link: Dialogue) -> Identity:
        self._interruption.cut_short()
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        """Set the configured operating point and switch on."""
        labels = Labels(link, self._options.timeout_s)
        state = await labels.state()
        check_bounds(self.name, self._options, state)
        await labels.set_trigger(state, self._options.trigger_levels_mv)
        await labels.set_bias(state, self._options.bias_currents_ua)
        if self._options.bias_currents_ua:
            await labels.switch(state, is_on=True)
            self._is_in_use = True

    async def _set_up_again(self, link: Dialogue) -> None:
        """After a lost link: set it up again if it is off, though it is in use.

        Currents stay as they are found while the detectors are on; a unit that was switched off
        and on comes up with them off.
        """
        if self._is_in_use:
            labels = Labels(link, self._options.timeout_s)
            await self._bring_into_use(labels, await labels.state())

    async def _bring_into_use(self, labels: Labels, state: State) -> None:
        """Where the detectors are off, set the operating point and switch them on."""
        if not state.is_on:
            await labels.set_trigger(state, self._options.trigger_levels_mv)
            await labels.set_bias(state, self._options.bias_currents_ua)
            await labels.switch(state, is_on=True)
        self._is_in_use = True

    def _identity(self, state: State) -> Identity:
        check_detectors(self.name, self._options, state)
        model = f"WebSQ with {state.detectors} detectors"
        return Identity("Single Quantum", model, "unknown", "unknown")

    # Counting and calibrating.

    async def _prepare(self, period_ms: int, safe_calls: int) -> State:
        """Detectors on, period as wanted; return the state from before."""
        async with self._labels() as labels:
            before = await self._begin(labels, safe_calls)
            await labels.set_period(before, period_ms)
        return before

    async def _start_calibration(self, dark_counts: float, safe_calls: int) -> State:
        async with self._labels() as labels:
            before = await self._begin(labels, safe_calls)
            await start_calibration(self.name, labels, dark_counts, before.detectors)
        return before

    async def _begin(self, labels: Labels, safe_calls: int) -> State:
        """Have the detectors on for a measurement; return the state from before.

        What was made safe while the caller waited for its turn is not switched on.
        """
        if self._safe_calls != safe_calls:
            raise TransportError(self.name, "make_safe was called before the measurement began")
        self._interruption.arm()
        before = await labels.state()
        self._identity(before)
        await self._bring_into_use(labels, before)
        return before

    async def _check_as_prepared(self, period_ms: int) -> None:
        async with self._labels() as labels:
            after = await labels.state()
        if not after.is_on or after.period_ms != period_ms:
            raise ReplyError(
                self.name, "somebody switched the bias off or changed the period while it counted"
            )
