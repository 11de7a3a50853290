"""What a request lacks of the labels and reviewers that are wanted. What people have added stays."""

from clonk_core.plugin import JsonValue
from clonk_gitsync.forges.interface import PullRequest, WantedRequest


def lacking_labels(request: PullRequest, wanted: WantedRequest) -> list[str]:
    """Return the labels to add."""
    return [name for name in wanted.labels if name not in request.labels]


def lacking_reviewers(request: PullRequest, wanted: WantedRequest) -> list[str]:
    """Return who is to be asked yet. Capitals do not count in user names."""
    asked = {name.lower() for name in request.reviewers}
    return [name for name in wanted.reviewers if name.lower() not in asked]


def people(reviewers: list[str]) -> JsonValue:
    """Return users and teams apart, as GitHub and Gitea are asked for them; a team is shown as `organisation/team`."""
    return {
        "reviewers": [name for name in reviewers if "/" not in name],
        "team_reviewers": [name.rpartition("/")[2] for name in reviewers if "/" in name],
    }
