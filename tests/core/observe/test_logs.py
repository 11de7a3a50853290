"""Logs: what they mask, and that they harm nobody."""

import errno
import json
from io import StringIO
from pathlib import Path

import pytest

from clonk_core.app import open_app
from clonk_core.client.inside import InsideClient
from clonk_core.interfaces.door import Connection
from clonk_core.observe.logs import MASK, Logs, request_context
from clonk_core.plugin import CallError
from clonk_core.testing.host import blueprint


class FullDisk(StringIO):
    """A file on a disk without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_members_named_like_a_secret_are_masked() -> None:
    stream = StringIO()
    Logs(format="json", stream=stream).get("x").info("start", api_key="k", Authorization="Bearer b", name="n")
    record = json.loads(stream.getvalue())
    assert (record["api_key"], record["Authorization"], record["name"]) == (MASK, MASK, "n")


def test_a_level_leaves_out_what_is_below() -> None:
    stream = StringIO()
    log = Logs(level="warning", format="json", stream=stream).get("x")
    log.debug("one")
    log.info("two")
    log.warning("three")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["three"]


@pytest.mark.parametrize("format_", ["json", "pretty"])
def test_an_exception_is_logged_with_its_traceback_and_without_local_variables(format_: str) -> None:
    stream = StringIO()
    log = Logs(format="json" if format_ == "json" else "pretty", stream=stream).get("x")
    try:
        hidden = "kept" + "dark"
        raise ZeroDivisionError(len(hidden))
    except ZeroDivisionError:
        log.exception("failed")
    assert "ZeroDivisionError" in stream.getvalue()
    assert "keptdark" not in stream.getvalue()


@pytest.mark.parametrize("stream", [FullDisk(), StringIO()], ids=["full", "closed"])
async def test_a_log_that_cannot_be_written_stops_nothing(stream: StringIO, tmp_path: Path) -> None:
    if not isinstance(stream, FullDisk):
        stream.close()
    logs = Logs(level="debug", format="json", stream=stream)
    async with open_app(blueprint(tmp_path / "data"), logs=logs) as app:
        client = InsideClient(app.dispatch, Connection(transport="inside", peer="test", id="conn_test"))
        assert (await client.call("auth.whoami"))["caller"] == "local"
        with pytest.raises(CallError):
            await client.call("no.such" * 1000)


def test_what_is_logged_for_a_request_bears_its_ids() -> None:
    stream = StringIO()
    log = Logs(format="json", stream=stream).get("x")
    log.info("before")
    with request_context("req_1", "4bf92f3577b34da6a3ce929d0e0e4736"):
        log.info("inside")
        with request_context("req_2"):
            log.info("another")
        log.info("inside again")
    before, inside, another, again = map(json.loads, stream.getvalue().splitlines())
    assert "request_id" not in before
    assert (inside["request_id"], inside["trace_id"]) == ("req_1", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert another["request_id"] == "req_2"
    assert "trace_id" not in another
    assert again["trace_id"] == inside["trace_id"]
