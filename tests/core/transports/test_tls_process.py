"""`clonk serve` by TLS, as a process: reloading at SIGHUP, wrong pairs at the start, and the commands that reach it."""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from clonk_core.client.websocket import WebSocketClient
from clonk_core.testing.server_process import ServerProcess, server_process, write_config

LIMIT_S = 60


def settings_for(pair: Any) -> dict[str, Any]:
    tls = {"enabled": True, "cert_path": str(pair.cert), "key_path": str(pair.key)}
    return {"server": {"tls": tls}, "plugins": {"disabled": ["claudecode", "gitsync", "arbor"]}}


@pytest.fixture
async def server(tmp_path: Path, authority: Any) -> AsyncIterator[ServerProcess]:
    async with server_process(tmp_path / "place", settings=settings_for(authority.issue())) as running:
        yield running


async def run(*arguments: str, folder: Path, environ: Mapping[str, str] | None = None) -> Any:
    with trio.fail_after(LIMIT_S):
        return await trio.run_process(
            [sys.executable, "-m", "clonk_core", *arguments],
            check=False,
            capture_stdout=True,
            capture_stderr=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **(environ or {})},
            cwd=folder,
        )


@asynccontextmanager
async def handshake(url: str, context: ssl.SSLContext) -> AsyncIterator["trio.SSLStream[trio.SocketStream]"]:
    port = int(url.rpartition(":")[2].partition("/")[0])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context, https_compatible=True)
    try:
        await stream.do_handshake()
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def wait_logged(server: ServerProcess, event: str, count: int = 1) -> list[Any]:
    with trio.fail_after(LIMIT_S):
        while True:
            records = [orjson.loads(line) for line in server.log_text.splitlines() if line.endswith("}")]
            found = [record for record in records if record["event"] == event]
            if len(found) >= count:
                return found
            await trio.sleep(0.02)


async def test_sighup_reloads_the_certificate_while_a_websocket_stays_open(
    server: ServerProcess, authority: Any, serial_of: Callable[[Any], int]
) -> None:
    context = authority.client()
    async with WebSocketClient(server.websocket_url, ssl_context=context, retries=0) as client:
        assert (await client.call("hub.info"))["name"] == "clonk"
        renewed = authority.issue()
        server.process.send_signal(signal.SIGHUP)
        await wait_logged(server, "tls certificate reloaded")
        for url in (server.http_url, server.websocket_url):
            async with handshake(url, context) as stream:
                assert serial_of(stream) == renewed.serial
        # On the connection that was there before: without retries there is no other.
        assert (await client.call("hub.info"))["name"] == "clonk"

        renewed.key.write_text("hello")
        server.process.send_signal(signal.SIGHUP)
        (kept,) = await wait_logged(server, "tls certificate kept")
        assert kept["level"] == "error"
        assert "server.tls.key_path" in kept["reason"]
        async with handshake(server.http_url, context) as stream:
            assert serial_of(stream) == renewed.serial
        assert (await client.call("hub.info"))["name"] == "clonk"
        code = await server.terminate()
    assert code == 0
    assert "Traceback" not in server.log_text


async def test_where_sighup_was_ignored_it_reloads_all_the_same(tmp_path: Path, authority: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        async with server_process(tmp_path / "place", settings=settings_for(authority.issue())) as server:
            server.process.send_signal(signal.SIGHUP)
            await wait_logged(server, "tls certificate reloaded")
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("case", ["not given", "missing", "passphrase", "of another"])
async def test_a_wrong_pair_stops_the_start_and_is_named(tmp_path: Path, authority: Any, case: str) -> None:
    pair, other = authority.issue(), authority.issue("other")
    settings = settings_for(pair)
    if case == "not given":
        del settings["server"]["tls"]["key_path"]
    elif case == "missing":
        pair.cert.unlink()
    elif case == "passphrase":
        authority.issue(passphrase=b"hunter2")
    else:
        settings["server"]["tls"]["key_path"] = str(other.key)
    config = write_config(tmp_path / "clonk.yaml", tmp_path / "data", settings)
    done = await run("serve", "--config", str(config), folder=tmp_path)
    assert done.returncode == 2
    told = done.stderr.decode()
    assert "  server.tls." in told
    assert len(told.splitlines()) == 2


async def test_the_command_line_trusts_what_ssl_cert_file_names(
    server: ServerProcess, authority: Any, tmp_path: Path
) -> None:
    assert server.http_url.startswith("https://")
    environ = {"SSL_CERT_FILE": str(authority.ca_file)}
    done = await run("call", "hub.info", "--url", server.http_url, folder=tmp_path, environ=environ)
    assert (done.returncode, done.stderr) == (0, b"")
    assert orjson.loads(done.stdout)["name"] == "clonk"

    refused = await run("call", "hub.info", "--url", server.http_url, folder=tmp_path)
    assert refused.returncode == 3
    assert b"CERTIFICATE_VERIFY_FAILED" in refused.stderr


async def test_the_doctor_reads_the_pair_and_knows_a_running_clonk(
    server: ServerProcess, authority: Any, tmp_path: Path
) -> None:
    ports = {
        "http_port": int(server.http_url.rpartition(":")[2]),
        "websocket_port": int(server.websocket_url.rpartition(":")[2].partition("/")[0]),
    }
    settings = settings_for(authority.issue())
    settings["server"].update(ports)
    config = write_config(tmp_path / "clonk.yaml", tmp_path / "data", settings)
    done = await run("doctor", "--config", str(config), folder=tmp_path)
    told = done.stdout.decode()
    assert "ok       server.tls: " in told
    assert told.count("a Clonk is running there") == 2

    (authority.folder / "server.key").unlink()
    done = await run("doctor", "--config", str(config), folder=tmp_path)
    assert done.returncode == 1
    assert "FAILED   server.tls: server.tls.key_path: there is no file" in done.stdout.decode()
