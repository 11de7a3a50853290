"""The domain: full text over all nodes. Words are noted behind the writers, a few nodes a transaction."""

import json
import re
from typing import Final

import trio

from clonk_arbor.limits import MIB
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.reach import Reach, everywhere, seen_place, seen_tree
from clonk_arbor.store import search as stored
from clonk_arbor.values import moment, strings_of
from clonk_arbor.views import Match
from clonk_core.plugin import Database, InvalidParams, Transaction

NODES_AT_ONCE: Final = 256
"""Most nodes whose words are noted in one transaction: a few milliseconds in which nobody else can write."""

MAX_TEXT: Final = MIB
"""Characters of one node that can be found."""

SNIPPET: Final = 200
NEWEST: Final = 2**62

_TERM: Final = re.compile(r'"([^"]*)"|(\S+)')


class Search:
    """Finds nodes by their words.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noting = trio.Lock()

    async def note_new(self) -> None:
        """Note the words of all nodes that are there now."""
        async with self._noting:
            while await self._database.read(stored.has_new):
                await self._database.run(_note_some)

    async def find(
        self,
        query: str,
        limit: int,
        *,
        tree_id: TreeId | None = None,
        after: NodeId | None = None,
        reach: Reach = everywhere,
    ) -> tuple[Match, ...]:
        """Return nodes that have all words of a query, newest first."""
        words = match_expression(query)
        await self.note_new()
        return tuple(await self._database.read(_find, words, first_word(query), limit, tree_id, after, reach))


def match_expression(query: str) -> str:
    """Return what FTS5 is asked: each word and each "quoted phrase" must be there; `begin*` stands for a beginning.

    Raises:
        InvalidParams: There is no word in it.
    """
    terms = []
    for quoted, bare in _TERM.findall(query.replace("\0", " ")):
        text = quoted or bare.strip('"')
        is_beginning = not quoted and text.endswith("*")
        text = text.rstrip("*") if is_beginning else text
        if any(character.isalnum() for character in text):
            terms.append('"' + text.replace('"', '""') + '"' + ("*" if is_beginning else ""))
    if not terms:
        raise InvalidParams("must hold a word: letters or digits", path="$.query")
    return " AND ".join(terms)


def first_word(query: str) -> str:
    """Return the word that a snippet is cut around."""
    found = re.search(r"\w+", query)
    return found[0] if found else ""


def _note_some(transaction: Transaction) -> None:
    """Note the words of the next nodes."""
    found = stored.next_nodes(transaction, NODES_AT_ONCE, MIB)
    if found:
        rows = [(key, f"t{tree}", strings_of(json.loads(content), MAX_TEXT)) for key, tree, content in found]
        stored.add_words(transaction, rows, found[-1][0])


def _find(
    transaction: Transaction,
    words: str,
    word: str,
    limit: int,
    tree_id: str | None,
    after: str | None,
    reach: Reach,
) -> list[Match]:
    query = f"words : ({words})"
    if tree_id is not None:
        query = f"tree : t{seen_tree(transaction, tree_id, reach).key} AND {query}"
    before = NEWEST if after is None else seen_place(transaction, after, reach)[1].key
    found: list[Match] = []
    while len(found) < limit:
        page = stored.matches(transaction, query, before, limit)
        found += [_match(row, word) for row in page if reach(row[3])]
        if len(page) < limit:
            break
        before = page[-1][0]
    return found[:limit]


def _match(row: stored.Match, word: str) -> Match:
    _key, node_id, tree_id, tree_name, depth, kind, content, created_at = row
    return Match(
        tree_id=TreeId(tree_id),
        tree_name=tree_name,
        node_id=NodeId(node_id),
        depth=depth,
        kind=kind,  # type: ignore[arg-type]  # one of the three, written by ourselves
        snippet=snippet(strings_of(json.loads(content), MAX_TEXT), word),
        created_at=moment(created_at),
    )


def snippet(text: str, word: str) -> str:
    """Return the surroundings of a word, on one line."""
    place = max(0, text.lower().find(word.lower()))
    start = max(0, place - SNIPPET // 4)
    cut = " ".join(text[start : start + SNIPPET].split())
    return ("…" if start else "") + cut + ("…" if start + SNIPPET < len(text) else "")
