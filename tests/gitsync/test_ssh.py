"""SSH remotes: a real sshd on a loopback port serves a real repository."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_gitsync.policy import Policy
from clonk_gitsync.settings import GitSyncSettings
from tests.gitsync.conftest import OpenHost, Place, git, keep_secret

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh-keygen") is None, reason="needs sshd and ssh-keygen (openssh-server)"
)


class Sshd:
    """A server that lets in whoever has the user key, as the user who runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("host_key", "other_host_key", "user_key", "stranger_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SSHD is not None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it locks itself in there before it knows who comes
        for _ in range(5):  # somebody else may take the port meanwhile
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            config = self.folder / "config"
            config.write_text(
                f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\n"
                f"AuthorizedKeysFile {self.folder}/user_key.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
                "PermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxStartups 100\n"
                "SetEnv GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null "
                f"PATH={self.folder}/bin:/usr/local/bin:/usr/bin:/bin\n"
            )
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log)
            for _ in range(400):
                if self.process.poll() is not None:
                    break
                with socket.socket() as trial:
                    if trial.connect_ex(("127.0.0.1", self.port)) == 0:
                        return
                time.sleep(0.01)
            self.stop()
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def key(self, name: str) -> str:
        return (self.folder / name).read_text()

    def known(self, name: str) -> str:
        return f"[127.0.0.1]:{self.port} " + " ".join(self.key(f"{name}.pub").split()[:2])

    def remote(self, place: Place) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{place.bare}"

    def settings(self, place: Place, *known: str, **more: Any) -> dict[str, Any]:
        return {
            "workspaces": {"roots": [str(place.root)]},
            "gitsync": {
                "credentials": [{"host": f"127.0.0.1:{self.port}", "ssh_key": "forge"}],
                "known_hosts": [self.known(name) for name in known],
                "network_timeout_s": 60,
                **more,
            },
        }


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    server = Sshd(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def seen_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real ssh, started through a script that notes what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    seen = tmp_path / "seen"
    script = folder / "ssh"
    script.write_text(f'#!/bin/sh\n{{ printf \'%s\\n\' "$@"; env; }} >> {seen}\nexec {shutil.which("ssh")} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return seen


def files_with(folder: Path, *secrets: str) -> list[Path]:
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and any(secret.encode() in file.read_bytes() for secret in secrets)
    ]


@needs_sshd
async def test_an_ssh_key_clones_pulls_and_pushes_and_is_found_nowhere_afterwards(
    open_gitsync: OpenHost, place: Place, sshd: Sshd, tmp_path: Path, seen_ssh: Path
) -> None:
    key = sshd.key("user_key")
    await keep_secret(tmp_path, key)
    remote = sshd.remote(place)
    async with open_gitsync(sshd.settings(place, "host_key")) as host:
        clone = place.root / "clone"
        await host.client.events("gitsync.clone", path=str(clone), remote=remote)
        (clone / "a.txt").write_text("changed\n")
        answer = await host.client.call("gitsync.sync", path=str(clone))
        pulled = await host.client.call("gitsync.pull", path=str(clone), branch="main")
        log = host.log_text
    assert (answer["status"], answer["branch"]) == ("pushed", "claude/clone")
    assert pulled["updated"] is False
    assert place.refs()["refs/heads/claude/clone"] == git(clone, "rev-parse", "HEAD")
    assert place.refs()["refs/heads/main"] == place.main
    lines = key.splitlines()[1:-1]
    assert not any(line in log for line in lines)
    assert not any(line in seen_ssh.read_text() for line in lines)
    assert not files_with(clone, *lines)
    assert not files_with(tmp_path / "host", *lines)
    identity = next(line for line in seen_ssh.read_text().splitlines() if line.startswith("IdentityFile="))
    assert not Path(identity.removeprefix("IdentityFile=")).exists()


@needs_sshd
@pytest.mark.parametrize(
    ("known", "key", "reason"),
    [
        ((), "user_key", "host_key"),
        (("other_host_key",), "user_key", "host_key"),
        (("host_key",), "stranger_key", "authentication"),
        (("host_key",), None, "authentication"),
        (("host_key",), "user_key.pub", "authentication"),
    ],
    ids=["unknown host", "changed host key", "wrong key", "no credential", "no private key"],
)
async def test_what_an_ssh_server_does_not_accept_is_told_and_the_key_in_no_error(
    open_gitsync: OpenHost,
    place: Place,
    sshd: Sshd,
    tmp_path: Path,
    known: tuple[str, ...],
    key: str | None,
    reason: str,
) -> None:
    more: dict[str, Any] = {"credentials": []} if key is None else {}
    if key is not None:
        await keep_secret(tmp_path, sshd.key(key))
    async with open_gitsync(sshd.settings(place, *known, **more)) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=sshd.remote(place), branch="main")
        (place.work / "a.txt").write_text("changed\n")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.sync", path=str(place.work))
        log = host.log_text
    assert (caught.value.kind, caught.value.data["reason"]) == ("gitsync.remote_failed", reason)
    assert set(place.refs()) == {"refs/heads/main"}
    if key is not None:
        secret = max(sshd.key(key).split(), key=len)
        assert secret not in log
        assert secret not in str(caught.value)
        assert not files_with(tmp_path / "host", secret)


async def test_a_key_that_a_killed_server_has_left_behind_is_removed_at_the_next_start(
    open_gitsync: OpenHost, tmp_path: Path
) -> None:
    async with open_gitsync():
        (tools,) = tmp_path.glob("host/**/gitsync/**/tools")
    left = tools / "ssh-abc"
    left.mkdir()
    (left / "key").write_text("a private key")
    async with open_gitsync():
        assert not left.exists()
        assert tools.exists()


@needs_sshd
async def test_a_repository_that_an_ssh_server_does_not_have_is_told_as_such(
    open_gitsync: OpenHost, place: Place, sshd: Sshd, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, sshd.key("user_key"))
    async with open_gitsync(sshd.settings(place, "host_key")) as host:
        remote = f"ssh://{sshd.user}@127.0.0.1:{sshd.port}/nonexistent/x.git"
        await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.push", path=str(place.work))
    assert caught.value.data["reason"] == "not_found"


async def test_a_server_without_ssh_says_so(
    open_gitsync: OpenHost, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = shutil.which("git")
    assert program is not None
    (folder / "git").symlink_to(program)
    monkeypatch.setenv("PATH", str(folder))
    async with open_gitsync({"workspaces": {"roots": [str(place.root)]}}) as host:
        remote = "ssh://git@127.0.0.1:1/x.git"
        await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.push", path=str(place.work))
    assert caught.value.kind == "unavailable"


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("git@Git.Example.com:org/repo.git", "git.example.com"),
        ("git.example.com:org/repo.git", "git.example.com"),
        ("ssh://git@git.example.com/org/repo.git", "git.example.com"),
        ("ssh://git@git.example.com:2222/org/repo.git", "git.example.com:2222"),
        ("ssh://git@[::1]:2222/org/repo.git", "[::1]:2222"),
    ],
)
def test_the_host_of_an_ssh_remote_is_known_in_every_form(given: str, host: str) -> None:
    remote = Policy(GitSyncSettings(), ()).remote(given)
    assert (remote.protocol, remote.host, remote.url) == ("ssh", host, given)
