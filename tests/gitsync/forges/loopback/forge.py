"""A forge on loopback: real bare repositories and an API. `serving.py` serves both over HTTP.

What each API takes and answers is in `github.py`, `gitlab.py` and `gitea.py`, by its documentation. Members of a
request that the documentation does not know fail the test, so that a misspelt one is found.
"""

import base64
import re
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

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


class Forge(ABC):
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

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """Return what is answered where."""

    @abstractmethod
    def check_token(self, request: Seen) -> None:
        """Refuse a request without a token that may do this."""

    @abstractmethod
    def limited(self, seconds: int) -> Answer:
        """Return the answer to one request too many."""

    @abstractmethod
    def not_found(self) -> Refused:
        """Return the refusal of what is not there."""

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


def members(request: Seen, required: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    """Return the body's members; one that the documentation does not know is a mistake of ours."""
    body: dict[str, Any] = request.body or {}
    unknown = set(body) - set(required) - set(optional)
    assert not unknown, unknown
    return body
