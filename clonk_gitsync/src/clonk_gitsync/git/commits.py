"""Commits, written as git's objects: made by hand, so that they can be signed outside of git. No I/O."""

import time
from collections.abc import Sequence
from typing import Final

import attrs

KEPT: Final = (b"author", b"encoding")
"""What a commit that is put on another keeps of itself, beside its message."""


@attrs.frozen(kw_only=True)
class CommitText:
    """What a commit says.

    Attributes:
        tree: Id of its files.
        parents: What it was made from.
        author: Name, address and time, as git writes them.
        committer: The same of who recorded it.
        message: Its message; in UTF-8 unless `encoding` says otherwise.
        encoding: Of the message, as git notes it; None for UTF-8.
    """

    tree: str
    parents: Sequence[str]
    author: bytes
    committer: bytes
    message: bytes
    encoding: bytes | None = None

    def unsigned(self) -> bytes:
        """Return the object's text."""
        lines = [f"tree {self.tree}".encode(), *(f"parent {one}".encode() for one in self.parents)]
        lines += [b"author " + self.author, b"committer " + self.committer]
        if self.encoding is not None:
            lines.append(b"encoding " + self.encoding)
        return b"\n".join([*lines, b"", self.message])

    def signed(self, signature: bytes) -> bytes:
        """Return the object's text with a signature of `unsigned` in it."""
        head, _, message = self.unsigned().partition(b"\n\n")
        # Each of git's two hashes has a header of its own.
        name = b"gpgsig" if len(self.tree) == 40 else b"gpgsig-sha256"
        return head + b"\n" + name + b" " + signature.strip().replace(b"\n", b"\n ") + b"\n\n" + message


def ident(name: str, email: str) -> bytes:
    """Return who does something now, as git writes it."""
    now = int(time.time())
    return f"{name.strip()} <{email}> {now} {time.strftime('%z', time.localtime(now))}".encode(errors="replace")


def message_text(message: str) -> bytes:
    """Return a message as a commit holds it."""
    return (message.replace("\0", "").strip() + "\n").encode(errors="replace")


def replayed(original: bytes, *, tree: str, parent: str, committer: bytes) -> CommitText:
    """Return what a commit says when it is put on another parent: by the same author, with the same message.

    Args:
        original: The text of its object.
        tree: Id of the files that it has there.
        parent: What it is put on.
        committer: Who does that.
    """
    head, _, message = original.partition(b"\n\n")
    found = dict(line.split(b" ", 1) for line in head.split(b"\n") if line.split(b" ", 1)[0] in KEPT)
    return CommitText(
        tree=tree,
        parents=(parent,),
        author=found[b"author"],
        committer=committer,
        message=message,
        encoding=found.get(b"encoding"),
    )
