"""The traffic log shows what passed, and never stops the traffic."""

import io
import re

import pytest

from drivers.transport.connect import Connector
from drivers.transport.memory import MemoryChannel
from drivers.transport.trace import Trace
from drivers.transport.transport import Transport

IN_VIRTUAL_TIME = True


async def exchange(trace: Trace) -> tuple[Transport, str]:
    channel = MemoryChannel()
    transport = Connector(trace=trace, memory={"epc": lambda: channel}).transport(
        "epc", "memory:epc"
    )
    await transport.open()
    async with transport.exclusive() as link:
        await link.write("V?")
        channel.deliver(b"\xb5 +0")
        channel.deliver(b"000\r\n")
        reply = await link.read_exactly(9)
    await transport.close()
    return transport, reply.decode("latin-1")


async def test_every_byte_is_written_with_time_instrument_and_direction() -> None:
    log = io.StringIO()
    await exchange(Trace(log))

    assert log.getvalue().splitlines() == [
        "   0.000000 epc - opened",
        r"   0.000000 epc > b'V?\n'",
        r"   0.000000 epc < b'\xb5 +0'",
        r"   0.000000 epc < b'000\r\n'",
        "   0.000000 epc - closed",
    ]


async def test_a_failure_is_remarked() -> None:
    log = io.StringIO()
    channel = MemoryChannel()
    transport = Transport("epc", channel, trace=Trace(log), timeout_s=0.5)
    await transport.open()
    with pytest.raises(ConnectionError):
        await transport.query("V?")

    assert re.search(r" 0\.500000 epc - no reply within 0\.5 s\n", log.getvalue())


async def test_a_stream_of_detection_times_is_shown_by_size_only() -> None:
    log = io.StringIO()
    wire = MemoryChannel()
    connector = Connector(trace=Trace(log), memory={"tags": lambda: wire})
    channel = connector.channel("id900", "memory:tags")
    await channel.open()
    wire.deliver(b"12345678" * 100)

    assert len(await channel.receive()) == 800

    assert "id900 - received 800 bytes" in log.getvalue()
    assert "1234" not in log.getvalue()


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", ["full", "closed"])
async def test_a_log_that_cannot_be_written_ends_and_the_traffic_goes_on(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = FullDisk() if kind == "full" else io.StringIO()
    if kind == "closed":
        stream.close()

    _, reply = await exchange(Trace(stream))

    assert reply == "\xb5 +0000\r\n"
    assert [record.message.partition(" at ")[0] for record in caplog.records] == [
        "the traffic log ends"
    ]
