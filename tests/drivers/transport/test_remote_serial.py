"""A serial port behind a network, through pyserial's socket URL, against a real server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from drivers.transport.connect import Connector
from drivers.transport.transport import Transport


@pytest.fixture(params=["socket", "serial+socket"])
async def transport(instrument: Any, request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    resource = f"{request.param}://127.0.0.1:{instrument.port}"
    transport = Connector().transport("epc", resource, timeout_s=30.0)
    await transport.open()
    yield transport
    await transport.close()


async def test_a_question_is_answered(transport: Transport) -> None:
    assert await transport.query("V?") == "V"


async def test_a_reply_in_two_packets_is_one_reply(transport: Transport) -> None:
    assert await transport.query("HALF?") == "half"
