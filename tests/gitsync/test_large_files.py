"""Large files: real git-lfs, a real store. They are pointers in commits, and nothing of the workspace's LFS counts."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from clonk_gitsync.git.lfs import transfer_options
from tests.gitsync.conftest import ENVIRON, OpenHost, Place, git, keep_secret, let_others_in
from tests.gitsync.test_credentials import TOKEN, Backend, settings_for
from tests.gitsync.test_ssh import Sshd, needs_sshd, sshd

__all__ = ["sshd"]

pytestmark = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")

CONTENT = b"a large file\0" * 5000
OID = hashlib.sha256(CONTENT).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {len(CONTENT)}\n"
FILTERS = (
    *("-c", "filter.lfs.clean=git-lfs clean -- %f", "-c", "filter.lfs.smudge=git-lfs smudge -- %f"),
    *("-c", "filter.lfs.required=true"),
)
"""What `git lfs install` gives to a person's git."""
STORED = f"lfs/objects/{OID[:2]}/{OID[2:4]}/{OID}"


class Store(Backend):
    """A forge with a store for large files, as the Git LFS API says; its contents go where it tells."""

    kept: dict[str, bytes]
    url: str
    is_down: bool = False

    def do_POST(self) -> None:
        if not self.path.endswith("/info/lfs/objects/batch"):
            self._answer()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(f"{self.command} {self.path}")
        if self.is_down:
            self._say(503, {"message": "down"})
        elif not self._knows():
            self._say(401, {"message": "who are you?"}, ("WWW-Authenticate", 'Basic realm="store"'))
        else:
            wanted = json.loads(body)
            ways = {"href": f"{self.url}/store/", "header": {"X-Ticket": "4711"}}
            way = wanted["operation"]
            objects = [
                {**one, "actions": {way: {**ways, "href": ways["href"] + one["oid"]}}}
                if (one["oid"] in self.kept) == (way == "download")
                else one
                for one in wanted["objects"]
            ]
            self._say(200, {"transfer": "basic", "objects": objects})

    def do_PUT(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        good = self.headers.get("X-Ticket") == "4711" and hashlib.sha256(body).hexdigest() == oid
        if good:
            self.kept[oid] = body
        self._say(200 if good else 403, {})

    def do_GET(self) -> None:
        if not self.path.startswith("/store/"):
            self._answer()
            return
        self.seen.append(f"{self.command} {self.path}")
        content = self.kept.get(self.path.rpartition("/")[2], b"") if self.headers.get("X-Ticket") == "4711" else b""
        self.send_response(200 if content else 403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _knows(self) -> bool:
        expected = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        return self.headers.get("Authorization") in {f"Basic {expected}", "Ticket ssh"}

    def _say(self, code: int, answer: Any, *headers: tuple[str, str]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(code)
        for name, value in (*headers, ("Content-Type", "application/vnd.git-lfs+json")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def serve(folder: Path) -> Iterator[Any]:
    handler = type("Here", (Store,), {"folder": folder, "seen": [], "kept": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(place: Place) -> Iterator[Any]:
    git(place.bare, "config", "http.receivepack", "true")
    yield from serve(place.bare.parent)


@pytest.fixture
def evil(place: Place) -> Iterator[Any]:
    yield from serve(place.root.parent)


@pytest.fixture
def large(place: Place) -> Place:
    """The place, with a large file that is not committed."""
    (place.work / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (place.work / "x.bin").write_bytes(CONTENT)
    return place


async def register(host: TestHost, place: Place, remote: str) -> str:
    await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
    return str(place.work)


async def test_a_large_file_is_a_pointer_in_the_commit_and_lies_in_the_remotes_store(
    host: TestHost, large: Place
) -> None:
    path = await register(host, large, large.remote)
    diff = await host.client.call("gitsync.diff", path=path, format="files")
    assert not (large.work / ".git" / "lfs").exists()  # looking at it has left nothing
    answer = await host.client.call("gitsync.sync", path=path)
    assert [one["path"] for one in diff["files"]] == [".gitattributes", "x.bin"]
    assert (answer["status"], answer["files_changed"], diff["left_out"]) == ("pushed", 2, [])
    assert git(large.bare, "show", "claude/work:x.bin") == POINTER.strip()
    assert (large.bare / STORED).read_bytes() == CONTENT
    assert (large.work / "x.bin").read_bytes() == CONTENT
    assert (large.work / ".git" / STORED).read_bytes() == CONTENT
    os.utime(large.work / "x.bin")  # git has to look at it again
    assert (await host.client.call("gitsync.status", path=path))["status"] == "clean"
    assert (await host.client.call("gitsync.sync", path=path))["status"] == "up_to_date"
    (large.work / "a.txt").write_text("changed\n")
    assert (await host.client.call("gitsync.sync", path=path))["files_changed"] == 1
    # A person with git-lfs gets the content back.
    there = large.root.parent / "there"
    git(large.root.parent, *FILTERS, "clone", "-q", "-b", "claude/work", large.remote, str(there))
    assert (there / "x.bin").read_bytes() == CONTENT


async def test_clones_and_pulls_bring_contents(host: TestHost, large: Place) -> None:
    path = await register(host, large, large.remote)
    await host.client.call("gitsync.sync", path=path)
    clone = large.root / "clone"
    await host.client.events("gitsync.clone", path=str(clone), remote=large.remote, branch="claude/work")
    assert (clone / "x.bin").read_bytes() == CONTENT
    assert (clone / ".git" / STORED).read_bytes() == CONTENT
    assert (await host.client.call("gitsync.status", path=str(clone)))["status"] == "clean"
    (large.work / "x.bin").write_bytes(CONTENT + b"more")
    (large.work / "y.bin").write_bytes(b"another")
    await host.client.call("gitsync.sync", path=path)
    assert (await host.client.call("gitsync.pull", path=str(clone)))["updated"] is True
    assert (clone / "x.bin").read_bytes() == CONTENT + b"more"
    assert (clone / "y.bin").read_bytes() == b"another"
    assert (await host.client.call("gitsync.status", path=str(clone)))["status"] == "clean"
    git(clone, *FILTERS, "fsck")
    assert git(clone, *FILTERS, "status", "--porcelain") == ""
    left = [one for one in large.root.parent.rglob("repositories/*/lfs/objects/**/*") if one.is_file()]
    assert left == []


async def test_contents_over_the_limit_stay_pointers_and_that_is_no_change(
    open_gitsync: OpenHost, large: Place
) -> None:
    (large.work / "y.bin").write_bytes(b"another")
    async with open_gitsync() as host:
        await host.client.call("gitsync.sync", path=await register(host, large, large.remote))
    clone = large.root / "clone"
    async with open_gitsync(max_file_bytes=len(CONTENT) - 1) as host:
        await host.client.events("gitsync.clone", path=str(clone), remote=large.remote, branch="claude/work")
        assert (clone / "x.bin").read_text() == POINTER
        assert (clone / "y.bin").read_bytes() == b"another"
        assert (await host.client.call("gitsync.status", path=str(clone)))["status"] == "clean"
    async with open_gitsync() as host:
        git(clone, *FILTERS, "lfs", "pull")  # a person, or Claude
        assert (clone / "x.bin").read_bytes() == CONTENT
        assert (await host.client.call("gitsync.status", path=str(clone)))["status"] == "clean"
        (clone / "x.bin").write_text(POINTER)
        assert (await host.client.call("gitsync.sync", path=str(clone)))["status"] == "up_to_date"
        assert (await host.client.call("gitsync.status", path=str(clone)))["status"] == "clean"


async def test_a_pull_whose_contents_cannot_be_fetched_changes_nothing(
    open_gitsync: OpenHost, large: Place, store: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    async with open_gitsync(settings_for(large, store)) as host:
        path = await register(host, large, f"{store.url}/repo.git")
        await host.client.call("gitsync.sync", path=path)
        clone, other = large.root / "clone", large.root / "other"
        await host.client.events("gitsync.clone", path=str(clone), remote=f"{store.url}/repo.git", branch="claude/work")
        assert (clone / "x.bin").read_bytes() == CONTENT
        (large.work / "x.bin").write_bytes(b"new")
        (large.work / "a.txt").write_text("changed\n")
        await host.client.call("gitsync.sync", path=path)
        before = git(clone, "rev-parse", "HEAD")
        store.is_down = True
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.pull", path=str(clone))
        assert caught.value.kind == "gitsync.remote_failed"
        assert git(clone, "rev-parse", "HEAD") == before
        assert (await host.client.call("gitsync.status", path=str(clone)))["status"] == "behind"
        events = await host.client.events(
            "gitsync.clone", path=str(other), remote=f"{store.url}/repo.git", branch="claude/work"
        )
        assert "gitsync.remote_failed" in repr(events)
        assert not other.exists()
        store.is_down = False
        assert (await host.client.call("gitsync.pull", path=str(clone)))["updated"] is True
    assert (clone / "x.bin").read_bytes() == b"new"
    assert (clone / "a.txt").read_text() == "changed\n"


async def test_the_store_of_a_forge_has_the_content_before_the_branch_is_pushed(
    open_gitsync: OpenHost, large: Place, store: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    async with open_gitsync(settings_for(large, store)) as host:
        path = await register(host, large, f"{store.url}/repo.git")
        assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
        log = host.log_text
    assert store.kept == {OID: CONTENT}
    order = [one.rpartition("/")[2] for one in store.seen if one.startswith("P")]
    assert order.index(OID) < order.index("git-receive-pack")
    assert TOKEN not in log
    for file in (tmp_path / "host").rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file


async def test_a_store_that_fails_keeps_the_branch_back_and_the_next_sync_finishes(
    open_gitsync: OpenHost, large: Place, store: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    async with open_gitsync(settings_for(large, store)) as host:
        path = await register(host, large, f"{store.url}/repo.git")
        store.is_down = True
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.sync", path=path)
        assert caught.value.kind == "gitsync.remote_failed"
        assert set(large.refs()) == {"refs/heads/main"}
        store.is_down = False
        assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert store.kept == {OID: CONTENT}
    assert git(large.bare, "rev-list", "--count", "claude/work") == "2"


async def test_a_wrong_token_is_told_as_such_by_the_store_too(
    open_gitsync: OpenHost, large: Place, store: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, "wrong")
    settings = settings_for(large, store)
    async with open_gitsync(settings) as host:
        path = await register(host, large, f"{store.url}/repo.git")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.sync", path=path)
    assert caught.value.data["reason"] == "authentication"
    assert store.kept == {}


async def test_what_a_workspace_says_of_large_files_counts_nowhere(
    open_gitsync: OpenHost, large: Place, store: Any, evil: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    mark = tmp_path / "mark"
    program = large.root / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\nexec cat\n")
    program.chmod(0o755)
    url = f"{evil.url}/evil.git/info/lfs"
    named = {
        "lfs.url": url, "lfs.pushurl": url, "remote.origin.lfsurl": url, "remote.origin.lfspushurl": url,
        f"lfs.{store.url}/repo.git/info/lfs.standalonetransferagent": "mine",
        "lfs.standalonetransferagent": "mine", "lfs.customtransfer.mine.path": str(program),
        "lfs.extension.mine.clean": str(program), "lfs.extension.mine.smudge": str(program),
        "lfs.storage": str(large.root / "elsewhere"),
        "filter.lfs.clean": str(program), "filter.lfs.smudge": str(program), "filter.lfs.process": str(program),
        "credential.helper": str(program), "core.askPass": str(program), f"url.{evil.url}/.insteadOf": f"{store.url}/",
    }  # fmt: skip
    for name, value in named.items():
        git(large.work, "config", name, value)
        git(large.work, "config", "--file", ".lfsconfig", name, value)
    async with open_gitsync(settings_for(large, store)) as host:
        path = await register(host, large, f"{store.url}/repo.git")
        assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
        await host.client.call("gitsync.status", path=path)
        await host.client.call("gitsync.diff", path=path, against=large.main)
        assert (await host.client.call("gitsync.pull", path=path))["updated"] is False
        clone = large.root / "clone"
        await host.client.events("gitsync.clone", path=str(clone), remote=f"{store.url}/repo.git", branch="claude/work")
        assert (clone / "x.bin").read_bytes() == CONTENT
        assert (clone / ".lfsconfig").exists()
    assert ".lfsconfig" in git(large.bare, "ls-tree", "--name-only", "claude/work")
    assert git(large.bare, "show", "claude/work:x.bin") == POINTER.strip()
    assert not mark.exists()
    assert evil.seen == []
    assert store.kept == {OID: CONTENT}
    assert not (large.root / "elsewhere").exists()


async def test_an_extension_of_the_workspaces_lfs_stops_a_commit_and_does_not_run(
    host: TestHost, large: Place, tmp_path: Path
) -> None:
    path = await register(host, large, large.remote)
    (large.work / ".lfsconfig").write_text(f'[lfs "extension.mine"]\n\tclean = touch {tmp_path}/mark\n\tpriority = 0\n')
    with pytest.raises(CallError) as caught:
        await host.client.call("gitsync.sync", path=path)
    assert caught.value.kind == "gitsync.git_failed"
    assert not (tmp_path / "mark").exists()
    assert git(large.work, "rev-parse", "HEAD") == large.main


async def test_contents_are_written_and_read_through_no_link_and_only_under_their_own_names(
    host: TestHost, large: Place, tmp_path: Path
) -> None:
    path = await register(host, large, large.remote)
    outside = tmp_path / "outside"
    outside.mkdir()
    (large.work / ".git" / "lfs").mkdir()
    (large.work / ".git" / "lfs" / "objects").symlink_to(outside)
    with pytest.raises(CallError) as caught:
        await host.client.call("gitsync.sync", path=path)
    assert caught.value.kind == "gitsync.git_failed"
    assert list(outside.iterdir()) == []
    assert git(large.work, "rev-parse", "HEAD") == large.main
    # A commit made by hand, with contents that are links or not what they are called.
    objects = large.work / ".git" / "lfs" / "objects"
    objects.unlink()
    secret = outside / "secret"
    secret.write_text("of the server\n")
    for number, name in enumerate((hashlib.sha256(b"of the server\n").hexdigest(), "ab" * 32)):
        target = objects / name[:2] / name[2:4] / name
        target.parent.mkdir(parents=True)
        if number == 0:
            target.symlink_to(secret)
        else:
            target.write_text("of the server\n")
        (large.work / f"{number}.bin").write_text(POINTER.replace(OID, name).replace(str(len(CONTENT)), "14"))
    (large.work / "x.bin").unlink()
    git(large.work, "add", ".")
    git(large.work, "commit", "-q", "-m", "by hand")
    assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert not [one for one in large.bare.rglob("lfs/objects/**/*") if one.is_file()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
async def test_a_root_server_takes_large_files_in_as_the_workspaces_owner(host: TestHost, large: Place) -> None:
    let_others_in(large.root)
    for file in (large.work, *large.work.rglob("*")):
        os.chown(file, 12345, 12345, follow_symlinks=False)
    path = await register(host, large, large.remote)
    assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert {file.stat().st_uid for file in large.work.rglob("*")} == {12345}
    assert (large.work / ".git" / STORED).read_bytes() == CONTENT
    assert (large.bare / STORED).read_bytes() == CONTENT


async def test_large_files_that_the_session_itself_has_committed_are_uploaded(host: TestHost, large: Place) -> None:
    path = await register(host, large, large.remote)
    git(large.work, *FILTERS, "add", ".")
    git(large.work, "commit", "-q", "-m", "by hand")
    assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert (large.bare / STORED).read_bytes() == CONTENT


async def test_large_files_can_be_switched_off(open_gitsync: OpenHost, large: Place) -> None:
    async with open_gitsync(large_files=False) as host:
        path = await register(host, large, large.remote)
        committed = await host.client.call("gitsync.commit", path=path, message="x")
    assert (committed["left_out"], committed["files_changed"]) == (["x.bin"], 1)


async def test_without_git_lfs_large_files_are_left_out_and_commits_that_hold_some_are_not_pushed(
    open_gitsync: OpenHost, large: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(large.work, *FILTERS, "add", ".")
    git(large.work, "commit", "-q", "-m", "by hand")
    (large.work / "y.bin").write_bytes(b"another")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(folder))
    async with open_gitsync() as host:
        path = await register(host, large, large.remote)
        (large.work / "a.txt").write_text("changed\n")
        committed = await host.client.call("gitsync.commit", path=path, message="x")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.push", path=path)
    assert "y.bin" in committed["left_out"]
    assert caught.value.kind == "gitsync.git_failed"
    assert "git-lfs" in caught.value.message
    assert set(large.refs()) == {"refs/heads/main"}


@needs_sshd
async def test_over_ssh_the_server_tells_the_store(
    open_gitsync: OpenHost, large: Place, store: Any, sshd: Sshd, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, sshd.key("user_key"))
    answer = {"href": f"{store.url}/repo.git/info/lfs", "header": {"Authorization": "Ticket ssh"}}
    program = sshd.folder / "bin" / "git-lfs-authenticate"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\necho \"$@\" >> {sshd.folder}/asked\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    async with open_gitsync(sshd.settings(large, "host_key")) as host:
        path = await register(host, large, sshd.remote(large))
        assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
        clone = large.root / "clone"
        await host.client.events("gitsync.clone", path=str(clone), remote=sshd.remote(large), branch="claude/work")
    assert store.kept == {OID: CONTENT}
    assert (clone / "x.bin").read_bytes() == CONTENT
    asked = (sshd.folder / "asked").read_text()
    assert f"{large.bare} upload" in asked
    assert f"{large.bare} download" in asked


@pytest.mark.parametrize(
    ("remote", "endpoint"),
    [
        ("https://example.com/org/repo", "https://example.com/org/repo.git/info/lfs"),
        ("https://example.com/org/repo.git/", "https://example.com/org/repo.git/info/lfs"),
        ("git@example.com:org/repo.git", "https://example.com/org/repo.git"),
        ("ssh://git@example.com:2222/org/repo.git", "https://example.com/org/repo.git"),
    ],
)
def test_git_lfs_itself_takes_the_settings_for_the_store_that_they_mean(
    tmp_path: Path, remote: str, endpoint: str
) -> None:
    git(tmp_path, "init", "-q", "--bare")
    protocol = "https" if remote.startswith("https") else "ssh"
    words = [word for option in transfer_options(remote, protocol) for word in ("-c", option)]
    done = subprocess.run(["git", *words, "lfs", "env"], cwd=tmp_path, env=ENVIRON, capture_output=True, check=True)
    said = done.stdout.decode()
    assert f"Endpoint={endpoint} " in said
    assert ("SSH=git@example.com:" in said) == (protocol == "ssh")
