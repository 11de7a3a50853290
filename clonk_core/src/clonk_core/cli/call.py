"""`clonk call`: one call to any method, its arguments read by its schema."""

import sys
from typing import Any

from clonk_core.cli.arguments import parse
from clonk_core.cli.exit_codes import FAILED, OK
from clonk_core.cli.flags import DEFAULT_URL, ConfigFile, Json, Local, Url
from clonk_core.cli.main import complain
from clonk_core.cli.output import EventPrinter, print_json
from clonk_core.cli.reach import Callee, reach
from clonk_core.errors import CallError, MethodNotFound, NotFound
from clonk_core.wire.error_codes import error_object


async def call(
    method: str,
    /,
    *arguments: str,
    json: Json = False,
    url: Url = DEFAULT_URL,
    local: Local = False,
    config: ConfigFile = None,
) -> int:
    """Call a method of the running server and print its answer; the events of a stream as they come.

    For example: clonk call claudecode.create name=first model=opus

    Exit codes: 0 it answered, 1 it answered an error, 2 the command line is wrong, 3 no server, 130 Ctrl-C.

    Args:
        method: Its name; `clonk methods` lists all.
        arguments: name=value for each. What the method takes as text is taken as it is, anything else as JSON;
            name:=value is always JSON.
        json: Print compact JSON, one line for an answer, one for each event of a stream.
        url: Where the server is.
        local: Open a host in this process, on the data directory, instead of calling a server.
        config: Configuration file for --local.
    """
    async with reach(url, local=local, config=config) as callee:
        try:
            schema = await _schema(callee, method)
            params = parse(arguments, schema["params"])
            if schema["streaming"]:
                return await _follow(callee, method, params, json=json, durable=schema["durable"])
            print_json(await callee.call(method, **params), compact=json)
        except CallError as error:
            return _failed(error, json=json)
    return OK


async def _schema(callee: Callee, method: str) -> dict[str, Any]:
    """Return the method's schema.

    Raises:
        MethodNotFound: There is none of that name.
    """
    try:
        page = await callee.call("hub.schema", method=method)
    except NotFound:
        page = {"methods": []}
    found = next((one for one in page["methods"] if one["name"] == method), None)
    if found is None:
        # The server knows the names that look like it.
        await callee.call(method)
        raise MethodNotFound(method)
    schema: dict[str, Any] = found
    return schema


async def _follow(callee: Callee, method: str, params: dict[str, Any], *, json: bool, durable: bool) -> int:
    """Print a stream to its end and return the exit code that its outcome deserves."""
    last_seq, event = 0, None
    async with callee.stream(method, **params) as stream:
        printer = EventPrinter(stream.subscription, json=json)
        try:
            async for seq, event in stream:
                printer.print(seq, event)
                last_seq = seq
        except BaseException:
            if not json:
                printer.end_text()
            if durable:
                _say_how_to_resume(stream.subscription, last_seq)
            raise
    done = event if isinstance(event, dict) else {}
    if done.get("outcome", "complete") == "complete":
        return OK
    error = done.get("error")
    if isinstance(error, dict):
        complain(f"{error['message']} ({(error.get('data') or {}).get('kind', error['code'])})")
    else:
        complain(f"{method} ended: {done['outcome']}")
    return FAILED


def _say_how_to_resume(subscription: str, last_seq: int) -> None:
    print(
        f"the rest: clonk call rpc.resume subscription={subscription} after={last_seq}; "
        f"to stop it: clonk call rpc.cancel subscription={subscription}",
        file=sys.stderr,
    )


def _failed(error: CallError, *, json: bool) -> int:
    told = error_object(error)
    if json:
        print_json({"error": {"code": told.code, "message": told.message, "data": told.data}}, compact=True)
    complain(f"{told.message} ({told.data.get('kind', error.kind)})")
    return FAILED
