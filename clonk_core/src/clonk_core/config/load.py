"""Load the configuration: defaults, then the file, then the environment, then flags; all problems at once."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from clonk_core.config.decode import FAILED, Decoder
from clonk_core.config.environment import overlay_environment, overlay_flags
from clonk_core.config.nodes import DEFAULT, ConfigProblems, Node, Origin, Problem, Scalar, Table, overlay
from clonk_core.config.notices import Notice, notices
from clonk_core.config.places import default_data_dir, find_config, home
from clonk_core.config.settings import PluginsSettings, Settings
from clonk_core.config.types import keys
from clonk_core.config.yaml_file import read_file


@attrs.frozen(kw_only=True)
class Loaded:
    """A configuration that was read and checked.

    Attributes:
        settings: The core's part.
        sections: Each package's section by name, an instance of its class.
        origins: Where each value came from, by path (`server.http_port`); what is missing is the default.
        notices: What to tell the operator, what stops the start first.
        path: The file, None when there was none.
    """

    settings: Settings
    sections: Mapping[str, Any] = attrs.field(factory=dict)
    origins: Mapping[str, Origin] = attrs.field(factory=dict)
    notices: tuple[Notice, ...] = ()
    path: Path | None = None

    def require_startable(self, *, listening: bool) -> None:
        """Refuse a start that would ignore what the configuration asks for.

        Args:
            listening: Whether ports are to be opened.

        Raises:
            ConfigProblems: There are such settings, each with its place.
        """
        reasons = {"everything", "listening"} if listening else {"everything"}
        stopping = [notice for notice in self.notices if notice.stops in reasons]
        if stopping:
            raise ConfigProblems(Problem(origin=n.origin, path=n.path, message=n.message) for n in stopping)


def load(
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    sections: Mapping[str, type[Any]],
    unchecked: Collection[str] = (),
    *,
    cwd: Path | None = None,
) -> Loaded:
    """Read and check the configuration.

    Args:
        path: The file that was named; None searches `$CLONK_CONFIG`, `./clonk.yaml`,
            `$XDG_CONFIG_HOME/clonk/clonk.yaml`, `/etc/clonk/config.yaml`, and goes without when there is none.
        environ: The environment.
        flags: Value by path, as text: `{"server.http_port": "0"}`.
        sections: Class of each package's section.
        unchecked: Sections of plugins that are disabled or could not be loaded: passed over unread.
        cwd: Folder that relative paths on the command line are relative to; the process's when None.

    Raises:
        ConfigProblems: Anything is wrong; it names every problem.
    """
    source = _Source(path=path, environ=environ, flags=flags, cwd=cwd or Path.cwd())
    top = {**keys(Settings), **sections}
    tree, problems = source.tree(top, frozenset(unchecked))
    decoder = source.decoder(problems)
    core = decoder.section(Settings, tree, "", also=[*sections, *unchecked])
    given = tree.entries if isinstance(tree, Table) else {}
    nothing = Table(entries={}, origin=DEFAULT)
    others = {name: decoder.section(cls, given.get(name, nothing), name) for name, cls in sections.items()}
    if decoder.problems or core is FAILED:
        raise ConfigProblems(decoder.problems)
    origins = {at: origin for at, origin in decoder.origins.items() if origin != DEFAULT}
    told = notices(core, origins, others)
    return Loaded(settings=core, sections=others, origins=origins, notices=told, path=source.file())


def load_core(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Read and check the core's part alone, for commands that need no plugin. Sections of packages are passed over.

    Raises:
        ConfigProblems: It is wrong.
    """
    source = _Source(path=path, environ=environ, flags=flags, cwd=Path.cwd())
    file = source.file()
    given = read_file(file) if file else None
    others = set(given.entries) - set(keys(Settings)) if isinstance(given, Table) else set()
    return load(path, environ, flags, {}, sorted(others)).settings


def load_plugins_section(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, str], cwd: Path | None = None
) -> PluginsSettings:
    """Read the section `plugins` alone: which plugins to load must be known before their sections can be checked.

    Raises:
        ConfigProblems: The file cannot be read, or this section is wrong. Others are not looked at.
    """
    source = _Source(path=path, environ=environ, flags=flags, cwd=cwd or Path.cwd())
    tree, _ = source.tree({"plugins": PluginsSettings}, frozenset())
    decoder = source.decoder([])
    given = tree.entries.get("plugins") if isinstance(tree, Table) else None
    section = decoder.section(PluginsSettings, given or Table(entries={}, origin=DEFAULT), "plugins")
    if decoder.problems:
        raise ConfigProblems(decoder.problems)
    assert isinstance(section, PluginsSettings)  # noqa: S101 - for the type checker: FAILED comes with a problem
    return section


@attrs.frozen(kw_only=True)
class _Source:
    """Where the configuration is read from."""

    path: Path | None
    environ: Mapping[str, str]
    flags: Mapping[str, str]
    cwd: Path

    def file(self) -> Path | None:
        """Return the file, as short as it can be told from here."""
        found = find_config(self.environ, self.cwd) if self.path is None else self.cwd / self.path
        if found is not None and found.is_relative_to(self.cwd) and self.cwd == Path.cwd():
            return found.relative_to(self.cwd)
        return found

    def tree(self, top: Mapping[str, Any], unchecked: frozenset[str]) -> tuple[Node, list[Problem]]:
        """Return all layers, one over the other, and what in them sets nothing."""
        file = self.file()
        problems: list[Problem] = []
        tree: Node = read_file(file) if file else Table(entries={}, origin=DEFAULT)
        tree = overlay_environment(tree, top, self.environ, unchecked, problems)
        tree = overlay_flags(tree, top, self.flags)
        if isinstance(tree, Table) and "storage" in top:
            tree = self._with_data_dir(tree)
        return tree, problems

    def decoder(self, problems: list[Problem]) -> Decoder:
        """Return what decodes this source's values."""
        file = self.file()
        base = (self.cwd / file).parent if file else self.cwd
        return Decoder(file_base=base, cwd=self.cwd, home=home(self.environ), problems=problems)

    def _with_data_dir(self, tree: Table) -> Node:
        """Return `tree` with the data directory that follows from this environment, where none is given."""
        storage = tree.entries.get("storage")
        if isinstance(storage, Table) and "data_dir" in storage.entries:
            return tree
        text = str(default_data_dir(self.environ))
        return overlay(tree, ("storage", "data_dir"), Scalar(text=text, tag="str", origin=DEFAULT))
