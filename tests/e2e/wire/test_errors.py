"""Every row of the table of errors, on every transport: code, kind, members, HTTP status and headers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from clonk_core.testing.server_process import ServerProcess

Call = Callable[..., bytes]

TABLE: list[tuple[str, int, int, dict[str, Any], dict[str, str]]] = [
    # kind, code, HTTP status, members of `data`, HTTP headers
    ("parse_error", -32700, 200, {}, {}),
    ("invalid_request", -32600, 200, {}, {}),
    ("method_not_found", -32601, 200, {"method": "no.such", "near": ["such.no"]}, {}),
    ("invalid_params", -32602, 200, {"path": "$.kind", "method": "trouble.fail"}, {}),
    ("unauthenticated", 401, 401, {}, {"www-authenticate": "Bearer"}),
    ("forbidden", 403, 403, {"scope": "trouble:more"}, {}),
    ("not_found", 404, 200, {}, {}),
    ("conflict", 409, 200, {"subscription": "sub_other"}, {}),
    ("too_large", 413, 413, {"limit": 5}, {}),
    ("rate_limited", 429, 429, {"retry_after_s": 1.5}, {"retry-after": "2"}),
    ("cancelled", 499, 200, {}, {}),
    ("unavailable", 503, 503, {"retry_after_s": 3}, {"retry-after": "3"}),
    ("storage_full", 503, 503, {}, {}),
    ("server_restarted", 503, 503, {}, {}),
    ("deadline_exceeded", 504, 200, {}, {}),
    ("trouble.own", 409, 200, {"colour": "red"}, {}),
]
OUTCOMES = {"cancelled": "cancelled", "deadline_exceeded": "limited", "forbidden": "refused", "rate_limited": "limited"}


@pytest.mark.deadline(30)
async def test_each_error_of_the_table_arrives_as_it_stands_there(peer: Any, call: Call) -> None:
    for kind, code, _, members, _ in TABLE:
        answer = await peer.ask(call("trouble.fail", {"kind": kind}, id=kind))
        error = answer["error"]
        assert answer["id"] == kind
        assert set(error) == {"code", "message", "data"}
        assert (error["code"], error["data"]) == (code, {"kind": kind, **members})
    error = (await peer.ask(call("trouble.dawdle")))["error"]
    assert (error["code"], error["data"]) == (504, {"kind": "deadline_exceeded", "deadline_s": 0.05})


async def test_over_http_each_has_its_status_and_headers(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        for kind, _, status, _, headers in TABLE:
            answer = await peer.request(call("trouble.fail", {"kind": kind}))
            assert answer.status == status, kind
            assert {name: answer.headers.get(name) for name in headers} == headers
            assert ("www-authenticate" in answer.headers) == (status == 401)
            assert ("retry-after" in answer.headers) == ("retry_after_s" in answer.json()["error"]["data"])
            assert answer.headers["content-type"] == "application/json"


async def test_over_http_a_batch_is_answered_with_200_whatever_is_in_it(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        items = [call("trouble.fail", {"kind": kind}, id=kind) for kind, *_ in TABLE]
        answer = await peer.request(b"[%b]" % b",".join(items))
        assert (answer.status, [one["error"]["code"] for one in answer.json()]) == (200, [row[1] for row in TABLE])


@pytest.mark.deadline(30)
async def test_a_run_that_fails_ends_with_the_error_that_a_plain_call_would_have_returned(
    peer: Any, call: Call
) -> None:
    for kind, code, _, members, _ in TABLE:
        messages = await peer.stream_messages(call("trouble.fail_later", {"kind": kind}, id=kind))
        assert messages[0]["id"] == kind
        done = messages[-1]["params"]["result"]
        assert (done["type"], done["outcome"]) == ("done", OUTCOMES.get(kind, "failed")), kind
        expected = {**members, **({"method": "trouble.fail_later"} if kind == "invalid_params" else {})}
        assert (done["error"]["code"], done["error"]["data"]) == (code, {"kind": kind, **expected})


@pytest.mark.deadline(30)
async def test_a_bug_is_told_as_an_incident_that_is_in_the_log_and_nothing_of_the_inside(
    peer: Any, call: Call, server: ServerProcess, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    errors = [(await peer.ask(call("trouble.bug")))["error"]]
    run = await peer.stream_messages(call("trouble.fail_later", {"kind": "bug"}))
    errors.append(run[-1]["params"]["result"]["error"])
    log = server.log_text
    if request.node.callspec.params["peer"] == "stdio":
        log = (tmp_path / "stdio.log").read_text()
    for error in errors:
        incident = error["data"]["incident"]
        assert (error["code"], error["data"]) == (-32603, {"kind": "internal", "incident": incident})
        text = json.dumps(error)
        assert not any(word in text for word in ("Traceback", "ZeroDivision", "/", "inside", "trouble.py"))
        records = [json.loads(line) for line in log.splitlines() if incident in line]
        assert any("ZeroDivisionError" in record.get("exception", "") for record in records)


@pytest.mark.deadline(30)
async def test_what_is_not_there_is_not_found(peer: Any, call: Call) -> None:
    for method in ("rpc.resume", "rpc.cancel"):
        for name in ("sub_01k3unknown", "", "x" * 64, "%s", "../etc", "sub_\u0000"):
            error = (await peer.ask(call(method, {"subscription": name})))["error"]
            assert (error["code"], error["data"]["kind"]) == (404, "not_found"), name
    assert (await peer.ask(call("rpc.cancel", {"subscription": "x" * 65})))["error"]["data"]["kind"] == "invalid_params"
    answer = await peer.ask(call("hub.schema", {"method": "no.such"}))
    assert answer["error"]["data"]["kind"] == "not_found"
