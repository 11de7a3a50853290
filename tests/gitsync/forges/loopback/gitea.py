"""Gitea's and Forgejo's API as documented (swagger.v1.json of either, https://docs.gitea.com/api/).

Operations repoListPullRequests, repoCreatePullRequest, repoGetPullRequest, repoEditPullRequest,
repoCreatePullReviewRequests, issueListLabels, issueCreateLabel, orgListLabels, issueAddLabel.
"""

from collections.abc import Sequence
from typing import Any

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


class Gitea(Forge):
    prefix = "/api/v1"
    kind = "gitea"
    max_page = 50
    sizes = "limit"

    def __init__(self) -> None:
        super().__init__()
        self.org_labels: dict[str, int] = {}

    def routes(self) -> Sequence[Route]:
        repo = "/repos/([^/]+)/([^/]+)"
        return (
            ("GET", f"{repo}/pulls", self.list),
            ("POST", f"{repo}/pulls", self.create),
            ("GET", f"{repo}/pulls/([0-9]+)", self.get),
            ("PATCH", f"{repo}/pulls/([0-9]+)", self.update),
            ("POST", f"{repo}/pulls/([0-9]+)/requested_reviewers", self.ask),
            ("GET", f"{repo}/labels", self.list_labels),
            ("POST", f"{repo}/labels", self.create_label),
            ("GET", "/orgs/([^/]+)/labels", self.list_org_labels),
            ("POST", f"{repo}/issues/([0-9]+)/labels", self.add_labels),
        )

    def problem(self, status: int, message: str) -> Refused:
        return Refused(status, {"message": message, "url": f"{self.url}/api/swagger"})

    def not_found(self) -> Refused:
        return Refused(
            404, {"errors": [], "message": "The target couldn't be found.", "url": f"{self.url}/api/swagger"}
        )

    def limited(self, seconds: int) -> Answer:
        # It has no limits of its own; this is what a proxy before it says.
        page = "<html><head><title>429 Too Many Requests</title></head></html>"
        return Answer(status=429, value=page, headers={"Retry-After": str(seconds)})

    def check_token(self, request: Seen) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() not in {"bearer", "token"}:
            raise self.problem(401, "token is required")
        if token not in {TOKEN, READING}:
            raise self.problem(401, "invalid username, password or token")
        if token == READING and request.verb != "GET":
            raise self.problem(403, "token does not have at least one of required scope(s): [write:repository]")

    # ── Pull requests ─────────────────────────────────────────────────────────

    def list(self, request: Seen, owner: str, name: str) -> Answer:
        repository = self.repository(f"{owner}/{name}")
        state = request.query.get("state", "open")
        found = [one for one in repository.sorted() if state in {"all", one.state}]
        page, headers = self.page(request, found)
        headers["X-Total-Count"] = str(len(found))
        return Answer(value=[self._pull(one, repository, f"{owner}/{name}") for one in page], headers=headers)

    def create(self, request: Seen, owner: str, name: str) -> Answer:
        repository = self.repository(f"{owner}/{name}")
        body = members(
            request, ["head", "base", "title"],
            ["body", "labels", "assignee", "assignees", "milestone", "due_date", "reviewers", "team_reviewers"],
        )  # fmt: skip
        for required in ("Head", "Base", "Title"):
            if not body.get(required.lower()):
                raise self.problem(422, f"[{required}]: Required")
        head, base = body["head"], body["base"]
        if head == base:
            raise self.problem(422, "Invalid PullRequest: There are no changes between the head and the base")
        if repository.commit(head) is None or repository.commit(base) is None:
            raise self.not_found()
        for one in repository.pulls:
            if one.state == "open" and (one.head, one.base, one.from_fork) == (head, base, False):
                text = "pull request already exists for these targets"
                raise self.problem(
                    409,
                    f"{text} [id: {one.number}, issue_id: {one.number}, head_repo_id: 1, base_repo_id: 1, "
                    f"head_branch: {head}, base_branch: {base}]",
                )
        names = {number: label for label, number in {**self.org_labels, **repository.labels}.items()}
        labels = [names[one] for one in body.get("labels", []) if one in names]
        pull = repository.add(title=body["title"], body=body.get("body", ""), head=head, base=base, labels=labels)
        return Answer(status=201, value=self._pull(pull, repository, f"{owner}/{name}"))

    def get(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        repository, pull = self.pull(f"{owner}/{name}", number)
        return Answer(value=self._pull(pull, repository, f"{owner}/{name}"))

    def update(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        repository, pull = self.pull(f"{owner}/{name}", number)
        body = members(request, [], ["title", "body", "base", "state", "labels", "assignees", "milestone"])
        pull.title, pull.body = body.get("title", pull.title), body.get("body", pull.body)
        pull.changes += 1
        return Answer(status=201, value=self._pull(pull, repository, f"{owner}/{name}"))

    def ask(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        _, pull = self.pull(f"{owner}/{name}", number)
        body = members(request, [], ["reviewers", "team_reviewers"])
        for one in body.get("reviewers", []):
            if one not in self.users:
                raise self.problem(404, f"user does not exist [uid: 0, name: {one}]")
            if one == pull.author:
                raise self.problem(422, "poster of pr can't be reviewer [user_id: 1, repo_id: 1]")
        for one in body.get("team_reviewers", []):
            if one != "core":
                raise self.problem(404, f"team does not exist [org_id 2, team_id 0, name: {one}]")
        pull.reviewers += [one for one in body.get("reviewers", []) if one not in pull.reviewers]
        pull.teams += [one for one in body.get("team_reviewers", []) if one not in pull.teams]
        reviews = [{"id": 1, "user": self._user(one), "state": "REQUEST_REVIEW"} for one in body.get("reviewers", [])]
        return Answer(status=201, value=reviews)

    # ── Labels ────────────────────────────────────────────────────────────────

    def list_labels(self, request: Seen, owner: str, name: str) -> Answer:
        found = self.repository(f"{owner}/{name}").labels
        page, headers = self.page(request, [self._label(label, number) for label, number in found.items()])
        return Answer(value=list(page), headers=headers)

    def list_org_labels(self, request: Seen, org: str) -> Answer:
        if not self.org_labels:
            raise self.not_found()
        return Answer(value=[self._label(label, number) for label, number in self.org_labels.items()])

    def create_label(self, request: Seen, owner: str, name: str) -> Answer:
        repository = self.repository(f"{owner}/{name}")
        body = members(request, ["name", "color"], ["description", "exclusive", "is_archived"])
        if not body.get("name") or not body.get("color"):
            raise self.problem(422, "[Color]: Required")
        return Answer(status=201, value=self._label(body["name"], repository.label(body["name"])))

    def add_labels(self, request: Seen, owner: str, name: str, number: str) -> Answer:
        repository, pull = self.pull(f"{owner}/{name}", number)
        known = {number: label for label, number in {**self.org_labels, **repository.labels}.items()}
        for one in members(request, [], ["labels"])["labels"]:
            label = known[one]
            pull.labels += [label] if label not in pull.labels else []
        return Answer(value=[self._label(one, repository.label(one)) for one in pull.labels])

    # ── Shapes ────────────────────────────────────────────────────────────────

    def _label(self, name: str, number: int) -> dict[str, Any]:
        return {"id": number, "name": name, "color": "ededed", "description": "", "exclusive": False}

    def _user(self, name: str) -> dict[str, Any]:
        return {"id": self.users.get(name, 9), "login": name, "full_name": "", "email": f"{name}@noreply.localhost"}

    def _pull(self, pull: Pull, repository: Repository, path: str) -> dict[str, Any]:
        owner, _, name = path.partition("/")
        repo = {"id": 1, "name": name, "full_name": path, "owner": self._user(owner)}
        is_draft = pull.title.upper().startswith(("WIP:", "[WIP]"))
        commit = repository.commit(pull.head) or ""
        return {
            "id": pull.number, "number": pull.number, "url": f"{self.url}/{path}/pulls/{pull.number}",
            "html_url": f"{self.url}/{path}/pulls/{pull.number}", "user": self._user(pull.author),
            "title": pull.title, "body": pull.body, "state": pull.state, "draft": is_draft, "is_locked": False,
            "labels": [self._label(one, 1) for one in pull.labels], "milestone": None, "assignees": None,
            "requested_reviewers": [self._user(one) for one in pull.reviewers] or None,
            "requested_reviewers_teams": [{"id": 5, "name": one} for one in pull.teams] or None,
            "mergeable": bool(commit) and pull.state == "open" and repository.merges(pull.base, pull.head),
            "merged": pull.merged, "merged_at": pull.updated_at if pull.merged else None,
            "head": {
                "label": pull.head, "ref": pull.head, "sha": commit, "repo": repo,
                "repo_id": 2 if pull.from_fork else 1,
            },
            "base": {
                "label": pull.base, "ref": pull.base, "sha": repository.commit(pull.base), "repo_id": 1, "repo": repo,
            },
            "merge_base": "", "created_at": pull.created_at, "updated_at": pull.updated_at, "closed_at": None,
        }  # fmt: skip
