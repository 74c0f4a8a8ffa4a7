"""TCP against a real server on this machine."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from drivers.errors import TransportError
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from drivers.transport.tcp import TcpChannel
from drivers.transport.transport import Transport

# Never reached where a test expects to hear at once.
LONG_S = 60.0


@pytest.fixture
async def transport(instrument: Any) -> AsyncIterator[Transport]:
    transport = Connector().transport("voa", f"tcp://127.0.0.1:{instrument.port}", timeout_s=LONG_S)
    await transport.open()
    yield transport
    await transport.close()


async def test_a_question_is_answered(transport: Transport) -> None:
    assert await transport.query("ATT?") == "ATT"


async def test_a_reply_in_two_packets_is_one_reply(transport: Transport) -> None:
    assert await transport.query("HALF?") == "half"


async def test_callers_at_the_same_time_get_their_own_answers(transport: Transport) -> None:
    answers = await asyncio.gather(*(transport.query(f"{n}?") for n in range(50)))

    assert answers == [str(n) for n in range(50)]


@pytest.mark.parametrize(
    ("question", "reason"), [("CLOSE?", "closed the connection"), ("RESET?", "connection lost")]
)
async def test_a_peer_that_closes_is_heard_at_once(
    transport: Transport, question: str, reason: str
) -> None:
    async with transport.exclusive() as link:
        with pytest.raises(TransportError, match=reason):
            await link.query(question)


async def test_a_reply_without_terminator_is_no_reply(transport: Transport) -> None:
    async with transport.exclusive() as link:
        with pytest.raises(TransportError) as caught:
            await link.query("ENDLESS?", timeout_s=0.1)

    assert caught.value.received == "no end"


async def test_a_late_reply_answers_nobody(transport: Transport) -> None:
    async with transport.exclusive() as link:
        with pytest.raises(TransportError):
            await link.query("LATE?", timeout_s=0.1)

    assert [await transport.query(f"{n}?") for n in range(3)] == ["0", "1", "2"]


async def test_a_line_that_nobody_asked_for_is_dropped(
    instrument: Any, transport: Transport
) -> None:
    instrument.send(b"EVENT 5\n")
    await asyncio.sleep(0.05)  # Nothing tells when the bytes have crossed.

    assert await transport.query("ATT?") == "ATT"


async def test_a_dropped_link_costs_no_command(instrument: Any, transport: Transport) -> None:
    instrument.drop_link()
    await asyncio.sleep(0.05)

    async with transport.exclusive() as link:
        await link.write("ATT 3")
        await link.query("ATT?")

    assert instrument.told == ["ATT 3", "ATT?"]


async def test_an_instrument_is_found_again_after_a_power_cut(
    instrument: Any, transport: Transport
) -> None:
    instrument.power_off()
    await asyncio.sleep(0.05)
    with pytest.raises(TransportError, match="cannot connect to 127"):
        await transport.query("ATT?")

    await instrument.power_on()

    assert await transport.query("ATT?") == "ATT"


async def test_a_port_where_nobody_listens_is_told_so(free_port: int) -> None:
    transport = Connector().transport("voa", f"tcp://127.0.0.1:{free_port}")

    with pytest.raises(TransportError, match=f"voa: cannot connect to 127.0.0.1:{free_port}"):
        await transport.open()


async def test_a_host_that_does_not_exist_is_told_so() -> None:
    transport = Connector().transport("voa", "tcp://voa.invalid:5025")

    with pytest.raises(TransportError, match=r"cannot connect to voa\.invalid:5025"):
        await transport.open()


async def test_a_long_reply_arrives_whole_though_the_sender_is_held_up(
    instrument: Any, transport: Transport
) -> None:
    async with transport.exclusive() as link:
        await link.write("MUCH?")
        await asyncio.sleep(0.05)  # Long enough for the inbox to be full.

        assert await link.read_exactly(instrument.much_bytes) == bytes(instrument.much_bytes)
        assert await link.read() == "end"


async def test_a_sender_that_nobody_listens_to_is_held_up(instrument: Any) -> None:
    channel = TcpChannel("127.0.0.1", instrument.port)
    await channel.open()
    await channel.send(b"MUCH?\n")
    await asyncio.sleep(0.1)  # Long enough for all of it to arrive, were it let in.

    assert 0 < len(channel.take_arrived()) < instrument.much_bytes

    await channel.close()


async def test_an_instrument_that_takes_nothing_is_given_up(instrument: Any) -> None:
    transport = Connector().transport("voa", f"tcp://127.0.0.1:{instrument.port}", timeout_s=0.2)
    await transport.open()
    async with transport.exclusive() as link:
        await link.write("DEAF")
        with pytest.raises(TransportError, match="not taken within"):
            await link.write_bytes(bytes(1 << 24))
    await transport.close()


async def test_a_channel_that_is_not_connected_says_so() -> None:
    channel = TcpChannel("127.0.0.1", 1)

    with pytest.raises(ChannelError, match="not connected"):
        await channel.send(b"?")


async def test_closing_twice_is_harmless(instrument: Any) -> None:
    channel = TcpChannel("127.0.0.1", instrument.port)
    await channel.open()

    await channel.close()
    await channel.close()
