"""GitHub's REST API as documented, version 2022-11-28, at the address of an Enterprise Server.

https://docs.github.com/en/rest/pulls/pulls (create, list, get, update),
https://docs.github.com/en/rest/issues/labels (add), https://docs.github.com/en/rest/pulls/review-requests (request),
https://docs.github.com/en/rest/apps/apps (installation, access token),
https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api (validation errors),
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api (limits).
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import jwt

from tests.gitsync.forges.loopback.forge import (
    READING,
    TOKEN,
    Answer,
    Forge,
    Pull,
    Refused,
    Repository,
    Route,
    Seen,
    members,
)

DOCS = "https://docs.github.com/rest"


@attrs.define(kw_only=True)
class App:
    """A GitHub App that is installed for all repositories here."""

    app_id: str
    public_key: str
    installation: int = 77
    lives_s: int = 3600
    made: list[dict[str, Any]] = attrs.field(factory=list)


def problem(status: int, message: str, *errors: Any) -> Refused:
    value: dict[str, Any] = {"message": message, "documentation_url": DOCS, "status": str(status)}
    if errors:
        value["errors"] = list(errors)
    return Refused(status, value)


class GitHub(Forge):
    prefix = "/api/v3"
    kind = "github"

    def __init__(self) -> None:
        super().__init__()
        self.app: App | None = None

    def routes(self) -> Sequence[Route]:
        repo = "/repos/([^/]+)/([^/]+)"
        return (
            ("GET", f"{repo}/pulls", self.list),
            ("POST", f"{repo}/pulls", self.create),
            ("GET", f"{repo}/pulls/([0-9]+)", self.get),
            ("PATCH", f"{repo}/pulls/([0-9]+)", self.update),
            ("POST", f"{repo}/issues/([0-9]+)/labels", self.add_labels),
            ("POST", f"{repo}/pulls/([0-9]+)/requested_reviewers", self.ask),
            ("GET", f"{repo}/installation", self.installation),
            ("POST", "/app/installations/([0-9]+)/access_tokens", self.access_token),
        )

    def not_found(self) -> Refused:
        return problem(404, "Not Found")

    def limited(self, seconds: int) -> Answer:
        headers = {
            "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Used": "5000",
            "X-RateLimit-Resource": "core", "X-RateLimit-Reset": str(int(time.time()) + seconds),
        }  # fmt: skip
        return Answer(
            status=403, value={"message": "API rate limit exceeded for user ID 1.", "documentation_url": DOCS},
            headers=headers,
        )  # fmt: skip

    def secondarily_limited(self, seconds: int) -> Answer:
        text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        return Answer(
            status=403, value={"message": text, "documentation_url": DOCS}, headers={"Retry-After": str(seconds)}
        )

    def check_token(self, request: Seen) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if request.path.startswith("/app/") or request.path.endswith("/installation"):
            return self._check_app(kind, token)
        if kind.lower() not in {"bearer", "token"} or token not in {TOKEN, READING, *self._app_tokens()}:
            raise problem(401, "Bad credentials")
        if token == READING and request.verb != "GET":
            raise problem(403, "Resource not accessible by personal access token")
        return None

    # ── Pull requests ─────────────────────────────────────────────────────────

    def list(self, request: Seen, owner: str, name: str) -> Answer:
        repository = self.repository(f"{owner}/{name}")
        state = request.query.get("state", "open")
        found = repository.sorted() if request.query.get("direction") == "desc" else repository.pulls
        found = [one for one in found if state in {"all", one.state}]
        head = request.query.get("head", "")
        if ":" in head:  # one without the owner is no filter
            found = [one for one in found if f"{self._owner(one, owner)}:{one.head}" == head]
        if "base" in request.query:
            found = [one for one in found if one.base == request.query["base"]]
        page, headers = self.page(request, found)
        return Answer(value=[self._simple(one, repository, f"{owner}/{name}") for one in page], headers=headers)

    def create(self, request: Seen, owner: str, name: str) -> Answer:
        repository = self.repository(f"{owner}/{name}")
        body = members(request, ["title", "head", "base"], ["body", "draft", "maintainer_can_modify"])
        missing = [one for one in ("head", "base") if repository.commit(body.get(one, "")) is None]
        if missing or not body.get("title"):
            errors = [{"resource": "PullRequest", "field": one, "code": "invalid"} for one in missing]
            raise problem(422, "Validation Failed", *errors)
        head, base = body["head"], body["base"]
        if len(body["title"]) > 256:
            text = "title is too long (maximum is 256 characters)"
            raise problem(422, "Validation Failed", {"resource": "PullRequest", "code": "custom", "message": text})
        if len(body.get("body") or "") > 65_536:
            text = "body is too long (maximum is 65536 characters)"
            raise problem(422, "Validation Failed", {"resource": "PullRequest", "code": "custom", "message": text})
        if any(
            (one.state, one.head, one.base, one.from_fork) == ("open", head, base, False) for one in repository.pulls
        ):
            text = f"A pull request already exists for {owner}:{head}."
            raise problem(422, "Validation Failed", {"resource": "PullRequest", "code": "custom", "message": text})
        if not repository.lacks(base, head):
            text = f"No commits between {base} and {head}"
            raise problem(422, "Validation Failed", {"resource": "PullRequest", "code": "custom", "message": text})
        pull = repository.add(
            title=body["title"], body=body.get("body") or "", head=head, base=base, draft=body.get("draft", False)
        )
        return Answer(status=201, value=self._whole(pull, repository, f"{owner}/{name}"))

    def get(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        repository, pull = self.pull(f"{owner}/{name}", number)
        answer = Answer(value=self._whole(pull, repository, f"{owner}/{name}"))
        pull.looked = True  # the first look starts the work that finds out whether it can be merged
        return answer

    def update(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        repository, pull = self.pull(f"{owner}/{name}", number)
        body = members(request, [], ["title", "body", "state", "base", "maintainer_can_modify"])
        pull.title, pull.body = body.get("title", pull.title), body.get("body", pull.body)
        pull.changes += 1
        return Answer(value=self._whole(pull, repository, f"{owner}/{name}"))

    def add_labels(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        repository, pull = self.pull(f"{owner}/{name}", number)
        for label in members(request, [], ["labels"])["labels"]:
            repository.label(label)
            pull.labels += [label] if label not in pull.labels else []
        pull.changes += 1
        return Answer(value=[self._label(repository, one) for one in pull.labels])

    def ask(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        repository, pull = self.pull(f"{owner}/{name}", number)
        body = members(request, [], ["reviewers", "team_reviewers"])
        if pull.author in body.get("reviewers", []):
            raise problem(422, "Review cannot be requested from pull request author.")
        if set(body.get("reviewers", [])) - set(self.users) or set(body.get("team_reviewers", [])) - {"core"}:
            text = (
                "Reviews may only be requested from collaborators. One or more of the users or teams you specified is"
            )
            raise problem(422, f"{text} not a collaborator of the {owner}/{name} repository.")
        pull.reviewers += [one for one in body.get("reviewers", []) if one not in pull.reviewers]
        pull.teams += [one for one in body.get("team_reviewers", []) if one not in pull.teams]
        return Answer(status=201, value=self._simple(pull, repository, f"{owner}/{name}"))

    def _owner(self, pull: Pull, owner: str) -> str:
        return "stranger" if pull.from_fork else owner

    def _label(self, repository: Repository, name: str) -> dict[str, Any]:
        return {"id": repository.label(name), "name": name, "color": "ededed", "default": False, "description": None}

    def _user(self, name: str) -> dict[str, Any]:
        return {"login": name, "id": self.users.get(name, 9), "type": "User", "html_url": f"{self.url}/{name}"}

    def _end(self, pull: Pull, repository: Repository, path: str, branch: str, fork: bool) -> dict[str, Any]:
        owner, _, name = path.partition("/")
        owner = "stranger" if fork else owner
        repo = {"id": 1, "name": name, "full_name": f"{owner}/{name}", "owner": self._user(owner)}
        return {
            "label": f"{owner}:{branch}", "ref": branch, "sha": repository.commit(branch) or "0" * 40,
            "user": self._user(owner), "repo": repo,
        }  # fmt: skip

    def _simple(self, pull: Pull, repository: Repository, path: str) -> dict[str, Any]:
        return {
            "id": 1000 + pull.number, "number": pull.number, "state": pull.state, "locked": False,
            "html_url": f"{self.url}/{path}/pull/{pull.number}",
            "url": f"{self.api_url}/repos/{path}/pulls/{pull.number}",
            "title": pull.title, "body": pull.body or None, "draft": pull.draft, "user": self._user(pull.author),
            "labels": [self._label(repository, one) for one in pull.labels],
            "requested_reviewers": [self._user(one) for one in pull.reviewers],
            "requested_teams": [{"id": 5, "name": one.title(), "slug": one} for one in pull.teams],
            "created_at": pull.created_at, "updated_at": pull.updated_at,
            "closed_at": None if pull.state == "open" else pull.updated_at,
            "merged_at": pull.updated_at if pull.merged else None,
            "head": self._end(pull, repository, path, pull.head, pull.from_fork),
            "base": self._end(pull, repository, path, pull.base, fork=False),
        }  # fmt: skip

    def _whole(self, pull: Pull, repository: Repository, path: str) -> dict[str, Any]:
        known = pull.looked and pull.state == "open"
        mergeable = repository.merges(pull.base, pull.head) if known else None
        return {
            **self._simple(pull, repository, path), "merged": pull.merged, "mergeable": mergeable, "comments": 0,
            "mergeable_state": "clean" if mergeable else "unknown", "maintainer_can_modify": False,
        }  # fmt: skip

    # ── Apps ──────────────────────────────────────────────────────────────────

    def _check_app(self, kind: str, token: str) -> None:
        if self.app is None or kind.lower() != "bearer":
            raise problem(401, "A JSON web token could not be decoded")
        try:
            claims = jwt.decode(token, self.app.public_key, algorithms=["RS256"], issuer=self.app.app_id)
        except jwt.PyJWTError:
            raise problem(401, "A JSON web token could not be decoded") from None
        if claims["exp"] - time.time() > 600:
            text = "'Expiration time' claim ('exp') is too far in the future"
            raise problem(401, text)

    def installation(self, request: Seen, owner: str, name: str) -> Answer:
        self.repository(f"{owner}/{name}")
        assert self.app is not None
        return Answer(value={"id": self.app.installation, "app_id": 1, "target_type": "Organization"})

    def access_token(self, request: Seen, installation: str) -> Answer:
        assert self.app is not None
        if int(installation) != self.app.installation:
            raise self.not_found()
        body = members(request, [], ["repositories", "repository_ids", "permissions"])
        known = {path.partition("/")[2] for path in self.repositories}
        if set(body.get("repositories", [])) - known:
            raise problem(
                422, "There is at least one repository that does not exist or is not accessible to the parent"
            )
        token = f"ghs_planted{len(self.app.made):04}"
        expires = time.time() + self.app.lives_s
        self.app.made.append({"token": token, "expires": expires, "repositories": body.get("repositories")})
        self.git_tokens.add(token)
        stamp = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        value = {
            "token": token, "expires_at": stamp, "permissions": {"contents": "write", "pull_requests": "write"},
            "repository_selection": "selected",
        }  # fmt: skip
        return Answer(status=201, value=value)

    def _app_tokens(self) -> set[str]:
        made = self.app.made if self.app is not None else []
        return {one["token"] for one in made if one["expires"] > time.time()}
