"""`clonk methods`: what can be called."""

from clonk_core.cli.exit_codes import OK
from clonk_core.cli.flags import DEFAULT_URL, ConfigFile, Json, Local, Url
from clonk_core.cli.output import print_columns, print_json
from clonk_core.cli.reach import reach


async def methods(
    namespace: str | None = None,
    /,
    *,
    json: Json = False,
    url: Url = DEFAULT_URL,
    local: Local = False,
    config: ConfigFile = None,
) -> int:
    """List the methods that can be called: name, whether it streams, what it does.

    Args:
        namespace: Only those of one namespace, such as `claudecode`.
        json: Print the full schemas as JSON, one method a line.
        url: Where the server is.
        local: Open a host in this process, on the data directory, instead of asking a server.
        config: Configuration file for --local.
    """
    async with reach(url, local=local, config=config) as callee:
        page = await callee.call("hub.schema", method=namespace)
    if json:
        for method in page["methods"]:
            print_json(method, compact=True)
    else:
        print_columns([(one["name"], "streams" if one["streaming"] else "", one["summary"]) for one in page["methods"]])
    return OK
