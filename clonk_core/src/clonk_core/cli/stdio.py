"""`clonk stdio`: serve the program that started this one, over its pipes."""

import os

from clonk_core.app import draw, open_app
from clonk_core.cli.flags import NO_SETTINGS, ConfigFile, SettingFlags
from clonk_core.cli.main import complain
from clonk_core.cli.signals import watched_signals


async def stdio(*, config: ConfigFile = None, settings: SettingFlags = NO_SETTINGS) -> int:
    """Serve the program that started this one, over standard input and output.

    One JSON-RPC message a line each way; logs go to standard error. It ends when its input ends, or on SIGTERM, and no
    port is opened.

    Args:
        config: The configuration file; without it the usual places are searched.
    """
    from clonk_core.transports.stdio import own_stdio, serve_stdio

    blueprint = draw(config, os.environ, settings.given())
    for notice in blueprint.loaded.notices:
        if notice.stops == "nothing":
            complain(f"note: {notice}")
    async with watched_signals() as stopping:
        stopping.allow(blueprint.settings)
        with stopping.start:
            async with own_stdio() as (source, sink), open_app(blueprint) as app:
                stopping.has_started = True
                log = app.logs.get("stdio")
                await serve_stdio(app.dispatch, app.settings.server, source, sink, log=log, shutdown=stopping.requested)
    return stopping.exit_code
