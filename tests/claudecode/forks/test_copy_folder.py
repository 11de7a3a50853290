"""Copies of folders, whatever is in them."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.errors import CopyTooLarge
from clonk_claudecode.forks.copy_folder import FolderCopy, remove_folder


def copy(source: Path, target: Path, **limits: Any) -> None:
    FolderCopy(
        source=source, target=target, check=lambda: None, **{"max_bytes": 10**6, "max_files": 1000, **limits}
    ).run()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def test_files_folders_links_and_modes_are_copied_and_nothing_else(source: Path, tmp_path: Path) -> None:
    (source / "deep/er").mkdir(parents=True)
    script = source / "deep/er/run"
    script.write_text("x")
    script.chmod(0o4755)
    (source / "deep").chmod(0o500)
    os.utime(script, ns=(1, 2_000_000_000))
    os.mkfifo(source / "pipe")
    (source / "link").symlink_to("/etc")
    (source / "nowhere").symlink_to("missing")
    name = os.fsdecode(b"caf\xe9\n")
    (source / name).write_bytes(b"\0" * 100)
    copied = tmp_path / "copied"
    copy(source, copied)
    assert {path.name for path in copied.iterdir()} == {"deep", "link", "nowhere", name}
    assert (copied / "link").readlink() == Path("/etc")
    status = (copied / "deep/er/run").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o755, 2_000_000_000)
    assert (copied / "deep").stat().st_mode & 0o777 == 0o500
    assert copied.stat().st_mode & 0o777 == 0o700
    remove_folder(copied)
    assert not copied.exists()
    (source / "deep").chmod(0o700)


@pytest.mark.parametrize(("limits", "limit"), [({"max_bytes": 9}, 9), ({"max_files": 2}, 2)])
def test_over_a_limit_it_stops(source: Path, tmp_path: Path, limits: dict[str, int], limit: int) -> None:
    for number in range(3):
        (source / str(number)).write_text("four")
    with pytest.raises(CopyTooLarge) as refused:
        copy(source, tmp_path / "copied", **limits)
    assert refused.value.data["limit"] == limit
    copy(source, tmp_path / "fits", max_bytes=12, max_files=3)


def test_a_folder_of_too_many_levels_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "/".join("d" * 250)).mkdir(parents=True)
    with pytest.raises(OSError, match="levels"):
        copy(source, tmp_path / "copied")


def test_files_that_come_and_go_meanwhile_do_no_harm(source: Path, tmp_path: Path) -> None:
    for number in range(200):
        (source / f"stays-{number}").write_text("x")
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            (source / "comes").write_text("x")
            (source / "comes").rename(source / "goes")
            (source / "goes").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for number in range(5):
            copy(source, tmp_path / f"copied-{number}")
            assert len(list((tmp_path / f"copied-{number}").glob("stays-*"))) == 200
    finally:
        stop.set()
        thread.join()
