"""A real host on temporary storage, for tests."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
import yaml

from clonk_core.app import App, Blueprint, draw, open_app
from clonk_core.client.inside import InsideClient
from clonk_core.host.plugin_files import make_activation
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection, Dispatch
from clonk_core.observe.logs import Logs
from clonk_core.plugin import Activation, Host, hookimpl


class GivenActivations:
    """A plugin made of activations that a test brings along.

    Args:
        make: Classes or functions that make one activation each; called once per realm, with the `Host` when they take
            an argument.
    """

    def __init__(self, make: Iterable[Callable[..., Activation]]) -> None:
        self._make = tuple(make)

    @hookimpl
    def clonk_activations(self, host: Host) -> Sequence[Activation]:
        """Return new instances."""
        return [make_activation(one, host) for one in self._make]


@attrs.define(kw_only=True)
class TestHost:
    """An open host and what a test wants of it.

    Attributes:
        app: The host.
        client: Calls through the whole gateway, without a socket.
        log_text: What was logged so far, one JSON object a line.
    """

    __test__ = False

    app: App
    client: InsideClient
    _log: StringIO

    @property
    def dispatch(self) -> Dispatch:
        """The one door, for transports."""
        return self.app.dispatch

    @property
    def log_text(self) -> str:
        return self._log.getvalue()


def blueprint(
    data_dir: Path,
    *,
    activations: Iterable[Callable[..., Activation]] = (),
    plugins: Mapping[str, object] | None = None,
    packages: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Blueprint:
    """Draw a host that knows nothing of this machine's configuration.

    Args:
        data_dir: Where its data go.
        activations: Activation classes (or functions making one) to host.
        plugins: Objects or modules with hooks, by name.
        packages: Names of installed plugins to load beside the core, such as `arbor`; none else are.
        settings: What stands in `clonk.yaml`, as nested mappings. Without `auth`, nobody is asked who they are.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    document = {"version": "1", **(settings or {})}
    document["storage"] = {"data_dir": str(data_dir), **document.get("storage", {})}
    document.setdefault("auth", {"enabled": False})
    document["server"] = {"http_port": 0, "websocket_port": 0, **document.get("server", {})}
    path = data_dir.parent / f"{data_dir.name}.clonk.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    wanted = {"core", *packages}
    found = [point for point in metadata.entry_points(group="clonk") if point.name in wanted]
    missing = wanted - {point.name for point in found}
    if missing:
        raise ValueError(f"not installed: {', '.join(sorted(missing))}")
    extra = {**(plugins or {})}
    makers = tuple(activations)
    if makers:
        extra["given"] = GivenActivations(makers)
    return draw(path, {}, {}, extra_plugins=extra, entry_points=found)


@asynccontextmanager
async def open_host(
    data_dir: Path,
    *,
    activations: Iterable[Callable[..., Activation]] = (),
    plugins: Mapping[str, object] | None = None,
    packages: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> AsyncIterator[TestHost]:
    """Open a real host: real databases below `data_dir`, the whole gateway, the given plugins. See `blueprint`."""
    drawn = blueprint(data_dir, activations=activations, plugins=plugins, packages=packages, settings=settings)
    log = StringIO()
    async with open_app(drawn, logs=Logs(level="debug", format="json", stream=log)) as app:
        connection = Connection(transport="inside", peer="test", id=new_id("conn"))
        yield TestHost(app=app, client=InsideClient(app.dispatch, connection), log=log)
