"""`clonk config`: check the configuration, or show what is in effect."""

import os
import sys

from clonk_core.cli.exit_codes import OK, USAGE
from clonk_core.cli.flags import NO_SETTINGS, ConfigFile, SettingFlags
from clonk_core.cli.main import complain


def check(*, config: ConfigFile = None, settings: SettingFlags = NO_SETTINGS) -> int:
    """Check the configuration without starting anything.

    Every problem is told with its file and line, the setting, and what is allowed. Exit code 2 when there is one.

    Args:
        config: The file; without it the usual places are searched.
    """
    from clonk_core.app import draw

    loaded = draw(config, os.environ, settings.given()).loaded
    stopping = [notice for notice in loaded.notices if notice.stops != "nothing"]
    for notice in loaded.notices:
        if notice.stops == "nothing":
            print(f"note: {notice}")
    if stopping:
        complain("this configuration cannot be served:", *map(str, stopping))
        return USAGE
    print(f"{loaded.path or 'no file, all defaults'}: the configuration is right")
    return OK


def show(*, config: ConfigFile = None, settings: SettingFlags = NO_SETTINGS) -> int:
    """Print the configuration in effect, as YAML, with where each value came from. Secrets are masked.

    Args:
        config: The file; without it the usual places are searched.
    """
    from clonk_core.app import draw
    from clonk_core.config.show import show as show_all

    loaded = draw(config, os.environ, settings.given()).loaded
    sys.stdout.write(show_all(loaded))
    return OK
