"""Streams over HTTP: server-sent events, coming back to them, and one JSON answer for those who want that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
import trio

from clonk_core.errors import StorageFull
from clonk_core.wire.sse import Decoder, ServerSentEvent

JSON = {"Content-Type": "application/json"}
STREAM = {**JSON, "Accept": "text/event-stream"}


@pytest.fixture
async def client(served: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.http_url, timeout=20) as found:
        yield found


def stream_call(**params: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": "test.stream", "params": params, "id": 9})


@asynccontextmanager
async def pieces_of(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body's pieces; left early, the generators within httpx are ended where they wait."""
    pieces = response.aiter_raw()
    try:
        yield pieces
    finally:
        with trio.CancelScope() as scope:
            scope.cancel()
            async for _ in pieces:
                pass


async def read_events(response: httpx.Response, count: int | None = None) -> list[ServerSentEvent]:
    decoder, events = Decoder(), list[ServerSentEvent]()
    async with pieces_of(response) as pieces:
        async for piece in pieces:
            events += decoder.feed(piece)
            if count is not None and len(events) >= count:
                break
    return events


def messages(events: list[ServerSentEvent]) -> list[Any]:
    return [orjson.loads(event.data) for event in events]


async def test_a_stream_is_its_subscription_and_then_its_events(client: httpx.AsyncClient, served: Any) -> None:
    async with client.stream("POST", "/mcp", headers=STREAM, content=stream_call(events=3)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        body = b"".join([piece async for piece in response.aiter_raw()])
    run = await served.door.wait_run()
    assert body.startswith(b"retry: ")
    events = list(Decoder().feed(body))
    found = messages(events)
    assert found[0] == {"jsonrpc": "2.0", "id": 9, "result": run.id}
    assert [message["params"]["seq"] for message in found[1:]] == [1, 2, 3, 4]
    assert found[1]["method"] == "subscription"
    assert found[1]["params"]["subscription"] == run.id
    assert found[-1]["params"]["result"] == {"type": "done", "outcome": "complete"}
    assert [event.id for event in events] == ["", *(f"{run.id}/{seq}" for seq in range(1, 5))]


async def test_events_come_when_they_happen(client: httpx.AsyncClient, served: Any) -> None:
    async with client.stream("POST", "/mcp", headers=STREAM, content=stream_call(end=False)) as response:
        run = await served.door.wait_run()
        decoder = Decoder()
        seen: list[ServerSentEvent] = []
        async with pieces_of(response) as pieces:
            for number in range(1, 4):
                run.add({"value": number})
                while len(seen) < number + 1:
                    seen += decoder.feed(await anext(pieces))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("application/json, text/plain, */*", "text/event-stream"),
        ("image/png", "text/event-stream"),
        ("text/event-stream;q=nonsense, application/json;q=0.5", "text/event-stream"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("application/json, text/event-stream;q=0", "application/json"),
        ("application/json;q=0.9, */*;q=0.1", "application/json"),
    ],
)
async def test_the_accept_header_decides_how_a_stream_is_answered(
    client: httpx.AsyncClient, accept: str | None, kind: str
) -> None:
    del client.headers["accept"]
    headers = {**JSON, "Accept": accept} if accept else JSON
    answer = await client.post("/mcp", headers=headers, content=stream_call(events=1))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind


async def test_one_json_answer_holds_all_events(client: httpx.AsyncClient, served: Any) -> None:
    headers = {**JSON, "Accept": "application/json"}
    answer = (await client.post("/mcp", headers=headers, content=stream_call(events=2))).json()
    run = await served.door.wait_run()
    assert answer["id"] == 9
    assert answer["result"]["subscription"] == run.id
    assert [event["type"] for event in answer["result"]["events"]] == ["number", "number", "done"]


async def test_events_too_many_for_one_json_answer_are_refused_with_the_way_out(
    client: httpx.AsyncClient, served: Any
) -> None:
    headers = {**JSON, "Accept": "application/json"}
    answer = await client.post("/mcp", headers=headers, content=stream_call(events=65, size=2**20))
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert error["data"]["kind"] == "too_large"
    assert error["data"]["subscription"] == (await served.door.wait_run()).id


async def test_a_streaming_notification_starts_its_run_and_gets_no_answer(
    client: httpx.AsyncClient, served: Any
) -> None:
    content = b'{"jsonrpc":"2.0","method":"test.stream","params":{"end":false,"durable":false}}'
    answer = await client.post("/mcp", headers=JSON, content=content)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await served.door.wait_run()).stopped == "reader_gone"


async def test_a_quiet_stream_is_kept_alive(serving: Any) -> None:
    async with serving(keep_alive_s=0.02) as served, httpx.AsyncClient(base_url=served.http_url) as client:
        async with client.stream("POST", "/mcp", headers=STREAM, content=stream_call(end=False)) as response:
            body = b""
            async with pieces_of(response) as pieces:
                while body.count(b"\n:\n\n") < 2:
                    body += await anext(pieces)


# ── the client's end ─────────────────────────────────────────────────────────


async def test_a_run_that_is_not_durable_ends_with_its_reader(client: httpx.AsyncClient, served: Any) -> None:
    content = stream_call(events=1, end=False, durable=False)
    async with client.stream("POST", "/mcp", headers=STREAM, content=content) as response:
        await read_events(response, 2)
    run = await served.door.wait_run()
    await run.wait_changed(lambda: run.stopped == "reader_gone")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_durable_run_goes_on_without_its_reader(served: Any, accept: str) -> None:
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            async with httpx.AsyncClient(base_url=served.http_url) as client:
                await client.post("/mcp", headers={**JSON, "Accept": accept}, content=stream_call(events=1, end=False))

        nursery.start_soon(read)
        run = await served.door.wait_run()
        await run.wait_changed(lambda: run.followers == 1)
        nursery.cancel_scope.cancel()
    await run.wait_changed(lambda: run.followers == 0)
    assert run.state == "running"


async def test_a_log_that_cannot_be_read_is_told_and_ends_the_stream(client: httpx.AsyncClient, served: Any) -> None:
    async with client.stream("POST", "/mcp", headers=STREAM, content=stream_call(events=1, end=False)) as response:
        run = await served.door.wait_run()
        run.break_log(StorageFull("the disk is full"))
        last = messages(await read_events(response))[-1]
    assert last["params"]["subscription"] == run.id
    assert last["params"]["error"]["data"]["kind"] == "storage_full"
    assert "seq" not in last["params"]


async def test_a_fault_of_the_log_is_an_incident(client: httpx.AsyncClient, served: Any) -> None:
    async with client.stream("POST", "/mcp", headers=STREAM, content=stream_call(events=1, end=False)) as response:
        run = await served.door.wait_run()
        run.break_log(ZeroDivisionError("secret"))
        last = messages(await read_events(response))[-1]
    assert last["params"]["error"]["data"]["kind"] == "internal"
    assert served.log.told("exception") == ["transport failed"]


# ── coming back ──────────────────────────────────────────────────────────────


async def test_a_reader_cut_at_every_event_comes_back_without_loss_or_repetition(
    client: httpx.AsyncClient, served: Any
) -> None:
    run = served.door.new_run()
    run.add(*range(30))
    run.finish()
    last_id, seen = f"{run.id}/0", []
    while True:
        async with client.stream("GET", "/mcp", headers={"Last-Event-ID": last_id}) as response:
            if response.status_code == 204:
                break
            event = (await read_events(response, 1))[0]
            seen.append(orjson.loads(event.data)["params"]["seq"])
            last_id = event.id
    assert seen == list(range(1, 32))


async def test_coming_back_gives_only_events(client: httpx.AsyncClient, served: Any) -> None:
    run = served.door.new_run()
    run.add("a", "b")
    run.finish()
    answer = await client.get("/mcp", headers={"Last-Event-ID": f"{run.id}/1"})
    found = messages(list(Decoder().feed(answer.content)))
    assert [message["params"]["seq"] for message in found] == [2, 3]


async def test_coming_back_after_the_end_says_that_it_is_over(client: httpx.AsyncClient, served: Any) -> None:
    run = served.door.new_run()
    run.finish()
    assert (await client.get("/mcp", headers={"Last-Event-ID": f"{run.id}/1"})).status_code == 204


@pytest.mark.parametrize("last_event_id", [None, "", "nonsense", "sub_x", "sub_x/", "/3", "sub_x/-1", "sub_x/1.5"])
async def test_a_malformed_last_event_id_is_refused(client: httpx.AsyncClient, last_event_id: str | None) -> None:
    headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
    answer = await client.get("/mcp", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["data"]["kind"] == "invalid_params"


async def test_an_unknown_run_and_a_number_beyond_its_end_are_refused(client: httpx.AsyncClient, served: Any) -> None:
    answer = await client.get("/mcp", headers={"Last-Event-ID": "sub_unknown/3"})
    assert answer.json()["error"]["data"]["kind"] == "not_found"
    run = served.door.new_run()
    run.add("a")
    answer = await client.get("/mcp", headers={"Last-Event-ID": f"{run.id}/7"})
    assert answer.status_code == 400
    assert answer.json()["error"]["data"]["kind"] == "invalid_params"


async def test_rpc_resume_answers_like_the_method_itself(client: httpx.AsyncClient, served: Any) -> None:
    run = served.door.new_run()
    run.add("a", "b")
    run.finish()
    params = {"subscription": run.id, "after": 1}
    content = orjson.dumps({"jsonrpc": "2.0", "method": "rpc.resume", "params": params, "id": "r"})
    answer = await client.post("/mcp", headers=STREAM, content=content)
    found = messages(list(Decoder().feed(answer.content)))
    assert found[0] == {"jsonrpc": "2.0", "id": "r", "result": run.id}
    assert [message["params"]["seq"] for message in found[1:]] == [2, 3]
    content = orjson.dumps({"jsonrpc": "2.0", "method": "rpc.resume", "params": {**params, "after": 9}, "id": "r"})
    answer = await client.post("/mcp", headers=STREAM, content=content)
    assert answer.json()["error"]["data"]["kind"] == "invalid_params"


# ── many readers ─────────────────────────────────────────────────────────────


async def test_a_stalled_reader_harms_no_other(serving: Any) -> None:
    """One reader takes nothing of a long run; twenty others read all of it meanwhile."""
    async with serving() as served:
        run = served.door.new_run()
        run.add(*({"filler": "x" * 1000} for _ in range(5_000)))
        run.finish()
        request = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: %b/0\r\n\r\n" % run.id.encode()
        stalled = await trio.open_tcp_stream("127.0.0.1", served.http_port)
        async with stalled:
            await stalled.send_all(request)
            await run.wait_changed(lambda: run.followers == 1)
            counts: list[int] = []

            async def read() -> None:
                async with httpx.AsyncClient(base_url=served.http_url, timeout=30) as client:
                    answer = await client.get("/mcp", headers={"Last-Event-ID": f"{run.id}/0"})
                    counts.append(answer.content.count(b"\ndata: "))

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(read)
            assert counts == [5_001] * 20
            assert run.followers == 1


async def test_a_reader_that_stalls_for_too_long_is_dropped(serving: Any) -> None:
    async with serving(send_timeout_s=0.1) as served:
        run = served.door.new_run()
        run.add(*({"filler": "x" * 1000} for _ in range(20_000)))
        stalled = await trio.open_tcp_stream("127.0.0.1", served.http_port)
        async with stalled:
            await stalled.send_all(
                b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: %b/0\r\n\r\n" % run.id.encode()
            )
            await run.wait_changed(lambda: run.followers == 1)
            await run.wait_changed(lambda: run.followers == 0)
        assert served.log.told("warning") == ["http reader dropped"]
        assert run.state == "running"
