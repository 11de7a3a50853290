"""`clonk serve` and `clonk stdio` as processes: readiness, signals, what they print."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Clonk = Callable[..., Any]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_a_signal_ends_the_server_in_order(served: Any, number: signal.Signals, code: int) -> None:
    assert served.stop(number) == code
    assert not any("Traceback" in line for line in served.log)


def test_a_run_under_way_is_ended_in_order(place: Any, served: Any) -> None:
    reader = place.start("call", "dice.wait", "--json", "--url", served.url)
    assert reader.stdout is not None
    reader.stdout.readline()
    assert served.stop() == 0
    out, _ = reader.communicate(timeout=60)
    assert reader.returncode == 1
    assert json.loads(out.splitlines()[-1])["result"]["type"] == "done"


def test_a_second_signal_ends_it_at_once(served: Any) -> None:
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "dice.stubborn"}).encode()
    request = urllib.request.Request(served.url + "/mcp", data=call, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        while b'"seq":1' not in answer.readline():
            pass
        served.process.send_signal(signal.SIGTERM)
        # Until the listening sockets are closed the first signal may not have been seen, and two are one.
        while _accepts(served.url):
            pass
        assert served.stop(signal.SIGTERM) == 128 + signal.SIGTERM


def _accepts(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=60).close()
    except ConnectionError:
        return False
    return True


HANGS = """
import sys
import trio
from clonk_core.plugin import Activation


class Hangs(Activation):
    \"\"\"Never gets ready.\"\"\"

    namespace = "hangs"

    async def open(self):
        print('{"event": "hangs"}', file=sys.stderr, flush=True)
        await trio.sleep_forever()
"""


@pytest.mark.parametrize("command", ["serve", "stdio"])
def test_a_signal_ends_a_server_that_has_not_started_yet(place: Any, command: str) -> None:
    (place.folder / "plugins" / "hangs.py").write_text(HANGS)
    process = place.start(command, stdin=subprocess.PIPE)
    for line in process.stderr:
        if "hangs" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err


NEVER_ENDS = """
import trio
from clonk_core.cli.signals import watched_signals


async def main():
    async with watched_signals() as stopping:
        stopping.patience_s = 0.1
        stopping.has_started = True
        print("ready", flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


trio.run(main)
"""


def test_what_shields_itself_from_the_end_is_ended_at_last() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NEVER_ENDS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not ended" in err


def test_a_second_server_on_the_same_data_is_refused_with_one_sentence(served: Any, clonk: Clonk) -> None:
    done = clonk("serve")
    assert done.code == 1
    assert str(served.process.pid) in done.err
    assert "Traceback" not in done.err


def test_a_taken_port_is_told_with_its_setting(served: Any, clonk: Clonk) -> None:
    port = served.url.rpartition(":")[2].strip("/")
    done = clonk("serve", "--http-port", port, "--data-dir", "elsewhere")
    assert done.code == 2
    assert "server.http_port" in done.err


def test_on_a_terminal_it_says_where_it_is_and_what_to_try(place: Any) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "clonk_core", "serve"],
        cwd=place.folder,
        env=place.environ,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    shown = b""
    try:
        while b"Ctrl-C stops it" not in shown:
            piece = os.read(controller, 4096)
            assert piece
            shown += piece
    finally:
        process.terminate()
        process.communicate(timeout=60)
        os.close(controller)
    text = shown.decode()
    assert "http://127.0.0.1:" in text
    assert "ws://127.0.0.1:" in text
    assert "curl http://127.0.0.1:" in text
    assert str(Path(place.folder) / "data") in text
    assert process.returncode == 0


def test_stdio_answers_line_by_line_and_ends_with_its_input(clonk: Clonk) -> None:
    requests = [{"jsonrpc": "2.0", "id": n, "method": "dice.roll", "params": {"sides": n}} for n in (1, 2)]
    done = clonk("stdio", stdin="".join(json.dumps(request) + "\n" for request in requests))
    assert done.code == 0
    answers = sorted(done.lines, key=lambda answer: answer["id"])
    assert [answer["result"] for answer in answers] == [{"value": 1}, {"value": 2}]


def test_a_signal_ends_stdio(place: Any) -> None:
    process = place.start("stdio", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"jsonrpc":"2.0","id":1,"method":"hub.info"}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_stdio_opens_no_port_and_so_may_be_configured_for_any_host(clonk: Clonk, place: Any) -> None:
    request = '{"jsonrpc":"2.0","id":1,"method":"hub.info"}\n'
    done = clonk("stdio", "--host", "0.0.0.0", stdin=request)
    assert done.code == 0
    assert done.lines[0]["result"]["name"] == "clonk"
