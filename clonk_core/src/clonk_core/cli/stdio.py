"""`clonk stdio`: serve the program that started this one, over its pipes."""

from clonk_core.app import open_app
from clonk_core.cli.flags import NO_SETTINGS, ConfigFile, SettingFlags
from clonk_core.cli.signals import watched_signals
from clonk_core.cli.start import draw_and_tell


async def stdio(*, config: ConfigFile = None, settings: SettingFlags = NO_SETTINGS) -> int:
    """Serve the program that started this one, over standard input and output.

    One JSON-RPC message a line each way; logs go to standard error. It ends when its input ends, or on SIGTERM, and no
    port is opened.

    Args:
        config: The configuration file; without it the usual places are searched.
    """
    from clonk_core.transports.stdio import own_stdio, serve_stdio

    blueprint = draw_and_tell(config, settings)
    async with watched_signals() as stopping:
        stopping.allow(blueprint.settings)
        with stopping.start:
            async with own_stdio() as (source, sink), open_app(blueprint) as app:
                stopping.has_started = True
                log = app.logs.get("stdio")
                server, shutdown = app.settings.server, stopping.requested
                await serve_stdio(app.dispatch, server, source, sink, log=log, shutdown=shutdown, metrics=app.metrics)
    return stopping.exit_code
