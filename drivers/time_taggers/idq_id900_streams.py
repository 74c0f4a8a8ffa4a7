"""Streams of an ID900's time stamps: started at the data link service, one for each input."""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ReplyError
from drivers.roles import Health
from drivers.time_taggers.idq_data_link import DataLink, TagStream
from drivers.time_taggers.idq_id900_dialogue import act, parse_count, tell
from drivers.time_taggers.idq_id900_options import Id900Options
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue, Transport


class TagStreams:
    """The streams of one unit; they stay up between acquisitions on the same inputs.

    Args:
        instrument: Name in errors and in the trace.
        transport: The link to the unit.
        options: Inputs and addresses.
        data_link: Where the data link service listens.
        address: Host of the unit, as the service reaches it.
        connector: Makes the links.
    """

    def __init__(
        self,
        instrument: str,
        transport: Transport,
        options: Id900Options,
        data_link: str,
        address: str,
        connector: Connector,
    ) -> None:
        self._instrument = instrument
        self._transport = transport
        self._options = options
        self._address = address
        self._data_link = DataLink(instrument, data_link, connector, options.timeout_s)
        self._streams = {
            number: TagStream(
                instrument, number, connector.channel(instrument, options.stream_resource(number))
            )
            for number in options.inputs
        }
        # Ids of the streams that the service has started for us and that are in step, by input.
        self._ids: dict[int, str] = {}

    async def open(self) -> None:
        """Connect to the service and see that it answers; raises as ``DataLink.open``."""
        await self._data_link.open()

    async def close(self) -> None:
        """Drop the streams and disconnect from the service."""
        await self.drop()
        await self._data_link.close()

    def health(self) -> Health:
        """Tell how the link to the service has fared."""
        return self._data_link.health()

    def distrust(self) -> None:
        """Set them up anew before they are used again."""
        self._ids.clear()

    async def drop(self) -> None:
        """Disconnect; what is under way is lost."""
        self._ids.clear()
        for stream in self._streams.values():
            await stream.close()

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the streams that are up."""
        return tuple(self._ids.values())

    def are_up(self, numbers: Sequence[int]) -> bool:
        """Whether the streams of these inputs are up, and no others."""
        return set(self._ids) == set(numbers)

    async def set_up(self, numbers: Sequence[int]) -> None:
        """End what is still streamed, and start the streams of these inputs.

        Raises:
            RejectedError: The unit or the service refused.
            ReplyError: An answer does not parse.
            TransportError: A link is lost.
        """
        self._ids.clear()
        async with self._transport.exclusive() as link:
            for number in self._options.inputs:
                await act(link, f"RAW{number}:SEND OFF")
        for stream in await self._data_link.active():
            if stream.startswith(f"{self._address}:"):  # not another controller's
                await self._data_link.stop(stream)
        for number in numbers:
            await self._streams[number].open()
            async with self._transport.exclusive() as link:
                await self._link_stamps(link, number)
            stream = await self._data_link.start_stream(
                self._address, number, self._options.stream_port(number)
            )
            async with self._transport.exclusive() as link:
                await act(link, f"RAW{number}:SEND ON")
            self._ids[number] = stream

    async def collect(self, number: int, recording: asyncio.Event) -> NDArray[np.uint64]:
        """Read one acquisition of one input; see ``TagStream.collect``."""
        return await self._streams[number].collect(recording, self._options.max_tags)

    async def end(self, streams: Sequence[str]) -> None:
        """Where only the end of a stream is marked: end it, so that the marks come."""
        if self._options.end_mark == "acquisition":
            return
        for stream in streams:
            await self._data_link.wait_for_acquisition(stream)
            await self._data_link.check(stream)
        for stream in streams:
            await self._data_link.stop(stream)

    async def check_nothing_lost(self, numbers: Sequence[int], streams: Sequence[str]) -> None:
        """Raise if the unit or the service lost stamps of the acquisition that has ended.

        Raises:
            ReplyError: Stamps were lost.
            TransportError: A link is lost.
        """
        for number in numbers:
            question = f"RAW{number}:ERRORS?"
            reply = await self._transport.query(question)
            if n_errors := parse_count(self._instrument, question, reply):
                raise ReplyError(
                    self._instrument,
                    f"{n_errors} errors in the time stamps of input {number}: stamps were lost, "
                    "reduce the rate",
                )
        if self._options.end_mark == "stream":
            self._ids.clear()
            return
        for stream in streams:
            await self._data_link.check(stream)

    async def _link_stamps(self, link: Dialogue, number: int) -> None:
        source = "DELA" if number in self._options.input_delays_ps else "INPU"
        await tell(link, f"RAW{number}:REF:LINK STAR")
        await tell(link, f"RAW{number}:STOP:LINK {source}{number}")
        await act(link, f"RAW{number}:ERRORS:CLEAR")
