"""What users type to search, as an expression of FTS5. No I/O here.

Words must all be there; `"several words"` stand together, `word*` is a beginning, `OR` and `NOT` (or `-word`) and
parentheses do what they say. Whatever else is in a word is taken as it is: nothing of FTS5's own syntax gets through.
"""

import re
from collections.abc import Iterator
from typing import Final

import attrs

from clonk_core.plugin import InvalidParams

MAX_DEPTH: Final = 20
MAX_TERMS: Final = 64

_TOKEN: Final = re.compile(
    r'\s*(?:(?P<minus>-(?=[\w"(]))?(?:"(?P<phrase>[^"]*)"(?P<star>\*)?|(?P<paren>[()])|(?P<word>[^\s()"]+)))'
)


@attrs.frozen
class _Token:
    kind: str
    text: str
    at: int


def fts_expression(query: str) -> str:
    """Return the FTS5 expression for a query.

    Raises:
        InvalidParams: A quotation mark or a parenthesis has no other, an operator stands alone, there is nothing to
            look for, or too much of it.
    """
    tokens = list(_tokens(query))
    if sum(token.kind == "term" for token in tokens) > MAX_TERMS:
        raise InvalidParams(f"has more than {MAX_TERMS} words", path="$.query")
    return _Parser(tokens, len(query)).parse()


def _tokens(query: str) -> Iterator[_Token]:
    position = 0
    query = query.replace("\0", " ").rstrip()
    while position < len(query):
        match = _TOKEN.match(query, position)
        if match is None:
            raise _wrong("a quotation mark has no other", query.index('"', position))
        start, position = match.end() - len(match[0].lstrip()), match.end()
        if match["minus"]:
            yield _Token("NOT", "-", start)
        if match["paren"]:
            yield _Token(match["paren"], match["paren"], start)
        elif match["word"] in {"AND", "OR", "NOT"}:
            yield _Token(match["word"], match["word"], start)
        else:
            word = match["phrase"] if match["word"] is None else match["word"].rstrip("*")
            is_beginning = bool(match["star"]) or (match["word"] or "").endswith("*")
            if any(char.isalnum() for char in word):  # else the index has nothing of it
                yield _Token("term", f'"{word}"' + ("*" if is_beginning else ""), start)


class _Parser:
    """expression: all {OR all} · all: one {[AND] one | NOT one} · one: term | ( expression )."""

    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = tokens
        self._end = end
        self._at = 0

    def parse(self) -> str:
        expression = self._either(0)
        token = self._peek()
        if token is not None:
            raise _wrong("a parenthesis was not opened", token.at)
        return expression

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *kinds: str) -> _Token | None:
        token = self._peek()
        if token is None or token.kind not in kinds:
            return None
        self._at += 1
        return token

    def _either(self, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise InvalidParams(f"has more than {MAX_DEPTH} parentheses in each other", path="$.query")
        parts = [self._all(depth)]
        while self._take("OR"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"

    def _all(self, depth: int) -> str:
        wanted: list[str] = []
        unwanted: list[str] = []
        while (token := self._peek()) is not None and token.kind not in {"OR", ")"}:
            if self._take("AND") and (not wanted or self._peek() is None):
                raise _wrong("AND stands alone", token.at)
            without = self._take("NOT") is not None
            (unwanted if without else wanted).append(self._one(depth))
        if not wanted:
            token = self._peek()
            raise _wrong("something to look for is missing", self._end if token is None else token.at)
        expression = f"({' AND '.join(wanted)})"
        return f"({expression} NOT ({' OR '.join(unwanted)}))" if unwanted else expression

    def _one(self, depth: int) -> str:
        term = self._take("term")
        if term is not None:
            return term.text
        opened = self._take("(")
        if opened is None:
            token = self._peek()
            raise _wrong("something to look for is missing", self._end if token is None else token.at)
        expression = self._either(depth + 1)
        if self._take(")") is None:
            raise _wrong("a parenthesis is not closed", opened.at)
        return expression


def _wrong(what: str, position: int) -> InvalidParams:
    return InvalidParams(f"{what} (at character {position + 1})", path="$.query")
