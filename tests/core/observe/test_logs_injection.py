"""Logs: whatever callers send, a record is a line, and nothing in it moves the cursor."""

import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_core.app import open_app
from clonk_core.client.inside import InsideClient
from clonk_core.interfaces.door import Connection
from clonk_core.observe.logs import Logs
from clonk_core.plugin import CallError
from clonk_core.testing.host import blueprint

FORGED = "x\n2026-01-01T00:00:00Z [info     ] forged"
HOSTILE = [
    FORGED,
    "\r\nforged",
    "\x1b[2J\x1b[1;1Hforged",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\x08\x08b",
    "\x00",
    "\x85forged",
    "\u2028forged\u2029",
    "\u202egnp.exe",
    "\ud800",
]
RECORD = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[[a-z]+ *\] ")


class Rude:
    """Has a representation of several lines."""

    def __repr__(self) -> str:
        return FORGED


def written(format_: Literal["json", "pretty"], tell: Callable[[Any], None], name: str = "x") -> str:
    stream = StringIO()
    tell(Logs(level="debug", format=format_, stream=stream).get(name))
    return stream.getvalue()


def assert_harmless(text: str, records: int = 1) -> None:
    """Check that there are so many records, and nothing but printable characters and our own line ends."""
    assert all(one.isprintable() or one == "\n" for one in text)
    lines = text.removesuffix("\n").split("\n")
    begins = [line for line in lines if RECORD.match(line) or line.startswith("{")]
    assert len(begins) == records
    assert all(line.startswith("  | ") for line in lines if line not in begins)


@pytest.mark.parametrize("format_", ["json", "pretty"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_in_any_place_forges_a_line_or_moves_the_cursor(format_: Any, text: str) -> None:
    assert_harmless(written(format_, lambda log: log.info("call", method=text)))
    assert_harmless(written(format_, lambda log: log.info(text)))
    assert_harmless(written(format_, lambda log: log.info("call", **{text: "value"})))
    assert_harmless(written(format_, lambda log: log.info("call", exception=text)))
    assert_harmless(written(format_, lambda log: log.info("call", stack=text)))
    assert_harmless(written(format_, lambda log: log.info("call", values=[text, {"a": text}])))
    assert_harmless(written(format_, lambda log: log.info("call"), name=text))


@pytest.mark.parametrize("format_", ["json", "pretty"])
def test_no_representation_of_an_object_does(format_: Any) -> None:
    assert_harmless(written(format_, lambda log: log.info("call", value=Rude(), error=ValueError(FORGED))))


@pytest.mark.parametrize("format_", ["json", "pretty"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_an_exception_does(format_: Any, text: str) -> None:
    def tell(log: Any) -> None:
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed", reason=text)

    assert_harmless(written(format_, tell))


@given(text=st.text(), format_=st.sampled_from(["json", "pretty"]))
def test_no_text_at_all_does(text: str, format_: Any) -> None:
    assert_harmless(written(format_, lambda log: log.info(text, member=text)))


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_json_gives_the_text_back_as_it_was(text: str) -> None:
    assert json.loads(written("json", lambda log: log.info("call", method=text)))["method"] == text


def test_ordinary_texts_look_as_before() -> None:
    line = written("pretty", lambda log: log.info("call", method="hub.info", name="Ünïcode", reason="two words", n=1))
    assert re.search(r"call +\[x\] method=hub.info n=1 name=Ünïcode reason='two words'\n$", line)


@pytest.mark.parametrize("format_", ["json", "pretty"])
async def test_a_caller_cannot_forge_a_line_through_the_door(tmp_path: Path, format_: Any) -> None:
    stream = StringIO()
    logs = Logs(level="debug", format=format_, stream=stream)
    async with open_app(blueprint(tmp_path / "data"), logs=logs) as app:
        before = stream.getvalue().count("\n")
        connection = Connection(transport="http", peer=FORGED, id="conn_test", bearer=FORGED)
        with pytest.raises(CallError):
            await InsideClient(app.dispatch, connection).call(FORGED)
        told = "\n".join(stream.getvalue().split("\n")[before:])
    assert told
    assert all(one.isprintable() or one == "\n" for one in told)
    assert not any(line.startswith("2026-01-01T00:00:00Z") for line in told.split("\n"))
