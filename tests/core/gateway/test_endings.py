"""What is open ends within 5 s when its credential does, at the settings that a server has by itself."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from clonk_core.app import Addresses
from clonk_core.gateway.key_store import KeyStore
from clonk_core.gateway.keys import KeyRing
from clonk_core.gateway.office import KeyOffice
from clonk_core.gateway_messages import KeyRequest
from clonk_core.messages import LOCAL_CALLER
from clonk_core.plugin import Activation, method
from clonk_core.storage.core_tables import open_core_database
from clonk_core.testing.serving import served
from tests.core.gateway.guarded import OpenGuarded, key_settings
from tests.core.gateway.raw import Raw, frames, message, post_bytes, received_from

WITHIN_S = 5.0
AS_SHIPPED = {"key_check_s": 2.0}


class Ticking(Activation):
    """Ticks until it is stopped."""

    namespace = "ticking"

    @method(scope="read", durable=True)
    async def go(self) -> AsyncIterator[int]:
        """Say 1, and wait."""
        yield 1
        await trio.sleep_forever()


def header(secret: str) -> bytes:
    return b"Authorization: Bearer " + secret.encode()


async def read_stream(addresses: Addresses, secret: str, run: str | None, task_status: trio.TaskStatus[None]) -> float:
    """Read a stream over HTTP, as the call that starts it or as one who comes back; return when it was closed."""
    line = header(secret)
    if run is None:
        asked = post_bytes(message("ticking.go"), line)
    else:
        lines = [
            b"GET /mcp HTTP/1.1",
            b"Host: localhost",
            b"Connection: close",
            f"Last-Event-ID: {run}/0".encode(),
            line,
        ]
        asked = b"\r\n".join(lines) + b"\r\n\r\n"
    async with await trio.open_tcp_stream("127.0.0.1", addresses.http.port) as stream:
        await stream.send_all(asked)
        received = b""
        while b'"result":1' not in received:
            received += await stream.receive_some(65_536)
        assert Raw.of(received).status == 200
        task_status.started()
        await received_from(stream)
        return time.time()


async def all_ends(addresses: Addresses, secret: str, end: trio.Event, ended: trio.Event) -> list[float]:
    """Open what can be open with a key, set `end`, wait for `ended`; return when each was closed."""
    times: list[float] = []

    async def reader(run: str | None, task_status: trio.TaskStatus[None]) -> None:
        times.append(await read_stream(addresses, secret, run, task_status))

    async with frames(addresses.websocket.port, header(secret)) as peer, trio.open_nursery() as nursery:
        await peer.send(message("ticking.go"))
        run = (await peer.answer(1))["result"]
        await nursery.start(reader, None)
        await nursery.start(reader, run)
        end.set()
        while (await peer.receive())[0] != 8:
            pass
        times.append(time.time())
        await ended.wait()
    return times


async def test_all_that_a_key_has_open_ends_when_another_process_takes_it_back(
    open_guarded: OpenGuarded, tmp_path: Path
) -> None:
    async with (
        open_guarded(key_settings("root"), activations=[Ticking], auth=AS_SHIPPED) as host,
        served(host) as addresses,
        open_core_database(tmp_path / "data") as database,
        trio.open_nursery() as nursery,
    ):
        _, secret = await host.app.gateway.keys.create(LOCAL_CALLER, KeyRequest(id="gone", scopes=("*",)))
        end, ended = trio.Event(), trio.Event()
        at = 0.0

        async def revoke() -> None:
            nonlocal at
            await end.wait()
            office = KeyOffice(KeyStore(database), KeyRing([], time.time), None, time.time)
            await office.refresh()
            await office.revoke(LOCAL_CALLER, "gone")
            at = time.time()
            ended.set()

        nursery.start_soon(revoke)
        times = await all_ends(addresses, secret, end, ended)
        assert len(times) == 3
        assert max(times) - at < WITHIN_S
        with trio.fail_after(WITHIN_S):
            while host.app.realm.count_runs("gone"):
                await trio.sleep(0.02)


@pytest.mark.parametrize("how", ["expires", "replaced"])
async def test_all_that_a_secret_has_open_ends_when_it_is_good_no_more(open_guarded: OpenGuarded, how: str) -> None:
    async with (
        open_guarded(key_settings("root"), activations=[Ticking], auth=AS_SHIPPED) as host,
        served(host) as addresses,
    ):
        keys = host.app.gateway.keys
        until = datetime.now(UTC) + timedelta(seconds=2)
        wanted = KeyRequest(id="short", scopes=("*",), expires_at=until if how == "expires" else None)
        _, secret = await keys.create(LOCAL_CALLER, wanted)
        newer = None
        if how == "replaced":
            info, newer = await keys.rotate(LOCAL_CALLER, "short", 2.0)
            assert info.previous_until is not None
            until = info.previous_until
        over = trio.Event()
        over.set()
        if newer is None:
            times = await all_ends(addresses, secret, trio.Event(), over)
        else:
            async with frames(addresses.websocket.port, header(newer)) as peer:
                times = await all_ends(addresses, secret, trio.Event(), over)
                # Who has changed over goes on.
                await peer.send(message(id=7))
                assert (await peer.answer(7))["result"]["caller"] == "short"
        assert all(-0.1 < at - until.timestamp() < WITHIN_S for at in times)
