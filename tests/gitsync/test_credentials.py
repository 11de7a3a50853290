"""Tokens and keys: handed to git for one exchange, and found nowhere afterwards. Real git over a real HTTP server."""

import base64
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from tests.gitsync.conftest import ENVIRON, OpenHost, Place, git, keep_secret

TOKEN = "planted-token-4711"


class Backend(BaseHTTPRequestHandler):
    """`git http-backend` behind basic authentication."""

    folder: Path
    seen: list[str]
    redirect: str | None = None
    cuts: bool = False

    def _answer(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        if self.redirect is not None:
            self.send_response(302)
            self.send_header("Location", self.redirect + self.path)
            self.end_headers()
            return
        expected = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.cuts and self.command == "POST" and self.path.endswith("receive-pack"):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunked() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        environ = {
            **ENVIRON, "GIT_PROJECT_ROOT": str(self.folder), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "x", "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=environ, capture_output=True, check=False)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def backend(place: Place) -> Iterator[Any]:
    git(place.bare, "config", "http.receivepack", "true")
    handler = type("Here", (Backend,), {"folder": place.bare.parent, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def settings_for(place: Place, backend: Any, **more: Any) -> dict[str, Any]:
    host = backend.url.removeprefix("http://")
    return {
        "workspaces": {"roots": [str(place.root)]},
        "gitsync": {
            "allowed_remotes": [f"{backend.url}/*"],
            "credentials": [{"host": host, "token": "forge"}],
            "network_timeout_s": 30,
            **more,
        },
    }


async def test_a_token_opens_the_remote_and_is_found_nowhere(
    open_gitsync: OpenHost, place: Place, backend: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    remote = f"{backend.url}/repo.git"
    async with open_gitsync(settings_for(place, backend)) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        assert (await host.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
        log = host.log_text
    assert set(place.refs()) == {"refs/heads/main", "refs/heads/claude/work"}
    assert TOKEN not in log
    assert not any(TOKEN in one for one in backend.seen)
    for folder in (place.work, tmp_path / "host"):
        for file in folder.rglob("*"):
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("token", ["wrong", None])
async def test_a_wrong_or_missing_token_is_told_as_such(
    open_gitsync: OpenHost, place: Place, backend: Any, tmp_path: Path, token: str | None
) -> None:
    if token is not None:
        await keep_secret(tmp_path, token)
    async with open_gitsync(settings_for(place, backend)) as host:
        remote = f"{backend.url}/repo.git"
        await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.push", path=str(place.work))
    if token is None:
        assert (caught.value.kind, caught.value.data["name"]) == ("unavailable", "forge")
    else:
        assert (caught.value.kind, caught.value.data["reason"]) == ("gitsync.remote_failed", "authentication")


async def test_a_server_that_leads_elsewhere_is_not_followed(
    open_gitsync: OpenHost, place: Place, backend: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    backend.redirect = f"{backend.url}/elsewhere"
    async with open_gitsync(settings_for(place, backend)) as host:
        remote = f"{backend.url}/repo.git"
        await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.push", path=str(place.work))
    assert caught.value.kind == "gitsync.remote_failed"
    assert not any("elsewhere" in one for one in backend.seen)


async def test_a_commit_stays_and_is_told_when_the_remote_cannot_be_reached(
    open_gitsync: OpenHost, place: Place, tmp_path: Path
) -> None:
    remote = "http://127.0.0.1:1/repo.git"
    settings = {
        "workspaces": {"roots": [str(place.root)]}, "gitsync": {"allowed_remotes": ["http://127.0.0.1:1/*"]}
    }  # fmt: skip
    async with open_gitsync(settings) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        answer = await host.client.call("gitsync.sync", path=str(place.work))
        assert (answer["status"], answer["files_changed"]) == ("committed", 1)
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.sync", path=str(place.work))
    assert caught.value.data["reason"] == "unreachable"
    assert git(place.work, "rev-list", "--count", "HEAD") == "2"


async def test_a_push_that_is_cut_off_is_finished_by_the_next_sync_without_a_second_commit(
    open_gitsync: OpenHost, place: Place, backend: Any, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    async with open_gitsync(settings_for(place, backend)) as host:
        remote = f"{backend.url}/repo.git"
        await host.client.call("gitsync.register", path=str(place.work), remote=remote, branch="main")
        (place.work / "a.txt").write_text("changed by the session\n")
        backend.cuts = True
        cut = await host.client.call("gitsync.sync", path=str(place.work))
        backend.cuts = False
        finished = await host.client.call("gitsync.sync", path=str(place.work))
    assert (cut["status"], finished["status"]) == ("committed", "pushed")
    assert finished["commit"] == cut["commit"]
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"
