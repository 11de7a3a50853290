"""The page about pull requests: its configurations are taken, and its package works as printed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from clonk_core.testing.host import open_host
from clonk_gitsync.forges.interface import PullRequest
from tests.gitsync.forges.conftest import OpenWorld
from tests.gitsync.forges.loopback.forge import Answer, Forge, Refused, Route, Seen

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "open-pull-requests.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks("yaml"))
async def test_each_configuration_is_taken(tmp_path: Path, block: str) -> None:
    async with open_host(tmp_path / "host", packages=["gitsync"], settings=yaml.safe_load(block)) as host:
        assert (await host.client.call("gitsync.list")) == []


class PatchesServer(Forge):
    prefix = "/rest"
    kind = "patches"

    def routes(self) -> Sequence[Route]:
        return [("GET", "/org/repo/requests", self.list)]

    def check_token(self, request: Seen) -> None:
        assert request.headers["authorization"].startswith("Bearer ")

    def limited(self, seconds: int) -> Answer:
        return Answer(status=429, value={}, headers={"Retry-After": str(seconds)})

    def not_found(self) -> Refused:
        return Refused(404, {})

    def list(self, request: Seen) -> Answer:
        entry: dict[str, Any] = {
            **dict.fromkeys(PullRequest.__annotations__), "number": 7, "url": "u", "state": "open", "draft": False,
            "title": "t", "body": "", "head": "h", "base": "b", "labels": [], "reviewers": [],
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
        }  # fmt: skip
        return Answer(value=[entry])


async def test_the_package_that_adds_a_forge_works_as_printed(open_world: OpenWorld, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "patches.py").write_text(blocks("python")[0])
    async with open_world(PatchesServer(), committed=False, plugins_dir=tmp_path / "plugins") as world:
        page = await world.call("list_prs")
        assert [(one["number"], one["updated_at"]) for one in page["requests"]] == [(7, "2026-01-02T00:00:00Z")]
