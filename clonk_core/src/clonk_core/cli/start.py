"""What `clonk serve` and `clonk stdio` begin with."""

import os
from typing import TYPE_CHECKING

from clonk_core.cli.flags import ConfigFile, SettingFlags
from clonk_core.cli.main import complain

if TYPE_CHECKING:
    from clonk_core.app import Blueprint


def draw_and_tell(config: ConfigFile, settings: SettingFlags) -> "Blueprint":
    """Read the configuration, import the plugins, and tell on standard error what the configuration does not get.

    Done before signals are watched, so that a plugin that hangs while it is imported can be stopped by one.

    Raises:
        ConfigError: The configuration is wrong.
    """
    # The host takes most of a second to import; help must not wait for it.
    from clonk_core.app import draw

    blueprint = draw(config, os.environ, settings.given())
    for notice in blueprint.loaded.notices:
        if notice.stops == "nothing":
            complain(f"note: {notice}")
    return blueprint
