"""The process that `glances.py` asks: tells how a work tree differs from its index and HEAD, by libgit2.

It reads one JSON object a line and answers with one: what `git status` would count, or why it is not sure. It is not
where libgit2 and git may differ: attributes, submodules, conflicts, files that are staged, an index with more than
names and states, files that have become something else, repositories within, and patterns that take back what other
files ignore. It changes nothing, starts nothing, and ends when nothing was asked for a while.
"""

import json
import os
import re
import select
import sys
from pathlib import Path
from typing import Any, Final

import pygit2
from pygit2.enums import ConfigLevel, DeltaStatus, DiffOption

from clonk_gitsync.git.plain_files import open_plain

IDLE_S: Final = 60.0
"""Seconds without a question after which it ends: it holds some 20 MB."""

VERSION: Final = b"DIRC\0\0\0\2"
"""What the plainest index begins with: no file of it is only meant to be added, or left out of the work tree."""

GITLINK: Final = b"\0\0\xe0\0"
"""The mode of a submodule, as the index holds it."""

EXTENSIONS: Final = (b"link\0", b"sdir\0")
"""An index of which a part is elsewhere, or that has folders in place of their files."""

FLAGS: Final = (
    DiffOption.INCLUDE_UNTRACKED
    | DiffOption.RECURSE_UNTRACKED_DIRS
    | DiffOption.INCLUDE_IGNORED
    | DiffOption.INCLUDE_TYPECHANGE
    | DiffOption.SKIP_BINARY_CHECK
)

IGNORING: Final = b".gitignore"
ATTRIBUTES: Final = b".gitattributes"

_TAKES_BACK: Final = re.compile(rb"^!", re.MULTILINE)
_IGNORING_IN_INDEX: Final = re.compile(rb"\0([^\0]*\.gitignore)\0")


class Unsure(Exception):
    """Git has to look."""


def look(folder: Path, top: Path, objects: Path, head: str) -> dict[str, int]:
    """Return how many files are unstaged and untracked; none is staged.

    Args:
        folder: A git folder of ours, of one work tree.
        top: The root of that.
        objects: Where its objects are.
        head: The commit that is checked out.

    Raises:
        Unsure: It cannot be told here.
    """
    index = _plain_index(folder)
    repository = pygit2.Repository(str(folder))
    if Path(repository.workdir) != top:
        raise Unsure("work tree")
    store = pygit2.Odb()
    store.add_disk_alternate(str(objects))
    repository.set_odb(store)
    if _tree_of(index) != repository[head].peel(pygit2.Commit).tree_id.raw:
        raise Unsure("staged")
    unstaged = untracked = 0
    # The first character is the length of the name, or the name's own.
    ignoring = {name for found in _IGNORING_IN_INDEX.findall(index) for name in (found, found[1:])}
    for delta in repository.index.diff_to_workdir(FLAGS).deltas:
        status, name = delta.status, delta.new_file.raw_path
        if status in {DeltaStatus.MODIFIED, DeltaStatus.DELETED}:
            unstaged += 1
        elif status not in {DeltaStatus.UNTRACKED, DeltaStatus.IGNORED}:
            raise Unsure(status.name.lower())
        elif name.endswith(b"/") and (status == DeltaStatus.UNTRACKED or _has(top, name + b".git")):
            raise Unsure("repository within")
        elif name.endswith(ATTRIBUTES):
            raise Unsure("attributes")
        else:
            untracked += status == DeltaStatus.UNTRACKED
            if name.endswith(IGNORING):
                ignoring.add(name)
    exclude = Path(objects).with_name("info") / "exclude"
    if any(_takes_back(file) for file in (exclude, *(top / os.fsdecode(name) for name in ignoring))):
        raise Unsure("ignored")
    return {"unstaged": unstaged, "untracked": untracked}


def _plain_index(folder: Path) -> bytes:
    """Return an index that holds nothing but files as they are.

    Raises:
        Unsure: It holds more.
    """
    index = (folder / "index").read_bytes()
    if not index.startswith(VERSION):
        raise Unsure("index")
    if GITLINK in index or any(one in index for one in EXTENSIONS):
        raise Unsure("submodules, or a part of the index")
    if ATTRIBUTES in index:
        raise Unsure("attributes")
    return index


def _has(top: Path, name: bytes) -> bool:
    return os.path.lexists(os.fsencode(top) + b"/" + name)


def _takes_back(file: Path) -> bool:
    """Tell whether a file of patterns has one that begins with `!`: what it takes back may be in another file.

    Raises:
        OSError: It cannot be read, or is a link, which git does not follow.
    """
    try:
        opened = open_plain(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    with opened:
        return _TAKES_BACK.search(opened.read()) is not None


def _tree_of(index: bytes) -> bytes | None:
    """Return the tree that an index has as a whole, when it says so: git notes it, and forgets it with each change.

    The extension `TREE` of `gitformat-index(5)`: its first entry is the root's, an empty name with a NUL, the number of
    files and of folders in digits, and the tree.
    """
    at = index.rfind(b"TREE")
    if at < 0 or index[at + 8 : at + 9] != b"\0":
        return None
    counts, _, rest = index[at + 9 : at + 64].partition(b"\n")
    return rest[:20] if counts.replace(b" ", b"").isdigit() else None


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Answer one question."""
    try:
        folder, top, objects = (Path(question[name]) for name in ("folder", "top", "objects"))
        return look(folder, top, objects, question["head"])
    except Unsure as error:
        return {"unsure": str(error)}
    except Exception as error:  # noqa: BLE001 - of libgit2, or the disk: git tells better
        return {"unsure": type(error).__name__}


def main() -> None:
    """Answer until nothing is asked any more."""
    for level in (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
        pygit2.settings.search_path[level] = ""
    pygit2.settings.owner_validation = False  # our own folder, and as git does where it is named
    say({"ready": True})
    rest = b""
    while True:
        *lines, rest = rest.split(b"\n")
        for line in lines:
            say(answer(json.loads(line)))
        if not select.select([0], [], [], IDLE_S)[0]:
            return
        chunk = os.read(0, 65_536)
        if not chunk:
            return
        rest += chunk


def say(words: dict[str, Any]) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
