"""Drafts of forges that know them by a mark before the title."""

import re

from clonk_gitsync.forges.interface import PullRequest, WantedRequest


class DraftMark:
    """The mark of one kind of forge.

    Args:
        mark: What is put before the title.
        pattern: What the forge takes for a mark, whatever its capitals.
    """

    def __init__(self, mark: str, pattern: str) -> None:
        self._mark = mark
        self._pattern = re.compile(rf"\s*(?:{pattern})\s*", re.IGNORECASE)

    def is_on(self, title: str) -> bool:
        """Tell whether a title bears it."""
        return self._pattern.match(title) is not None

    def without(self, title: str) -> str:
        """Return a title without it."""
        return self._pattern.sub("", title, count=1) if self.is_on(title) else title

    def title(self, wanted: WantedRequest, known: PullRequest | None = None) -> str | None:
        """Return the title that a request shall have, with the mark when it is a draft; None when it has that already.

        Args:
            wanted: What it shall be like.
            known: What it is like; None for a new one.
        """
        draft = wanted.draft
        if draft is None:
            draft = self.is_on(wanted.title) or (known is not None and known.draft)
        bare = self.without(wanted.title)
        if known is not None and known.title == bare and known.draft == draft:
            return None
        return f"{self._mark} {bare}" if draft else bare
