"""`clonk plugins`: what is installed, and how it fares."""

from typing import Any

from clonk_core.cli.exit_codes import FAILED, OK
from clonk_core.cli.flags import DEFAULT_URL, ConfigFile, Json, Local, Url
from clonk_core.cli.output import print_columns, print_json
from clonk_core.cli.reach import reach


async def plugins(
    *, json: Json = False, url: Url = DEFAULT_URL, local: Local = False, config: ConfigFile = None
) -> int:
    """List the installed plugins: name, version, state, namespaces, and why one does not work.

    Exit code 1 when one does not work.

    Args:
        json: Print JSON, one plugin a line.
        url: Where the server is.
        local: Open a host in this process, on the data directory, instead of asking a server.
        config: Configuration file for --local.
    """
    async with reach(url, local=local, config=config) as callee:
        found: list[dict[str, Any]] = await callee.call("hub.plugins")
    if json:
        for plugin in found:
            print_json(plugin, compact=True)
    else:
        print_columns([_row(plugin) for plugin in found])
    return FAILED if any(plugin["state"] == "failed" for plugin in found) else OK


def _row(plugin: dict[str, Any]) -> tuple[str, str, str, str]:
    ailing = [f"{name} is {state}" for name, state in plugin["services"].items() if state != "running"]
    what = ", ".join(plugin["namespaces"])
    notes = "; ".join([*([plugin["error"]] if plugin["error"] else []), *ailing])
    return plugin["name"], plugin["version"] or "", plugin["state"], " - ".join(part for part in (what, notes) if part)
