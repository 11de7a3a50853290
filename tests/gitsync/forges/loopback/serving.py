"""Serves a forge over real HTTP: its API, and its repositories by `git http-backend` with basic authentication."""

import json
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from tests.gitsync.conftest import ENVIRON
from tests.gitsync.forges.loopback.forge import Forge, Seen


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    forge: Forge

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _any(self) -> None:
        body = self._body()
        path, _, query = self.path.partition("?")
        if path.startswith(f"{self.forge.prefix}/"):
            self._api(path.removeprefix(self.forge.prefix), query, body)
        else:
            self._git(path, query, body)

    def _api(self, path: str, query: str, body: bytes) -> None:
        value: Any = None
        if body:
            assert self.headers["Content-Type"] == "application/json"
            value = json.loads(body)
            assert isinstance(value, dict)
        headers = {name.lower(): text for name, text in self.headers.items()}
        assert headers.get("user-agent"), "every forge wants one"
        answer = self.forge.answer(
            Seen(verb=self.command, path=path, query=dict(parse_qsl(query)), headers=headers, body=value)
        )
        if answer.status == 0:  # the network is cut
            self.close_connection = True
            return
        is_text = isinstance(answer.value, str)
        text = answer.value if is_text else json.dumps(answer.value) if answer.value is not None else ""
        kind = "text/plain" if is_text else "application/json; charset=utf-8"
        self._send(answer.status, {"Content-Type": kind, **answer.headers}, text.encode())

    def _git(self, path: str, query: str, body: bytes) -> None:
        if not self.forge.opens_git(self.headers.get("Authorization", "")):
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return
        name = next((one for one in self.forge.repositories if path.startswith((f"/{one}.git/", f"/{one}/"))), None)
        if name is None:
            self._send(404, {}, b"")
            return
        folder = self.forge.repositories[name].folder
        rest = path.removeprefix(f"/{name}").removeprefix(".git")
        environ = {
            **ENVIRON, "GIT_PROJECT_ROOT": str(folder.parent), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{folder.name}{rest}", "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "REMOTE_USER": "x", "REMOTE_ADDR": "127.0.0.1", "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=environ, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self._send(int(fields.pop("Status", "200").split()[0]), fields, content)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._any()

    def do_POST(self) -> None:
        self._any()

    def do_PUT(self) -> None:
        self._any()

    def do_PATCH(self) -> None:
        self._any()

    def log_message(self, *arguments: Any) -> None:
        pass


class Server:
    """Serves a forge on a port of its own while the context lasts."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge

    def __enter__(self) -> Forge:
        handler = type("Here", (_Handler,), {"forge": self.forge})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.forge.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self.forge

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
