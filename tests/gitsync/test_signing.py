"""Signed commits: real ssh-keygen, and git's own verification."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import open_host
from tests.gitsync.conftest import ENVIRON, OpenHost, Place, git, keep_secret, let_others_in
from tests.gitsync.test_automatic import Chats

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen (openssh-client)")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, passphrase in (("key", ""), ("locked", "passphrase")):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    (folder / "allowed").write_text(f"clonk@localhost {(folder / 'key.pub').read_text()}")
    return folder


def is_good(folder: Path, keys: Path, commit: str = "HEAD") -> bool:
    words = ["git", "-c", f"gpg.ssh.allowedSignersFile={keys}/allowed", "verify-commit", commit]
    done = subprocess.run(words, cwd=folder, env=ENVIRON, capture_output=True, check=False)
    return done.returncode == 0 and b'Good "git" signature for clonk@localhost' in done.stderr


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
async def test_commits_are_signed_and_git_verifies_them(
    open_gitsync: OpenHost, place: Place, tmp_path: Path, keys: Path, object_format: str
) -> None:
    await keep_secret(tmp_path, (keys / "key").read_text(), "signing")
    work, bare = place.root / object_format, place.bare.parent / f"{object_format}.git"
    for folder, bare_word in ((work, ()), (bare, ("--bare",))):
        folder.mkdir()
        git(folder, "init", "-q", *bare_word, "-b", "main", f"--object-format={object_format}")
    path = str(work)
    async with open_gitsync(signing_key="signing") as host:
        await host.client.call("gitsync.register", path=path, remote=f"file://{bare}", branch="main")
        (work / "a.txt").write_text("one\n")
        committed = await host.client.call("gitsync.commit", path=path, message="Ein Größe\n\nand a body")
        assert is_good(work, keys)
        (work / "a.txt").write_text("two\n")
        synced = await host.client.call("gitsync.sync", path=path)
        log = host.log_text
    assert synced["status"] == "pushed"
    assert is_good(bare, keys, f"claude/{object_format}")
    assert is_good(bare, keys, committed["commit"])
    assert git(work, "log", "-1", "--format=%B", committed["commit"]) == "Ein Größe\n\nand a body"
    assert git(work, "log", "-1", "--format=%an <%ae> %cn <%ce>") == "Clonk <clonk@localhost> Clonk <clonk@localhost>"
    git(work, "fsck", "--strict")
    secret = (keys / "key").read_text().splitlines()[2]
    assert secret not in log
    for folder in (work, tmp_path / "host"):
        assert not [one for one in folder.rglob("*") if one.is_file() and secret.encode() in one.read_bytes()]


async def test_an_automatic_commit_is_signed_too(place: Place, tmp_path: Path, keys: Path) -> None:
    await keep_secret(tmp_path, (keys / "key").read_text(), "signing")
    path, settings = str(place.work), place.settings(signing_key="signing")
    async with open_host(tmp_path / "host", activations=[Chats], packages=["gitsync"], settings=settings) as host:
        await host.client.call("gitsync.register", path=path, remote=place.remote, branch="main", auto_commit=True)
        (place.work / "a.txt").write_text("changed\n")
        await host.client.call("chats.end", session="auth", working_dir=path, prompt="Do it")
    assert git(place.work, "rev-parse", "claude/auth^") == place.main
    assert is_good(place.work, keys, "claude/auth")


@pytest.mark.parametrize("secret", ["none", "nonsense", "public", "locked", "too long"])
async def test_what_is_no_key_stops_the_commit_and_nothing_is_moved(
    open_gitsync: OpenHost, place: Place, tmp_path: Path, keys: Path, secret: str
) -> None:
    value = {
        "nonsense": "nonsense", "public": (keys / "key.pub").read_text(),
        "locked": (keys / "locked").read_text(), "too long": "x" * 20_000,
    }.get(secret)  # fmt: skip
    if value is not None:
        await keep_secret(tmp_path, value, "signing")
    async with open_gitsync(signing_key="signing") as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        for method in ("gitsync.commit", "gitsync.sync"):
            more = {"message": "x"} if method == "gitsync.commit" else {}
            with pytest.raises(CallError) as caught:
                await host.client.call(method, path=str(place.work), **more)
            assert caught.value.kind == "gitsync.signing_failed"
            assert value is None or value[:200] not in caught.value.message
    assert git(place.work, "rev-parse", "HEAD") == place.main
    assert git(place.work, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(place.work, "branch", "--list", "claude/*") == ""
    assert git(place.work, "status", "--porcelain") == "M a.txt"
    assert set(place.refs()) == {"refs/heads/main"}


async def test_without_ssh_keygen_nothing_is_committed(
    open_gitsync: OpenHost, place: Place, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_secret(tmp_path, (keys / "key").read_text(), "signing")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(folder))
    async with open_gitsync(signing_key="signing") as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.commit", path=str(place.work), message="x")
    assert caught.value.kind == "gitsync.signing_failed"
    monkeypatch.undo()
    assert git(place.work, "rev-parse", "HEAD") == place.main


async def test_a_workspaces_own_settings_neither_sign_nor_choose_the_program(
    open_gitsync: OpenHost, place: Place, tmp_path: Path, keys: Path
) -> None:
    await keep_secret(tmp_path, (keys / "key").read_text(), "signing")
    mark = tmp_path / "mark"
    script = place.root / "signer"
    script.write_text(f'#!/bin/sh\ncp "$@" /tmp 2>/dev/null\ntouch {mark}\nexit 1\n')
    script.chmod(0o755)
    for name, value in (
        ("gpg.format", "ssh"), ("gpg.ssh.program", str(script)), ("gpg.program", str(script)),
        ("gpg.ssh.defaultKeyCommand", str(script)), ("user.signingKey", str(script)), ("commit.gpgSign", "true"),
    ):  # fmt: skip
        git(place.work, "config", name, value)
    async with open_gitsync(signing_key="signing") as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        assert (await host.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
        await host.client.call("gitsync.log", path=str(place.work))
    assert not mark.exists()
    assert is_good(place.bare, keys, "claude/work")
    assert (keys / "key").read_text() not in git(place.work, "config", "--list")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
async def test_the_owner_of_a_workspace_never_has_the_key(
    open_gitsync: OpenHost, place: Place, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_secret(tmp_path, (keys / "key").read_text(), "signing")
    for file in (place.root, *place.root.rglob("*")):
        os.chown(file, 65534, 65534, follow_symlinks=False)
    let_others_in(tmp_path)
    # The real program, started through a script that notes as whom it runs and who may read the key.
    seen, script = tmp_path / "seen", tmp_path / "bin" / "ssh-keygen"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        f'echo $(id -u) $(stat -c "%u %a" "$last" "$(dirname "$last")") >> {seen}\n'
        f'exec {shutil.which("ssh-keygen")} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    async with open_gitsync(signing_key="signing") as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        assert (await host.client.call("gitsync.commit", path=str(place.work), message="x"))["made"]
    assert seen.read_text() == "0 0 600 0 700\n"
    made = git(place.work, "-c", f"safe.directory={place.work}", "rev-parse", "claude/work")
    assert "gpgsig" in git(place.work, "-c", f"safe.directory={place.work}", "cat-file", "commit", made)
    assert (place.work / ".git" / "objects" / made[:2] / made[2:]).stat().st_uid == 65534
