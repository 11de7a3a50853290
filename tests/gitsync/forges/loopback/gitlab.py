"""GitLab's REST API v4 as documented.

https://docs.gitlab.com/api/merge_requests/ (list, create, get, update), https://docs.gitlab.com/api/users/ (by
username), https://docs.gitlab.com/api/rest/ (status codes, pagination, namespaced paths),
https://docs.gitlab.com/api/rest/authentication/,
https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/ (limits).
"""

import time
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

STATES = {"open": "opened", "closed": "closed"}


class GitLab(Forge):
    prefix = "/api/v4"
    kind = "gitlab"

    def routes(self) -> Sequence[Route]:
        project = "/projects/([^/]+)"
        return (
            ("GET", f"{project}/merge_requests", self.list),
            ("POST", f"{project}/merge_requests", self.create),
            ("GET", f"{project}/merge_requests/([0-9]+)", self.get),
            ("PUT", f"{project}/merge_requests/([0-9]+)", self.update),
            ("GET", "/users", self.list_users),
        )

    def not_found(self) -> Refused:
        return Refused(404, {"message": "404 Project Not Found"})

    def limited(self, seconds: int) -> Answer:
        headers = {
            "Retry-After": str(seconds), "RateLimit-Limit": "60", "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(int(time.time()) + seconds),
        }  # fmt: skip
        return Answer(status=429, value="Retry later\n", headers=headers)

    def check_token(self, request: Seen) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        token = request.headers.get("private-token", token if kind.lower() == "bearer" else "")
        if not token:
            raise Refused(401, {"message": "401 Unauthorized"})
        if token not in {TOKEN, READING}:
            raise Refused(
                401,
                {
                    "error": "invalid_token",
                    "error_description": "Token was revoked. You have to re-authorize from the user.",
                },
            )
        if token == READING and request.verb != "GET":
            text = "The request requires higher privileges than provided by the access token."
            raise Refused(403, {"error": "insufficient_scope", "error_description": text, "scope": "api"})

    def list(self, request: Seen, project: str) -> Answer:
        repository = self.repository(project)
        state = request.query.get("state", "all")
        found = [one for one in repository.sorted() if state in {"all", self._state(one)}]
        for name, member in (("source_branch", "head"), ("target_branch", "base")):
            if name in request.query:
                found = [one for one in found if getattr(one, member) == request.query[name]]
        page, headers = self.page(request, found)
        return Answer(value=[self._request(one, repository, project) for one in page], headers=headers)

    def create(self, request: Seen, project: str) -> Answer:
        repository = self.repository(project)
        body = members(
            request, ["source_branch", "target_branch", "title"],
            ["description", "labels", "reviewer_ids", "assignee_ids", "remove_source_branch", "squash"],
        )  # fmt: skip
        missing = [name for name in ("title", "source_branch", "target_branch") if name not in body]
        if missing:
            raise Refused(400, {"error": ", ".join(f"{name} is missing" for name in missing)})
        if len(body["title"]) > 255:
            raise Refused(400, {"message": {"title": ["is too long (maximum is 255 characters)"]}})
        head, base = body["source_branch"], body["target_branch"]
        wrong = [
            f'{side} branch "{branch}" does not exist'
            for side, branch in (("Source", head), ("Target", base))
            if repository.commit(branch) is None
        ]
        if wrong:
            raise Refused(422, {"message": wrong})
        for one in repository.pulls:
            if one.state == "open" and (one.head, one.base) == (head, base) and not one.from_fork:
                text = f"Another open merge request already exists for this source branch: !{one.number}"
                raise Refused(409, {"message": [text]})
        pull = repository.add(title=body["title"], body=body.get("description") or "", head=head, base=base)
        self._set(pull, body)
        return Answer(status=201, value=self._request(pull, repository, project))

    def get(self, request: Seen, project: str, number: str) -> Answer:
        repository, pull = self.pull(project, number)
        pull.looked = True
        return Answer(value=self._request(pull, repository, project))

    def update(self, request: Seen, project: str, number: str) -> Answer:
        repository, pull = self.pull(project, number)
        body = members(
            request, [],
            ["title", "description", "labels", "add_labels", "remove_labels", "reviewer_ids", "state_event"],
        )  # fmt: skip
        pull.title, pull.body = body.get("title", pull.title), body.get("description", pull.body)
        self._set(pull, body)
        pull.changes += 1
        return Answer(value=self._request(pull, repository, project))

    def _set(self, pull: Pull, body: dict[str, Any]) -> None:
        pull.labels = body["labels"].split(",") if "labels" in body else pull.labels
        added = body["add_labels"].split(",") if "add_labels" in body else []
        pull.labels = [*pull.labels, *(one for one in added if one not in pull.labels)]
        if "reviewer_ids" in body:
            names = {number: name for name, number in self.users.items()}
            pull.reviewers = [names[one] for one in body["reviewer_ids"]]

    def list_users(self, request: Seen) -> Answer:
        wanted = request.query["username"].lower()
        return Answer(value=[self._user(name) for name in self.users if name.lower() == wanted])

    def _state(self, pull: Pull) -> str:
        return "merged" if pull.merged else STATES[pull.state]

    def _user(self, name: str) -> dict[str, Any]:
        return {
            "id": self.users.get(name, 9), "username": name, "name": name.title(), "state": "active",
            "avatar_url": None, "web_url": f"{self.url}/{name}",
        }  # fmt: skip

    def _request(self, pull: Pull, repository: Repository, project: str) -> dict[str, Any]:
        is_draft = pull.title.lower().startswith(("draft:", "[draft]", "(draft)"))
        merges = pull.looked and pull.state == "open" and repository.merges(pull.base, pull.head)
        return {
            "id": 1000 + pull.number, "iid": pull.number, "project_id": 3, "title": pull.title,
            "description": pull.body or None, "state": self._state(pull), "created_at": pull.created_at,
            "updated_at": pull.updated_at, "merged_at": pull.updated_at if pull.merged else None,
            "target_branch": pull.base, "source_branch": pull.head, "author": self._user(pull.author),
            "assignees": [], "reviewers": [self._user(one) for one in pull.reviewers],
            "source_project_id": 4 if pull.from_fork else 3, "target_project_id": 3, "labels": pull.labels,
            "draft": is_draft, "work_in_progress": is_draft, "milestone": None,
            "merge_status": ("can_be_merged" if merges else "cannot_be_merged") if pull.looked else "unchecked",
            "detailed_merge_status": "mergeable" if merges else "unchecked",
            "has_conflicts": pull.looked and not merges,
            "sha": repository.commit(pull.head), "merge_commit_sha": None,
            "web_url": f"{self.url}/{project}/-/merge_requests/{pull.number}",
        }  # fmt: skip
