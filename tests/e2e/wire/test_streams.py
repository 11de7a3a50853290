"""Server-sent events as they are written, `GET /mcp`, one JSON answer, and coming back after a restart."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import server_process

Call = Callable[..., bytes]
PLUGINS = Path(__file__).parent / "plugins"


def events_of(body: bytes) -> list[tuple[str, Any]]:
    """Ids and messages of a stream's events; blocks without data (retry, comments) are left out."""
    found = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            found.append((fields.get("id", ""), json.loads(fields["data"])))
    return found


async def _count(peer: Any, call: Call, to: int = 3) -> tuple[str, list[tuple[str, Any]]]:
    answer = await peer.request(call("trouble.count", [to]))
    events = events_of(answer.body)
    return events[0][1]["result"], events


async def _come_back(peer: Any, last_event_id: str | None, **headers: str) -> Any:
    given = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return await peer.request(method="GET", headers={**given, **headers})


async def test_a_stream_is_written_as_the_contract_says(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        answer = await peer.request(call("trouble.count", [2], id="mine"))
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    subscription = events_of(answer.body)[0][1]["result"]
    assert re.fullmatch(r"sub_[0-9a-z]{26}", subscription)

    def event(seq: int, result: str) -> str:
        params = f'{{"subscription":"{subscription}","seq":{seq},"result":{result}}}'
        return f'id: {subscription}/{seq}\ndata: {{"jsonrpc":"2.0","method":"subscription","params":{params}}}\n\n'

    assert answer.body.decode() == "".join(
        [
            "retry: 1000\n\n",
            f'data: {{"jsonrpc":"2.0","id":"mine","result":"{subscription}"}}\n\n',
            event(1, '{"number":0,"fill":""}'),
            event(2, '{"number":1,"fill":""}'),
            event(3, '{"type":"done","outcome":"complete","error":null}'),
        ]
    )


async def test_a_quiet_stream_is_kept_alive_by_a_comment(open_http: Any, call: Call) -> None:
    async with open_http() as peer, open_http() as other:
        _, pieces = await peer.begin(call("trouble.count_gated", ["quiet", 3]))
        body = b""
        while b"\n\n:\n\n" not in body:  # the server is told to say so every half second
            body += await anext(pieces)
        await other.ask(call("trouble.release", ["quiet"]))
        body += b"".join([piece async for piece in pieces])
        assert [id_.rpartition("/")[2] for id_, _ in events_of(body)] == ["", "1", "2", "3", "4"]


async def test_last_event_id_goes_on_without_gap_or_repetition(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        subscription, events = await _count(peer, call)
        for seq in range(4):
            answer = await _come_back(peer, f"{subscription}/{seq}")
            assert answer.status == 200
            assert events_of(answer.body) == events[1 + seq :]  # without the acknowledgement: nothing was called
        # Nothing is left to read: 204 tells a browser not to come back.
        assert (await _come_back(peer, f"{subscription}/4")).status == 204


async def test_a_last_event_id_that_is_none_of_ours_is_refused(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        subscription, _ = await _count(peer, call)
        for last_event_id in (
            None,
            "",
            "nonsense",
            "/",
            "/5",
            f"{subscription}",
            f"{subscription}/",
            f"{subscription}/-1",
            f"{subscription}/1.5",
            f"{subscription}/0x1",
            f"{subscription}/5",
            f"{subscription}/999999999999999999",
            f"{subscription}/{'9' * 5000}",
            "x" * 65 + "/1",
        ):
            answer = await _come_back(peer, last_event_id)
            assert answer.status == 400, last_event_id
            assert answer.json()["error"]["data"]["kind"] == "invalid_params", last_event_id
        unknown = await _come_back(peer, "sub_unknown/1")
        assert (unknown.status, unknown.json()["error"]["data"]["kind"]) == (200, "not_found")
        once = events_of((await peer.request(call("trouble.count_once", [2]))).body)[0][1]["result"]
        gone = await _come_back(peer, f"{once}/0")  # not durable: it ended with its reader
        assert gone.json()["error"]["data"]["kind"] == "not_found"
        assert (await peer.ask(call("trouble.add", [1, 2])))["result"] == 3


async def test_who_takes_json_alone_gets_one_answer_at_the_end(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        for accept in ("application/json", "application/json, text/event-stream;q=0", "application/*"):
            answer = await peer.request(call("trouble.count", [2], id=9), headers={"Accept": accept})
            assert answer.headers["content-type"] == "application/json", accept
            found = answer.json()
            assert (found["id"], set(found["result"])) == (9, {"subscription", "events"})
            assert [event.get("number", event.get("outcome")) for event in found["result"]["events"]] == [
                0,
                1,
                "complete",
            ]
        subscription, _ = await _count(peer, call, 2)
        back = await _come_back(peer, f"{subscription}/2", Accept="application/json")
        assert [event["outcome"] for event in back.json()["result"]["events"]] == ["complete"]
        for accept in ("*/*", "text/event-stream", "application/json, text/event-stream", "text/html", ""):
            answer = await peer.request(call("trouble.count", [2]), headers={"Accept": accept})
            assert answer.headers["content-type"] == "text/event-stream", accept


async def test_resume_answers_like_the_method_on_every_transport(peer: Any, call: Call) -> None:
    first = await peer.stream_messages(call("trouble.count", [3]))
    subscription = first[0]["result"]
    for after in range(4):
        again = await peer.stream_messages(call("rpc.resume", {"subscription": subscription, "after": after}))
        assert again == [first[0], *first[1 + after :]]
    beyond = await peer.stream_messages(call("rpc.resume", {"subscription": subscription, "after": 5}))
    assert beyond[0]["error"]["data"] == {"kind": "invalid_params", "path": "$.after", "method": "rpc.resume"}
    listed = (await peer.ask(call("rpc.subscriptions", {"limit": 1})))["result"][0]
    assert (listed["subscription"], listed["last_seq"], listed["state"]) == (subscription, 4, "done")
    stopped = (await peer.ask(call("rpc.cancel", {"subscription": subscription})))["result"]
    assert stopped == {"subscription": subscription, "outcome": "complete", "last_seq": 4}


@pytest.mark.parametrize("peer", ["websocket", "stdio"], indirect=True)
async def test_cancel_answers_when_the_run_has_stopped(peer: Any, call: Call) -> None:
    await peer.send(call("trouble.count_gated", ["never", 3], id="run"))
    subscription = (await peer.receive())["result"]
    assert (await peer.receive())["params"]["seq"] == 1
    await peer.send(call("rpc.cancel", {"subscription": subscription}, id="cancel"))
    messages = [await peer.receive(), await peer.receive()]
    answer = next(one for one in messages if one.get("id") == "cancel")
    assert answer["result"] == {"subscription": subscription, "outcome": "cancelled", "last_seq": 2}
    done = next(one for one in messages if "params" in one)["params"]
    assert (done["seq"], done["result"]["outcome"]) == (2, "cancelled")


@pytest.mark.deadline(60)
async def test_a_stream_goes_on_after_a_restart_of_the_server(tmp_path: Path) -> None:
    settings = {"plugins": {"dir": str(PLUGINS)}}
    async with server_process(tmp_path, settings=settings) as server, HttpClient(server.http_url) as client:
        async with client.stream("trouble.count", to=3) as events:
            ended = [event async for event in events]
        async with client.stream("trouble.count_gated", gate="never", to=3) as events:
            cut = [await events.next()]
            await server.kill()
    async with server_process(tmp_path, settings=settings) as server, HttpClient(server.http_url) as client:
        async with client.resume(ended[0].subscription, after=1) as events:
            assert [event async for event in events] == ended[1:]
        async with client.resume(cut[0].subscription, after=0) as events:
            again = [event async for event in events]
        assert again[:1] == cut
        assert [(one.seq, one.event["error"]["data"]["kind"]) for one in again[1:]] == [(2, "server_restarted")]
        port = int(server.http_url.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nLast-Event-ID: %b/2\r\n\r\n"
                % ended[0].subscription.encode()
            )
            answer = b"".join([piece async for piece in stream])
        assert [id_.rpartition("/")[2] for id_, _ in events_of(answer)] == ["3", "4"]
