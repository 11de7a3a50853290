"""Opening ports: real numbers, the loopback alone, errors that name the setting."""

import pytest
import trio

from clonk_core.errors import ConfigError
from clonk_core.transports.listening import Address, open_listeners


async def close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        await listener.aclose()


async def test_port_0_takes_a_free_one_and_tells_it() -> None:
    listeners, address = await open_listeners("127.0.0.1", 0, setting="server.http_port")
    assert address.port > 0
    assert address.url("http", "/mcp") == f"http://127.0.0.1:{address.port}/mcp"
    stream = await trio.open_tcp_stream(address.host, address.port)
    await stream.aclose()
    await close(listeners)


async def test_localhost_is_one_port_on_every_address() -> None:
    listeners, address = await open_listeners("localhost", 0, setting="server.http_port")
    assert {listener.socket.getsockname()[1] for listener in listeners} == {address.port}
    await close(listeners)


async def test_a_port_in_use_is_said_with_the_setting_s_name() -> None:
    listeners, address = await open_listeners("127.0.0.1", 0, setting="server.http_port")
    with pytest.raises(ConfigError, match=f"server.http_port.*{address.port}"):
        await open_listeners("127.0.0.1", address.port, setting="server.http_port")
    await close(listeners)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "no-such-host.invalid"])
async def test_everything_but_the_loopback_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.host"):
        await open_listeners(host, 0, setting="server.http_port")


def test_an_ipv6_address_is_bracketed() -> None:
    assert Address(host="::1", port=80).url("ws") == "ws://[::1]:80"
