"""New files in a difference look as git itself shows them, whatever they are called and whatever is in them."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from clonk_core.testing.host import TestHost
from clonk_gitsync.git import diffs, new_files
from tests.gitsync.conftest import OpenHost, Place, git

NAMES = [
    b"new", b"A", b"z.txt", b"with blank", b"-dash", b"--", b"new\nline", b"tab\tin", b'quo"te', b"back\\slash",
    b"bell\x07", b"del\x7f", b"esc\x1b[0m", "grün".encode(), b"latin-\xfc", b" leading", b"trailing ", b"a/b/c",
    b"folder with/blank in", b"folder/x", b"folder.x", b"folder-x", b"a.tx", b"a.txt2", b"\xe2\x80\xa8", b"'single'",
    b"$HOME", b"*", b"[x]", b":(top)x", b"\x01\x02",
]  # fmt: skip

CONTENTS = {
    "empty": b"",
    "a line": b"one\n",
    "no end": b"one",
    "two": b"one\ntwo\n",
    "two without end": b"one\ntwo",
    "only an end": b"\n",
    "ends": b"\n\n\n",
    "carriage returns": b"a\r\nb\rc\r\n",
    "only a carriage return": b"\r",
    "zero": b"\0",
    "zero at the end of what counts": b"x" * 7999 + b"\0",
    "zero after what counts": b"x" * 8000 + b"\0",
    "zero after a line": b"text\n\0text\n",
    "no UTF-8": b"\xff\xfe\xfd\n",
    "form feed and line separator": "a\fb\vc\u2028d\x85e\n".encode(),
    "like a patch": b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n",
    "long": b"".join(b"%d\n" % number for number in range(5000)),
    "a long line": b"y" * 300_000,
}


def write(work: Path, name: bytes, content: bytes) -> None:
    path = work / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def told(work: Path, copy: Path, *words: str) -> str:
    """Return what git says after everything was added."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(work, copy, symlinks=True)
    git(copy, "add", "--all")
    return git(copy, "-c", "core.quotePath=false", "diff", "--cached", "-M", "HEAD", *words)


async def shown(host: TestHost, place: Place, **more: Any) -> str:
    return str(await host.client.call("gitsync.diff", path=str(place.work), **more)).strip()


@pytest.fixture
def made_here(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for each difference with new files whether it was made here: the tests must not compare git with itself."""
    made: list[bool] = []
    real = new_files.patch_with

    def noted(*arguments: Any) -> bytes | None:
        patch = real(*arguments)
        made.append(patch is not None)
        return patch

    monkeypatch.setattr(new_files, "patch_with", noted)
    return made


async def test_names_are_shown_as_git_shows_them(
    registered: TestHost, place: Place, tmp_path: Path, made_here: list[bool]
) -> None:
    for number, name in enumerate(NAMES):
        write(place.work, name, b"%d\n" % number)
    write(place.work, b"a.txt", b"changed\n")
    expected = told(place.work, tmp_path / "copy")
    assert expected.count("new file mode") == len(NAMES)
    assert await shown(registered, place) == expected
    assert await shown(registered, place, paths=["folder", "a.txt"]) == told(
        place.work, tmp_path / "copy", "--", "folder", "a.txt"
    )
    assert made_here == [True, True]


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
async def test_contents_are_shown_as_git_shows_them(
    registered: TestHost, place: Place, tmp_path: Path, made_here: list[bool], content: bytes
) -> None:
    write(place.work, b"new", content)
    assert await shown(registered, place) == told(place.work, tmp_path / "copy")
    assert made_here == [True]


async def test_programs_links_and_files_between_changed_ones_are_shown_as_git_shows_them(
    registered: TestHost, place: Place, tmp_path: Path, made_here: list[bool]
) -> None:
    for name in (b"b", b"d/e", b"f"):
        write(place.work, name, b"before\n")
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "-m", "more")
    for name in (b"a", b"b", b"c", b"d.x", b"d/d", b"d/e", b"d/f", b"d0", b"e", b"g"):
        write(place.work, name, b"after %b\n" % name)
    (place.work / "f").chmod(0o755)  # nothing but its mode is another
    (place.work / "c").chmod(0o755)
    (place.work / "link").symlink_to("b")
    (place.work / "dangling").symlink_to("no/such\nplace")
    (place.work / "to-folder").symlink_to("d")
    write(place.work, b"staged", b"staged\n")
    git(place.work, "add", "staged")
    assert await shown(registered, place) == told(place.work, tmp_path / "copy")
    assert await shown(registered, place, context=0) == told(place.work, tmp_path / "copy", "-U0")
    assert made_here == [True, True]


async def test_ids_are_as_long_as_those_that_git_shows(
    registered: TestHost, place: Place, tmp_path: Path, made_here: list[bool]
) -> None:
    git(place.work, "config", "gc.auto", "0")  # none beside the test
    for number in range(20_000):  # so many that git shows longer ones
        write(place.work, b"many/%d" % number, b"%d\n" % number)
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "-m", "many")
    git(place.work, "gc", "-q")
    write(place.work, b"a.txt", b"changed\n")
    write(place.work, b"new", b"new\n")
    expected = told(place.work, tmp_path / "copy")
    assert "index 00000000.." in expected
    assert await shown(registered, place) == expected
    assert made_here == [True]


def attributes(place: Place) -> None:
    write(place.work, b".gitattributes", b"*.txt text eol=lf\n*.bin binary\n")
    write(place.work, b"x.bin", b"text\n")
    write(place.work, b"x.txt", b"a\r\nb\r\n")


def renamed(place: Place) -> None:
    (place.work / "a.txt").rename(place.work / "b.txt")


def folder_for_a_file(place: Place) -> None:
    (place.work / "a.txt").unlink()
    write(place.work, b"a.txt/x", b"x\n")


def many(place: Place) -> None:
    for number in range(new_files.MAX_FILES + 1):
        write(place.work, b"many/%d" % number, b"%d\n" % number)


def too_much(place: Place) -> None:
    for number in range(18):
        write(place.work, b"much/%d" % number, b"%d\n" % number * 500_000)


@pytest.mark.parametrize(
    "prepare",
    [attributes, renamed, folder_for_a_file, many, too_much],
)
async def test_what_git_might_show_otherwise_is_left_to_it(
    open_gitsync: OpenHost, place: Place, tmp_path: Path, made_here: list[bool], prepare: Any
) -> None:
    prepare(place)
    async with open_gitsync(max_diff_bytes=64 * 1024**2) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        assert await shown(host, place) == told(place.work, tmp_path / "copy")
    assert made_here in ([False], [])


def test_a_file_that_has_become_too_large_or_none_is_left_to_git(place: Place) -> None:
    index, raw = place.work / ".git" / "index", b""
    write(place.work, b"new", b"12345\n")
    made = new_files.patch_with(place.work, index, raw, [b"new"], 6)
    assert made is not None
    assert list(diffs.parts_of(made)) == [made]
    assert new_files.patch_with(place.work, index, raw, [b"new"], 5) is None
    assert new_files.patch_with(place.work, index, raw, [b"gone"], 6) is None
    os.mkfifo(place.work / "pipe")
    assert new_files.patch_with(place.work, index, raw, [b"pipe"], 6) is None
    (place.work / "inner" / ".git").mkdir(parents=True)
    assert new_files.patch_with(place.work, index, raw, [b"inner/"], 6) is None
