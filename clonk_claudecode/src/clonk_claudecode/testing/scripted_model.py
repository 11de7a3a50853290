"""The scripted model: a loopback server that speaks the Anthropic Messages API and says what a script tells it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, TextIO

import trio

from clonk_claudecode.testing.conversation import RecordedRequest, classify, count_input_tokens
from clonk_claudecode.testing.http1 import ConnectionCut, HttpRequest, Responder, serve_connection
from clonk_claudecode.testing.script import (
    Answer,
    Attempts,
    Chooser,
    Cut,
    Fail,
    Hang,
    Reply,
    Rule,
    Script,
    Sleep,
    Slow,
    Step,
    Wait,
    as_script,
)
from clonk_claudecode.testing.selection import Selection
from clonk_claudecode.testing.sse import Item, render_events, render_message

# One write carries this much of a reply; single events would make the model slower than its readers.
_BATCH_BYTES = 64 * 1024

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class ScriptedModel:
    """A running model: its address, what it was asked, and the gates of its replies.

    Every request is kept as long as the model runs, about 100 KiB each with the real client.
    """

    def __init__(self, script: Script, *, required_token: str | None = None, log: TextIO | None = None) -> None:
        self.base_url = ""
        self.requests: list[RecordedRequest] = []
        self._selection = Selection(script)
        self._required_token = required_token
        self._log = log
        self._changed = trio.Condition()
        self._gates: dict[str, trio.Event] = {}
        self._reached: dict[str, trio.Event] = {}

    @property
    def turns(self) -> list[RecordedRequest]:
        """The requests of conversations alone, without the client's own small ones."""
        return [request for request in self.requests if request.kind == "turn"]

    def add(self, *steps: Step | Attempts | Rule) -> None:
        """Add answers or rules while the model runs."""
        self._selection.add(*steps)

    async def wait_request(self, number: int = 1) -> RecordedRequest:
        """Wait for the conversations' `number`-th request, counted from 1, and return it."""
        async with self._changed:
            while len(self.turns) < number:
                await self._changed.wait()
        return self.turns[number - 1]

    async def wait_reached(self, gate: str) -> None:
        """Wait until a reply stands at the named gate."""
        await self._reached.setdefault(gate, trio.Event()).wait()

    def release(self, gate: str) -> None:
        """Open the named gate, for the reply that waits there and for all later ones."""
        self._gates.setdefault(gate, trio.Event()).set()

    async def answer(self, http: HttpRequest, responder: Responder) -> None:
        """Record one HTTP request and answer it."""
        body = _parse(http.body)
        request = RecordedRequest(
            number=len(self.requests) + 1,
            kind=classify(http.method, http.path, body),
            method=http.method,
            path=http.path,
            headers=http.headers,
            body=body,
        )
        await self._record(request)
        if request.kind == "other":
            await self._answer_other(request, responder)
        elif self._required_token is not None and request.token != self._required_token:
            await _send_fail(Fail(401, message="invalid x-api-key"), responder)
        elif request.kind == "count_tokens":
            await responder.send_json(200, {"input_tokens": count_input_tokens(body)})
        else:
            await self._answer_message(request, responder)

    async def _record(self, request: RecordedRequest) -> None:
        self.requests.append(request)
        if self._log is not None:
            self._log.write(json.dumps(request.as_json()) + "\n")
            self._log.flush()
        async with self._changed:
            self._changed.notify_all()

    async def _answer_other(self, request: RecordedRequest, responder: Responder) -> None:
        """Answer probes, and the questions of a test that runs in another process."""
        route = request.path.partition("?")[0]
        match request.method, route.strip("/").split("/"):
            case "GET" | "HEAD", [""] | ["api", "hello"]:
                await responder.send_json(200, {"message": "scripted model"})
            case "GET", ["_scripted", "requests"]:
                shown = [known.as_json() for known in self.requests if known is not request]
                await responder.send_json(200, shown)
            case "GET", ["_scripted", "reached", gate]:
                await self.wait_reached(gate)
                await responder.send_json(200, {"reached": gate})
            case "POST", ["_scripted", "release", gate]:
                self.release(gate)
                await responder.send_json(200, {"released": gate})
            case _:
                await _send_fail(Fail(404, message=f"no such endpoint: {request.method} {route}"), responder)

    async def _answer_message(self, request: RecordedRequest, responder: Responder) -> None:
        turn = self._selection.choose(request)
        match turn:
            case Fail():
                await _send_fail(turn, responder)
            case Reply():
                await self._send_reply(request, turn, responder)
            case Slow(reply=reply, first_s=first_s, each_s=each_s):
                await trio.sleep(first_s)
                await self._send_reply(request, reply, responder, each_s=each_s)
            case Hang(after=after, reply=reply):
                if after:
                    await self._send_reply(request, reply, responder, only=after)
                await trio.sleep_forever()
            case Cut(after=after, reply=reply, pause_s=pause_s):
                if after:
                    await self._send_reply(request, reply, responder, only=after)
                await trio.sleep(pause_s)
                raise ConnectionCut

    async def _send_reply(
        self,
        request: RecordedRequest,
        reply: Reply,
        responder: Responder,
        *,
        each_s: float = 0.0,
        only: int | None = None,
    ) -> None:
        """Send a reply, streamed if the request wants that; `only` so many events of it."""
        model = str(request.body.get("model", "scripted"))
        input_tokens = count_input_tokens(request.body)
        headers = {"request-id": f"req_scripted_{request.number}"}
        if request.body.get("stream"):
            streamed = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            await responder.start(200, headers | streamed)
            await self._send_events(_paced(render_events(reply, model, input_tokens), each_s, only), responder)
            return
        for block in reply.blocks:
            if isinstance(block, Wait | Sleep):
                await self._pause(block)
        if only is None:
            await responder.send_json(200, render_message(reply, model, input_tokens), headers)

    async def _send_events(self, items: Iterable[Item], responder: Responder) -> None:
        """Send events in large writes, but all there are before anything is waited for."""
        batch = bytearray()
        for item in items:
            if isinstance(item, bytes):
                batch += item
            if batch and (not isinstance(item, bytes) or len(batch) >= _BATCH_BYTES):
                await responder.send(bytes(batch))
                batch.clear()
            if not isinstance(item, bytes):
                await self._pause(item)
        if batch:
            await responder.send(bytes(batch))

    async def _pause(self, item: Sleep | Wait) -> None:
        if isinstance(item, Sleep):
            await trio.sleep(item.seconds)
        elif isinstance(item.gate, trio.Event):
            await item.gate.wait()
        else:
            self._reached.setdefault(item.gate, trio.Event()).set()
            await self._gates.setdefault(item.gate, trio.Event()).wait()


def _paced(items: Iterator[Item], each_s: float, only: int | None) -> Iterator[Item]:
    """Put a pause before every event, and stop after `only` events."""
    sent = 0
    for item in items:
        if isinstance(item, bytes):
            if only is not None and sent >= only:
                return
            sent += 1
            if each_s:
                yield Sleep(each_s)
        yield item


async def _send_fail(fail: Fail, responder: Responder) -> None:
    """Answer with an error in the API's shape."""
    kind = _ERROR_TYPES.get(fail.status, "api_error")
    headers = {} if fail.retry_after is None else {"retry-after": f"{fail.retry_after:g}"}
    error = {"type": kind, "message": fail.message or f"scripted {kind}"}
    await responder.send_json(fail.status, {"type": "error", "error": error}, headers)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


@contextlib.asynccontextmanager
async def scripted_model(
    script: Script | Answer | Chooser | Iterable[Step | Attempts | Rule] = (),
    *,
    port: int = 0,
    required_token: str | None = None,
    log: TextIO | None = None,
) -> AsyncIterator[ScriptedModel]:
    """Run a scripted model on the loopback for the time of the block.

    Args:
        script: A script, one answer or function for every request, or a list of rules and queued answers.
        port: Port to listen on; 0 takes a free one.
        required_token: Requests with any other credential are answered with 401.
        log: Where to write every request, one JSON object a line. Credentials are in it.

    Raises:
        OSError: The port is taken.
    """
    model = ScriptedModel(as_script(script), required_token=required_token, log=log)
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    model.base_url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    body_error: Exception | None = None
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            await serve_connection(stream, model.answer)

        nursery.start_soon(trio.serve_listeners, serve, listeners)
        try:
            yield model
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery's exception group
            body_error = error
        nursery.cancel_scope.cancel()
    if body_error is not None:
        raise body_error


if __name__ == "__main__":
    from clonk_claudecode.testing.command import main

    main()
