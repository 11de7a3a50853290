"""Flags that several commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import attrs
from cyclopts import Parameter

DEFAULT_URL = "http://127.0.0.1:4445"

ConfigFile: TypeAlias = Annotated[Path | None, Parameter(name="--config", negative=())]
Url: TypeAlias = Annotated[str, Parameter(name="--url", env_var="CLONK_URL")]
Local: TypeAlias = Annotated[bool, Parameter(name="--local", negative=(), show_default=False)]
DataDir: TypeAlias = Annotated[str | None, Parameter(name="--data-dir", negative=())]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class SettingFlags:
    """Settings given on the command line; the configuration checks them.

    Attributes:
        host: Address to listen on; one beyond the loopback only with authentication.
        http_port: Port of HTTP and SSE; 0 takes any free one.
        websocket_port: Port of WebSocket; 0 takes any free one.
        data_dir: Folder of the databases and workspaces.
        log_level: debug, info, warning or error.
        log_format: auto, pretty or json.
    """

    host: str | None = None
    http_port: str | None = None
    websocket_port: str | None = None
    data_dir: str | None = None
    log_level: str | None = None
    log_format: str | None = None

    def given(self) -> dict[str, str]:
        """Return what was given, by path in the configuration."""
        by_path = {
            "server.host": self.host,
            "server.http_port": self.http_port,
            "server.websocket_port": self.websocket_port,
            "storage.data_dir": self.data_dir,
            "logging.level": self.log_level,
            "logging.format": self.log_format,
        }
        return {path: value for path, value in by_path.items() if value is not None}


NO_SETTINGS = SettingFlags()
