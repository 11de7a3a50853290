"""Checkpoints of real git repositories, with a real database and without a session's process."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_claudecode.checkpoints.checkpoints import Checkpoints
from clonk_claudecode.checkpoints.messages import StoredCheckpoint
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.settings import CheckpointSettings
from clonk_claudecode.store import session_rows
from clonk_core.plugin import Activation, Database, Host
from clonk_core.testing.host import open_host


class Repo:
    """A git repository and what a test does in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, check: bool = True, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],
            cwd=cwd or self.path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                "GIT_CONFIG_NOSYSTEM": "1",
                **{f"GIT_{role}_NAME": "Test" for role in ("AUTHOR", "COMMITTER")},
                **{f"GIT_{role}_EMAIL": "test@localhost" for role in ("AUTHOR", "COMMITTER")},
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, message: str = "a commit") -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def files(self) -> dict[str, str]:
        """Every file but git's own, with its text; links as `-> target`."""
        found = {}
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if ".git" in path.relative_to(self.path).parts:
                continue
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = path.read_bytes().decode(errors="replace")
        return found


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """One commit with two files."""
    path = tmp_path / "roots" / "repo"
    path.mkdir(parents=True)
    repo = Repo(path)
    repo.git("init", "-q", "-b", "main")
    repo.write("a.txt", "one\n")
    repo.write("sub/b.txt", "two\n")
    repo.write(".gitignore", "*.log\n")
    repo.commit()
    return repo


class Given(Activation):
    """Holds the database of a test."""

    namespace = "given"

    def __init__(self, host: Host, keep: Callable[[Database], None]) -> None:
        keep(host.database("claudecode", migrations="clonk_claudecode.migrations"))


@attrs.define(kw_only=True)
class Recording:
    """A session's files, recorded and put back."""

    checkpoints: Checkpoints
    session: StoredSession
    turns: int = 0

    async def record(self) -> StoredCheckpoint:
        self.turns += 1
        stored = await self.checkpoints.record(self.session, node_id=f"node_{self.turns}", kind="turn", turn_id="sub_1")
        assert stored is not None
        return stored

    async def restore(self, target: StoredCheckpoint) -> StoredCheckpoint:
        restoring = await self.checkpoints.prepare_restore(self.session, target, node_id=f"node_{self.turns}")
        await restoring.restore()
        assert restoring.before is not None
        return restoring.before


@pytest.fixture
async def open_recording(tmp_path: Path, diary: Any) -> AsyncIterator[Callable[..., Any]]:
    """Give what records the files of a folder."""
    databases: list[Database] = []
    async with open_host(tmp_path / "data", activations=[lambda host: Given(host, databases.append)]):
        database = databases[0]

        async def make(folder: Path, name: str = "one", **settings: Any) -> Recording:
            session = StoredSession(
                id=f"sess_{name}",
                name=name,
                claude_session_id=f"uuid-{name}",
                working_dir=str(folder.resolve()),
                model="sonnet",
                system_prompt=None,
                permission_mode="default",
                tree_id=None,
                head_node_id=None,
                message_count=0,
                created_at=datetime.now(UTC),
                last_active_at=datetime.now(UTC),
            )
            assert await database.run(session_rows.insert_session, session)
            checkpoints = Checkpoints(
                folder=tmp_path / "data" / "checkpoints",
                database=database,
                settings=CheckpointSettings(**settings),
                roots=lambda: [(tmp_path / "roots").resolve()],
                log=diary,
            )
            return Recording(checkpoints=checkpoints, session=session)

        yield make


@pytest.fixture
async def recording(open_recording: Callable[..., Any], repo: Repo) -> Recording:
    """Records the repository of the test."""
    made: Recording = await open_recording(repo.path)
    return made
