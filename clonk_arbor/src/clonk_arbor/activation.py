"""`arbor`: conversation trees. Thin: `methods` says what is offered, the domain has the rules, `store` the SQL."""

from collections.abc import Callable

import trio

from clonk_arbor.bell import Bell
from clonk_arbor.branches import Branches
from clonk_arbor.context import Contexts
from clonk_arbor.importing import Imports
from clonk_arbor.methods.contexts import ContextMethods
from clonk_arbor.methods.nodes import NodeMethods
from clonk_arbor.methods.positions import PositionMethods
from clonk_arbor.methods.trees import TreeMethods
from clonk_arbor.nodes import Nodes
from clonk_arbor.positions import Positions
from clonk_arbor.render import Drawing
from clonk_arbor.resolve import check_resolvable
from clonk_arbor.retention import Retention
from clonk_arbor.search import Search
from clonk_arbor.settings import ArborSettings
from clonk_arbor.transfer import Exports
from clonk_arbor.trees import Trees
from clonk_arbor.watch import Watch
from clonk_core.plugin import Activation, Host, JsonValue

WORDS_AFTER_S = 0.5
"""Words of new nodes are noted this long after the first: many nodes at once cost less, and whoever searches before has
them noted at once."""


class Arbor(TreeMethods, NodeMethods, ContextMethods, PositionMethods, Activation):
    """Conversation trees: every message is a node, every fork a branch."""

    namespace = "arbor"
    version = "1.1.0"

    def __init__(self, host: Host) -> None:
        settings = host.settings if isinstance(host.settings, ArborSettings) else ArborSettings()
        database = host.database("arbor", migrations="clonk_arbor.migrations")
        bell = Bell()
        self._host = host
        self._bell = bell
        self._settings = settings
        self._trees = Trees(database, bell)
        self._nodes = Nodes(database, bell, max_content_bytes=settings.max_content_bytes)
        self._branches = Branches(database, bell)
        self._contexts = Contexts(database)
        self._positions = Positions(database, bell)
        self._search = Search(database)
        self._drawing = Drawing(database)
        self._exports = Exports(database)
        self._imports = Imports(database, bell, max_content_bytes=settings.max_content_bytes)
        self._watch = Watch(database, bell)
        self._retention = Retention(database, settings, bell, host.log)
        self._sweep_wanted = trio.Event()

    async def open(self) -> None:
        """Forget the imports that a crash has cut off."""
        await self._retention.forget_cut_imports()

    async def serve(self, started: Callable[[], None]) -> None:
        """Purge what is over its time, and note the words of new nodes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._purge)
            nursery.start_soon(self._note_words)
            started()

    async def _purge(self) -> None:
        while True:
            wanted = self._sweep_wanted = trio.Event()
            await self._retention.purge_overdue()
            await self._retention.sweep()
            with trio.move_on_after(self._settings.purge_interval_s):
                await wanted.wait()

    async def _note_words(self) -> None:
        while True:
            changed = self._bell.listen_to_all()
            await self._search.note_new()
            await changed.wait()
            await trio.sleep(WORDS_AFTER_S)

    def _sweep_soon(self) -> None:
        self._sweep_wanted.set()

    def _check_handles(self, *contents: JsonValue) -> None:
        check_resolvable(self._host, contents)
