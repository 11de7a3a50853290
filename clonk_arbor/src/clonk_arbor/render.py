"""The domain: draws a tree as text, a page at a time, without ever holding more than the branches that are open."""

import json
from typing import Final

import attrs

from clonk_arbor.limits import MAX_DEPTH
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.reach import Reach, everywhere, seen_place, seen_tree
from clonk_arbor.store import drawing as stored
from clonk_arbor.store import trees, walks
from clonk_arbor.values import HANDLE, strings_of
from clonk_arbor.views import Rendering
from clonk_core.plugin import Database, InvalidParams, Transaction

MAX_COLUMNS: Final = 40
"""Branches inside each other that are indented; of those deeper the number is told."""

TEXT: Final = 80


@attrs.frozen
class Page:
    """Which part of a tree is drawn.

    Attributes:
        node_id: Only this node and what is below it; None for the whole tree.
        after: Go on behind this node.
        limit: At most so many nodes.
    """

    node_id: NodeId | None
    after: NodeId | None
    limit: int


class Drawing:
    """Draws one realm's trees.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def draw(self, tree_id: TreeId, page: Page, reach: Reach = everywhere) -> Rendering:
        """Return a page of a drawing."""
        return await self._database.read(_draw, tree_id, page, reach)


@attrs.frozen
class _Bars:
    """What stands before a node: the branches it is in.

    Attributes:
        hidden: How many are not shown.
        shown: The innermost.
    """

    hidden: int = 0
    shown: tuple[str, ...] = ()

    def with_one(self, mark: str) -> "_Bars":
        """Return them and one more inside."""
        shown = (*self.shown, mark)
        over = len(shown) - MAX_COLUMNS
        return _Bars(self.hidden + over, shown[over:]) if over > 0 else _Bars(self.hidden, shown)

    def text(self) -> str:
        """Return them as text."""
        return (f"[{self.hidden}] " if self.hidden else "") + "".join(self.shown)


@attrs.frozen
class _Level:
    """Nodes beside each other of which more may be drawn: those above this key, below `parent`.

    Attributes:
        parent: Whose children; None for the roots.
        last: Key of the last one drawn.
        bars: What stands before them.
        is_branching: Whether there are several, so that they are indented.
    """

    parent: int | None
    last: int
    bars: _Bars
    is_branching: bool


class _Pen:
    """Draws nodes in the order of a walk.

    Args:
        transaction: The open transaction.
        tree: Key of the tree.
        levels: What is still to be drawn, the next at the end.
    """

    def __init__(self, transaction: Transaction, tree: int) -> None:
        self._transaction = transaction
        self._tree = tree
        self.levels: list[_Level] = []
        self.lines: list[str] = []
        self.count = 0
        self.last: str | None = None

    def draw_top(self, key: int) -> None:
        """Draw a node that is not beside others."""
        self._draw(stored.one(self._transaction, key), _Bars(), _Bars())

    def add_roots(self) -> None:
        """Have the roots drawn."""
        is_branching = stored.count_children(self._transaction, self._tree, None) > 1
        self.levels.append(_Level(None, 0, _Bars(), is_branching))

    def go_on_behind(self, key: int, top: int | None) -> None:
        """Have drawn what follows a node: what is below it, and what comes after those above it, up to `top`."""
        branches = walks.branches_up(self._transaction, self._tree, key, MAX_DEPTH + 1)
        if top is not None:
            branches = branches[: next((n for n, one in enumerate(branches) if one.key == top), len(branches))]
        bars = _Bars()
        for branch in reversed(branches):
            if branch.has_younger:
                self.levels.append(_Level(branch.parent, branch.key, bars, True))
            if branch.has_siblings:
                bars = bars.with_one("│  " if branch.has_younger else "   ")
        self._add_below(key, bars)

    def draw_next(self) -> None:
        """Draw a node, or find that there is none more on the innermost level."""
        level = self.levels.pop()
        node = self._next(level)
        if node is None:
            return
        if not level.is_branching:
            self._draw(node, level.bars, level.bars)
            return
        behind = attrs.evolve(level, last=node.key)
        is_last = self._next(behind) is None
        if not is_last:
            self.levels.append(behind)
        self._draw(
            node,
            level.bars.with_one("└─ " if is_last else "├─ "),
            level.bars.with_one("   " if is_last else "│  "),
        )

    def has_more(self) -> bool:
        """Tell whether anything is left to be drawn."""
        return any(self._next(level) is not None for level in self.levels)

    def _next(self, level: _Level) -> stored.Drawn | None:
        return stored.next_child(self._transaction, self._tree, level.parent, level.last)

    def _draw(self, node: stored.Drawn, bars: _Bars, bars_below: _Bars) -> None:
        self.lines.append(f"{bars.text()}{node.id} {_beginning(node)}".rstrip())
        self.count += 1
        self.last = node.id
        self._add_below(node.key, bars_below)

    def _add_below(self, key: int, bars: _Bars) -> None:
        is_branching = stored.count_children(self._transaction, self._tree, key) > 1
        self.levels.append(_Level(key, 0, bars, is_branching))


def _draw(transaction: Transaction, tree_id: str, page: Page, reach: Reach) -> Rendering:
    tree = seen_tree(transaction, tree_id, reach)
    pen = _Pen(transaction, tree.key)
    top = None if page.node_id is None else _key(transaction, page.node_id, tree, "$.node_id", reach)
    if page.after is not None:
        pen.go_on_behind(_key(transaction, page.after, tree, "$.after", reach), top)
    elif top is not None:
        pen.draw_top(top)
    else:
        pen.lines.append(f"{tree.name} ({tree.node_count} node{'' if tree.node_count == 1 else 's'})")
        pen.add_roots()
    while pen.levels and pen.count < page.limit:
        pen.draw_next()
    after = NodeId(pen.last) if pen.last is not None and pen.has_more() else None
    return Rendering(text="".join(f"{line}\n" for line in pen.lines), after=after)


def _key(transaction: Transaction, node_id: str, tree: trees.TreeRow, path: str, reach: Reach) -> int:
    place = seen_place(transaction, node_id, reach)[1]
    if place.tree != tree.key:
        raise InvalidParams(f"{node_id!r} is not in tree {tree.id!r}", path=path)
    return place.key


def _beginning(node: stored.Drawn) -> str:
    if node.size > stored.BEGINNING:
        # Not read whole: what is shown is the beginning of its JSON.
        text = node.content
    elif node.kind == "handle":
        handle = json.loads(node.content)[HANDLE]
        text = f"→ {handle['method']} {json.dumps(handle.get('params', {}), ensure_ascii=False)}"
    else:
        value = json.loads(node.content)
        text = strings_of(value, TEXT * 2).replace("\n", " ") or node.content
        if isinstance(value, dict) and isinstance(value.get("role"), str) and text.startswith(value["role"] + " "):
            text = f"{value['role']}: {text[len(value['role']) + 1 :]}"
    text = " ".join(text[: TEXT * 4].split())
    text = "".join(character if character.isprintable() else "·" for character in text)
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"
