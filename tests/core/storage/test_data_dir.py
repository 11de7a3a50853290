"""The data directory and its one owner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clonk_core.errors import StorageError
from clonk_core.storage.data_dir import LOCK_FILE, hold_data_dir

HOLD = """
import sys, time
from pathlib import Path
from clonk_core.storage.data_dir import hold_data_dir
with hold_data_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with hold_data_dir(tmp_path / "a" / "b") as path:
        assert path.stat().st_mode & 0o777 == 0o700
        assert (path / LOCK_FILE).read_text() == f"{os.getpid()}\n"


def test_a_second_server_is_refused_and_told_the_process_of_the_first(tmp_path: Path) -> None:
    with hold_data_dir(tmp_path):
        with pytest.raises(StorageError, match=str(os.getpid())), hold_data_dir(tmp_path):
            pass
    with hold_data_dir(tmp_path):
        pass


def test_a_server_that_was_killed_holds_it_no_more(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=str(process.pid)), hold_data_dir(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        with hold_data_dir(tmp_path):
            pass


def test_a_file_in_its_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), hold_data_dir(tmp_path / "file"):
        pass


def test_a_file_where_the_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError), hold_data_dir(path):
            pass
