"""A forge on loopback: a real HTTP server with real bare repositories behind `git http-backend`, and an API.

What each API takes and answers is in `github.py`, `gitlab.py` and `gitea.py`, by its documentation. Members of a
request that the documentation does not know fail the test, so that a misspelt one is found.
"""

import base64
import json
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote

import attrs

from tests.gitsync.conftest import ENVIRON, git

BOT = "clonk-bot"
TOKEN = "planted-forge-token-4711"
READING = "planted-reading-token-4712"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self.answer = Answer(status=status, value=value, headers=dict(headers or {}))


@attrs.define(kw_only=True)
class Answer:
    status: int = 200
    value: Any = None
    headers: dict[str, str] = attrs.field(factory=dict)


@attrs.define(kw_only=True)
class Seen:
    """A request to the API, for tests to look at."""

    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@attrs.define(kw_only=True)
class Pull:
    """One pull request, whatever its forge calls it."""

    number: int
    title: str
    body: str
    head: str
    base: str
    author: str = BOT
    draft: bool = False
    state: str = "open"
    merged: bool = False
    from_fork: bool = False
    labels: list[str] = attrs.field(factory=list)
    reviewers: list[str] = attrs.field(factory=list)
    teams: list[str] = attrs.field(factory=list)
    looked: bool = False
    changes: int = 0

    @property
    def created_at(self) -> str:
        return _stamp(EPOCH + timedelta(hours=self.number))

    @property
    def updated_at(self) -> str:
        return _stamp(EPOCH + timedelta(hours=self.number, minutes=self.changes))


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Repository:
    """A bare repository and its pull requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pulls: list[Pull] = []
        self.labels: dict[str, int] = {}

    def commit(self, branch: str) -> str | None:
        return git(self.folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False) or None

    def lacks(self, base: str, head: str) -> bool:
        """Tell whether `base` lacks a commit of `head`."""
        return git(self.folder, "rev-list", "--count", f"refs/heads/{base}..refs/heads/{head}") != "0"

    def merges(self, base: str, head: str) -> bool:
        words = ("git", "merge-tree", "--write-tree", f"refs/heads/{base}", f"refs/heads/{head}")
        return subprocess.run(words, cwd=self.folder, env=ENVIRON, capture_output=True, check=False).returncode == 0

    def add(self, **members: Any) -> Pull:
        pull = Pull(number=len(self.pulls) + 1, **members)
        self.pulls.append(pull)
        return pull

    def label(self, name: str) -> int:
        return self.labels.setdefault(name, len(self.labels) + 11)

    def sorted(self) -> list[Pull]:
        """Return the pull requests, the newest first."""
        return self.pulls[::-1]


Route = tuple[str, str, Callable[..., Answer]]


class Forge:
    """What is behind the server. Each kind of forge is a subclass.

    Attributes:
        repositories: By path.
        seen: Requests to the API, in order.
        next: Answers that are given instead, to requests that fit: (verb, pattern of the path, answer).
        git_tokens: What opens the repositories.
    """

    prefix: ClassVar[str]
    kind: ClassVar[str]
    max_page: ClassVar[int] = 100
    sizes: ClassVar[str] = "per_page"

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.users = {BOT: 1, "alice": 2, "bob": 3}
        self.seen: list[Seen] = []
        self.next: list[tuple[str, str, Answer]] = []
        self.git_tokens = {TOKEN}
        self.lock = threading.Lock()
        self.url = ""
        self.before: Callable[[Seen], object] | None = None

    @property
    def api_url(self) -> str:
        return f"{self.url}{self.prefix}"

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    # ── Of each kind ──────────────────────────────────────────────────────────

    def routes(self) -> Sequence[Route]:
        raise NotImplementedError

    def check_token(self, request: Seen) -> None:
        """Refuse a request without a token that may do this."""
        raise NotImplementedError

    def limited(self, seconds: int) -> Answer:
        """Return the answer to one request too many."""
        raise NotImplementedError

    def not_found(self) -> Refused:
        raise NotImplementedError

    # ── Shared ────────────────────────────────────────────────────────────────

    def answer(self, request: Seen) -> Answer:
        if self.before is not None:
            self.before(request)
        with self.lock:
            self.seen.append(request)
            for place, (verb, pattern, answer) in enumerate(self.next):
                if verb == request.verb and re.search(pattern, request.path):
                    del self.next[place]
                    return answer
            try:
                self.check_token(request)
                for verb, pattern, function in self.routes():
                    found = re.fullmatch(pattern, request.path)
                    if verb == request.verb and found is not None:
                        return function(request, *(unquote(group) for group in found.groups()))
                raise self.not_found()
            except Refused as refused:
                return refused.answer

    def repository(self, path: str) -> Repository:
        try:
            return next(one for name, one in self.repositories.items() if name.lower() == path.lower())
        except StopIteration:
            raise self.not_found() from None

    def pull(self, path: str, number: str) -> tuple[Repository, Pull]:
        repository = self.repository(path)
        for pull in repository.pulls:
            if number.isdecimal() and pull.number == int(number):
                return repository, pull
        raise self.not_found()

    def page(self, request: Seen, found: Sequence[Any]) -> tuple[Sequence[Any], dict[str, str]]:
        """Return one page, and the header `Link` as each of the forges sends it."""
        size = min(int(request.query.get(self.sizes, "30")), self.max_page)
        number = int(request.query.get("page", "1"))
        last = max(1, -(-len(found) // size))
        links = {"next": number + 1} if number < last else {}
        links |= {"last": last} if number < last else {}
        links |= {"first": 1, "prev": number - 1} if number > 1 else {}
        rest = "&".join(f"{name}={value}" for name, value in request.query.items() if name != "page")
        link = ", ".join(
            f'<{self.api_url}{request.path}?{rest}&page={page}>; rel="{name}"' for name, page in links.items()
        )
        return found[(number - 1) * size : number * size], {"Link": link} if link else {}

    def posted(self, verb: str) -> list[Seen]:
        """Return the requests of a verb."""
        return [one for one in self.seen if one.verb == verb]

    def opens_git(self, authorization: str) -> bool:
        kind, _, words = authorization.partition(" ")
        if kind != "Basic":
            return False
        return base64.b64decode(words).decode().partition(":")[2] in self.git_tokens


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


def members(request: Seen, required: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    """Return the body's members; one that the documentation does not know is a mistake of ours."""
    body: dict[str, Any] = request.body or {}
    unknown = set(body) - set(required) - set(optional)
    assert not unknown, unknown
    return body
