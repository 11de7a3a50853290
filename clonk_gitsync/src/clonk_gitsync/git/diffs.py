"""What `git diff-index` says, as messages. No I/O."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import attrs

from clonk_gitsync.messages import FileDiff

Change: TypeAlias = Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]

_CHANGES: Final[Mapping[str, Change]] = {
    "A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type_changed"
}  # fmt: skip
WORDS: Final = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--ignore-submodules=all",
    "-M",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)
"""What every git that shows a difference is told."""

MAX_NAMED: Final = 100
"""Files that are named in an answer or an error."""

MAX_FILES: Final = 5000
"""Files of a difference that are listed: some 1 MiB."""

_HUNK: Final = re.compile(r"^@@ ", re.MULTILINE)


@attrs.frozen
class RawEntry:
    """One line of `--raw --numstat -z`.

    Attributes:
        change: How the file has changed.
        old_blob, new_blob: Ids of the contents; zeros where there is none.
        path, old_path: Names; the old one for renames and copies.
        insertions, deletions: Lines; None for what is no text.
    """

    change: Change
    old_blob: str
    new_blob: str
    path: bytes
    old_path: bytes | None
    insertions: int | None = None
    deletions: int | None = None


def shown(path: bytes) -> str:
    r"""Return a path as text; what is no UTF-8 in it as `\xNN`."""
    return path.decode("utf-8", "backslashreplace")


def named(paths: Sequence[bytes]) -> tuple[str, ...]:
    """Return the first of some paths as text, as many as are named in an answer or an error."""
    return tuple(shown(path) for path in paths[:MAX_NAMED])


def raw_entries(output: bytes) -> list[RawEntry]:
    """Read `--raw --numstat -z`: all raw lines first, then a count for each."""
    words = iter(output.split(b"\0"))
    entries: list[RawEntry] = []
    counts: list[tuple[int | None, int | None]] = []
    for word in words:
        if word.startswith(b":"):
            _, _, old_blob, new_blob, status = word[1:].decode().split(" ")
            change = _CHANGES.get(status[0], "modified")
            first = next(words)
            renamed = status[0] in "RC"
            path = next(words) if renamed else first
            entries.append(RawEntry(change, old_blob, new_blob, path, first if renamed else None))
        elif word.count(b"\t") >= 2:
            insertions, deletions, name = word.split(b"\t", 2)
            counts.append((_number(insertions), _number(deletions)))
            if not name:  # a rename: both names follow
                next(words)
                next(words)
    return [
        attrs.evolve(entry, insertions=count[0], deletions=count[1])
        for entry, count in zip(entries, counts, strict=True)
    ]


def split(output: bytes) -> tuple[bytes, bytes]:
    """Return what `--raw -z` and `--numstat -z` say, and the patch that follows them after a NUL more."""
    listed, mark, patch = output.partition(b"\0\0")
    return listed + mark[:1], patch


def changed(raw: bytes) -> dict[bytes, str]:
    """Read `--raw -z` alone: the letter of the change by path."""
    words = iter(raw.split(b"\0"))
    letters: dict[bytes, str] = {}
    for word in words:
        if word.startswith(b":"):
            letter = word.rpartition(b" ")[2][:1].decode()
            first = next(words)
            letters[next(words) if letter in "RC" else first] = letter
    return letters


def totals(output: bytes) -> tuple[int, int, int]:
    """Add up `--raw --numstat -z`: files, insertions, deletions."""
    entries = raw_entries(output)
    return len(entries), sum(one.insertions or 0 for one in entries), sum(one.deletions or 0 for one in entries)


def new_contents(output: bytes) -> list[tuple[bytes, str | None]]:
    """Read `--raw --numstat -z` as paths with the ids of their new contents; None for what is gone or was renamed."""
    found: list[tuple[bytes, str | None]] = []
    for one in raw_entries(output):
        found.append((one.path, one.new_blob if one.new_blob.strip("0") and one.new_blob != one.old_blob else None))
        if one.old_path is not None:
            found.append((one.old_path, None))
    return found


def cut(patch: bytes, limit: int) -> tuple[str, bool]:
    """Return a patch as text, at most `limit` bytes of whole lines, and whether it was cut."""
    if len(patch) <= limit:
        return patch.decode(errors="replace"), False
    return patch[: patch.rfind(b"\n", 0, limit) + 1].decode(errors="replace"), True


def file_diffs(
    entries: list[RawEntry], patch: bytes, sizes: Mapping[str, int], limit: int
) -> tuple[list[FileDiff], bool]:
    """Join the list of files with the patch, in which they come in the same order.

    Args:
        entries: The files.
        patch: `-p` of the same difference.
        sizes: Bytes of the contents, by id.
        limit: Bytes of the hunks that are shown.
    """
    parts = list(parts_of(patch))
    files: list[FileDiff] = []
    truncated = len(entries) > MAX_FILES
    # A change of type is two parts of the patch.
    at = 0
    for entry in entries[:MAX_FILES]:
        part = parts[at] if at < len(parts) else b""
        at += 2 if entry.change == "type_changed" and at + 1 < len(parts) else 1
        limit -= len(part)
        is_binary = entry.insertions is None
        hunks: tuple[str, ...] = ()
        if limit < 0:
            truncated = True
        elif not is_binary:
            hunks = _hunks(part.decode(errors="replace"))
        files.append(
            FileDiff(
                path=shown(entry.path),
                old_path=None if entry.old_path is None else shown(entry.old_path),
                change=entry.change,
                is_binary=is_binary,
                insertions=entry.insertions or 0,
                deletions=entry.deletions or 0,
                old_size=sizes.get(entry.old_blob),
                new_size=sizes.get(entry.new_blob),
                hunks=hunks,
            )
        )
    return files, truncated


def parts_of(patch: bytes) -> Iterator[bytes]:
    """Return what a patch says of each file; of one that has changed its type, in two parts."""
    # Within a hunk each line begins with a blank, "+", "-" or "\\".
    starts = [match.start() for match in re.finditer(rb"^diff --git ", patch, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(patch)], strict=False):
        yield patch[start:end]


def _hunks(part: str) -> tuple[str, ...]:
    starts = [match.start() for match in _HUNK.finditer(part)]
    return tuple(part[start:end] for start, end in zip(starts, [*starts[1:], len(part)], strict=False))


def _number(word: bytes) -> int | None:
    return None if word == b"-" else int(word)
