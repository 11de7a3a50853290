"""A small commit reaches the hub's own repository without git, and only as what its ids say."""

import zlib
from pathlib import Path

import pytest

from clonk_core.testing.host import TestHost
from clonk_gitsync.git.loose import NotLoose, Recorded, copy_new
from tests.gitsync.conftest import Place, git


def recorded(work: Path) -> Recorded:
    """Commit all by hand, and return what a `commit` of ours would tell of it."""
    git(work, "add", "--all")
    git(work, "commit", "-q", "-m", "more")
    words = git(work, "diff-tree", "-r", "--no-commit-id", "--no-renames", "HEAD").splitlines()
    files = [
        (path.encode(), None if set(fields.split()[3]) == {"0"} else fields.split()[3])
        for fields, path in (line.split("\t") for line in words)
    ]
    return Recorded(git(work, "rev-parse", "HEAD"), git(work, "rev-parse", "HEAD^{tree}"), files)


def changed(place: Place) -> Recorded:
    (place.work / "deep" / "er").mkdir(parents=True)
    (place.work / "deep" / "er" / "x").write_text("x\n")
    (place.work / "other").mkdir()
    (place.work / "other" / "y").write_text("y\n")
    (place.work / "a.txt").write_text("changed\n")
    return recorded(place.work)


def test_what_is_copied_is_whole(place: Place) -> None:
    objects = place.work / ".git" / "objects"
    copy_new(changed(place), objects, place.bare / "objects")
    (place.work / "other" / "y").unlink()
    (place.work / "deep" / "er" / "x").rename(place.work / "deep" / "z")
    made = recorded(place.work)
    copy_new(made, objects, place.bare / "objects")
    git(place.bare, "update-ref", "refs/heads/copied", made.commit)
    assert git(place.bare, "fsck", "--strict", "--connectivity-only") == ""
    assert git(place.bare, "fsck", "--full") == ""
    assert git(place.bare, "ls-tree", "-r", "--name-only", "copied").split() == ["a.txt", "deep/z"]
    packs = sorted((place.bare / "objects" / "pack").glob("*.idx"))
    assert len(packs) == 2
    for pack in packs:
        git(place.bare, "verify-pack", str(pack))


def test_a_pack_holds_contents_of_any_size(place: Place) -> None:
    for size in (0, 1, 15, 16, 2047, 2048, 300_000):
        (place.work / f"size{size}").write_bytes(b"x" * size)
    copy_new(made := recorded(place.work), place.work / ".git" / "objects", place.bare / "objects")
    git(place.bare, "update-ref", "refs/heads/copied", made.commit)
    assert git(place.bare, "fsck", "--full", "--strict") == ""
    assert len(git(place.bare, "cat-file", "-p", "copied:size300000")) == 300_000


@pytest.mark.parametrize("how", ["other", "broken", "longer", "kind", "link", "gone", "packed", "bomb"])
def test_what_is_not_what_its_id_says_is_not_copied(place: Place, how: str) -> None:
    made = changed(place)
    objects = place.work / ".git" / "objects"
    blob = str(dict(made.files)[b"deep/er/x"])
    path = objects / blob[:2] / blob[2:]
    path.chmod(0o644)
    content = path.read_bytes()
    if how == "packed":
        git(place.work, "repack", "-a", "-d", "-q")
    elif how == "gone":
        path.unlink()
    elif how == "link":
        path.rename(objects / "elsewhere")
        path.symlink_to(objects / "elsewhere")
    else:
        path.write_bytes(
            {
                "other": zlib.compress(b"blob 2\0z\n"),
                "broken": content[:-4],
                "longer": content + b"x",
                "kind": zlib.compress(b"tree 2\0x\n"),
                "bomb": zlib.compress(b"blob 1\0" + b"\0" * 64 * 1024**2),
            }[how]
        )
    with pytest.raises(NotLoose):
        copy_new(made, objects, place.bare / "objects")
    assert git(place.bare, "cat-file", "-e", made.commit, check=False) == ""
    assert git(place.bare, "cat-file", "--batch-all-objects", "--batch-check").count(made.commit) == 0


async def test_a_commit_whose_contents_are_packed_is_pushed_all_the_same(registered: TestHost, place: Place) -> None:
    """The contents are there already, in a pack that the remote has nothing of."""
    path = str(place.work)
    (place.work / "a.txt").write_text("first\n")
    await registered.client.call("gitsync.sync", path=path)
    (place.work / "b.txt").write_text("from a pack\n")
    git(place.work, "add", ".")
    git(place.work, "stash", "-q")
    git(place.work, "repack", "-a", "-d", "-q")
    (place.work / "b.txt").write_text("from a pack\n")
    assert (await registered.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert git(place.bare, "show", "claude/work:b.txt") == "from a pack"
    assert git(place.bare, "fsck", "--full") == ""
