"""Where files are by default: the configuration file and the data directory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONTAINER_DATA_DIR: Final = Path("/var/clonk")
"""The specification's place, where a container mounts its volume."""

SYSTEM_CONFIG: Final = Path("/etc/clonk/config.yaml")


def home(environ: Mapping[str, str]) -> Path:
    """Return the user's home folder."""
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def default_data_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return `/var/clonk` in a container when it can be used, else clonk's folder of the user's data (XDG)."""
    environ = os.environ if environ is None else environ
    if in_container(environ) and _usable(CONTAINER_DATA_DIR):
        return CONTAINER_DATA_DIR
    xdg = environ.get("XDG_DATA_HOME", "")
    # The XDG specification: relative paths are invalid and must be ignored.
    base = Path(xdg) if Path(xdg).is_absolute() else home(environ) / ".local" / "share"
    return base / "clonk"


def in_container(environ: Mapping[str, str]) -> bool:
    """Tell whether this is a container: Docker's and Podman's marks, or systemd's `container` variable."""
    return bool(environ.get("container")) or Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def find_config(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the configuration file to use when none is named, None when there is none.

    `$CLONK_CONFIG` is taken as it is, whether it exists or not: naming a file that is missing is a mistake to report.
    """
    if environ.get("CLONK_CONFIG"):
        return cwd / environ["CLONK_CONFIG"]
    xdg = environ.get("XDG_CONFIG_HOME", "")
    base = Path(xdg) if Path(xdg).is_absolute() else home(environ) / ".config"
    candidates = (cwd / "clonk.yaml", base / "clonk" / "clonk.yaml", SYSTEM_CONFIG)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _usable(folder: Path) -> bool:
    existing = folder if folder.exists() else folder.parent
    return os.access(existing, os.W_OK | os.X_OK)
