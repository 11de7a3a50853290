"""New files in a unified difference, written as git itself writes them: to have git do it takes two processes more.

Only where git would take files as they are and could find nothing else in them: no attributes anywhere, nothing gone
that they could be the renamed form of. All else is left to git. As the hub itself, so only where git works as the hub.
"""

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clonk_gitsync.git import diffs
from clonk_gitsync.git.changes import may_have_attribute, sort
from clonk_gitsync.git.plain_files import open_plain

MAX_FILES: Final = 1000
"""More are left to git."""

MAX_BYTES: Final = 16 * 1024**2
"""Of all their contents; more is left to git."""

BINARY_BYTES: Final = 8000
"""A NUL among these makes a file binary: `buffer_is_binary` in git's `xdiff-interface.c`."""

ID_DIGITS: Final = 7
"""Of an id that is shown, where git shows none itself."""

_INDEX_LINE: Final = re.compile(rb"^index ([0-9a-f]+)\.\.([0-9a-f]+)", re.MULTILINE)
_TO_QUOTE: Final = re.compile(rb'[\x00-\x1f"\\\x7f]')
_ESCAPES: Final = {7: b"a", 8: b"b", 9: b"t", 10: b"n", 11: b"v", 12: b"f", 13: b"r", 34: b'"', 92: b"\\"}


def patch_with(top: Path, index: Path, output: bytes, new: Sequence[bytes], max_file_bytes: int) -> bytes | None:
    """Return a patch with new files where git would show them. Touches the disk: for a thread.

    Args:
        top: Root of the work tree.
        index: The index that git used.
        output: What `git diff --raw -z -p` says of the other files.
        new: The new ones, as paths relative to the root.
        max_file_bytes: What is larger is not for us.

    Returns:
        None when git has to do it.
    """
    raw, patch = diffs.split(output)
    letters = diffs.changed(raw)
    parts = list(diffs.parts_of(patch))
    if len(new) > MAX_FILES or not set(letters.values()) <= {"A", "M"} or len(parts) != len(letters):
        return None
    changes = sort(top, new, max_file_bytes)
    if len(changes.present) != len(new) or may_have_attribute(top, index, changes.present, b""):
        return None
    shown = _INDEX_LINE.search(patch)
    digits = ID_DIGITS if shown is None else min(len(one) for one in shown.groups())
    left = MAX_BYTES
    found = dict(zip(letters, parts, strict=True))
    for path in changes.present:
        try:
            mode, content = _read(os.path.join(os.fsencode(top), path), min(max_file_bytes, left))  # noqa: PTH118
        except OSError:
            return None
        left -= len(content)
        found[path] = part_of(path, mode, content, digits)
    return b"".join(found[path] for path in sorted(found))


def part_of(path: bytes, mode: bytes, content: bytes, digits: int) -> bytes:
    """Return what a patch says of a new file.

    Args:
        path: Relative to the root.
        mode: As git writes it.
        content: All of it, or where a link leads to.
        digits: Of ids.
    """
    old, name = _quoted(b"a/" + path), _quoted(b"b/" + path)
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()[:digits]
    head = b"diff --git %s %s\nnew file mode %s\nindex %s..%s\n" % (old, name, mode, b"0" * digits, oid.encode())
    if not content:
        return head
    if b"\0" in content[:BINARY_BYTES]:
        return head + b"Binary files /dev/null and %s differ\n" % name
    lines = content.split(b"\n")
    is_ended = not lines[-1]
    if is_ended:
        lines.pop()
    # A name with a blank is ended by a tab, so that its end can be told.
    head += b"--- /dev/null\n+++ %s%s\n" % (name, b"\t" if b" " in name else b"")
    count = b"" if len(lines) == 1 else b",%d" % len(lines)
    text = b"".join(b"+%s\n" % line for line in lines)
    return head + b"@@ -0,0 +1%s @@\n" % count + text + (b"" if is_ended else b"\\ No newline at end of file\n")


def _read(path: bytes, most: int) -> tuple[bytes, bytes]:
    """Return mode and content of a file or link.

    Raises:
        OSError: It is neither, cannot be read, or is too large.
    """
    if stat.S_ISLNK(os.lstat(path).st_mode):
        return b"120000", os.readlink(path)  # noqa: PTH115 - bytes
    with open_plain(path) as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError("it is too large")
    return (b"100755" if mode & stat.S_IXUSR else b"100644"), content


def _quoted(name: bytes) -> bytes:
    """Return a name as git shows it with `core.quotePath` off: as a text of C where it holds what breaks a line."""
    if not _TO_QUOTE.search(name):
        return name
    return b'"' + _TO_QUOTE.sub(lambda found: b"\\" + _ESCAPES.get(ord(found[0]), b"%03o" % ord(found[0])), name) + b'"'
