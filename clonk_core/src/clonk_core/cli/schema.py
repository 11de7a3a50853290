"""`clonk schema`: schemas as JSON."""

from typing import Annotated

from cyclopts import Parameter

from clonk_core.cli.exit_codes import OK, UsageError
from clonk_core.cli.flags import DEFAULT_URL, ConfigFile, Json, Local, Url
from clonk_core.cli.output import print_json
from clonk_core.cli.reach import reach


async def schema(
    method: str | None = None,
    /,
    *,
    openrpc: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    local: Local = False,
    config: ConfigFile = None,
) -> int:
    """Print the schema of a method, of a namespace, or of everything, as JSON.

    Args:
        method: Name of a method (`claudecode.chat`) or of a namespace (`claudecode`).
        openrpc: Print the OpenRPC document of everything instead, for generators of clients and documentation.
        json: Print it on one line.
        url: Where the server is.
        local: Open a host in this process, on the data directory, instead of asking a server.
        config: Configuration file for --local.
    """
    if openrpc and method:
        raise UsageError("--openrpc prints the document of everything; leave the method out")
    async with reach(url, local=local, config=config) as callee:
        if openrpc:
            page = await callee.call("rpc.discover")
        else:
            page = await callee.call("hub.schema", method=method)
    print_json(page, compact=json)
    return OK
