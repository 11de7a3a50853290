"""What the HTTP port serves beside `/mcp`."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from clonk_core.web.pages import make_pages


class Checks:
    """The state of the host's parts, as the test sets it."""

    def __init__(self) -> None:
        self.states = {"clonk.db": "ok"}

    async def __call__(self) -> Mapping[str, str]:
        return self.states


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
async def client(serving: Any, new_door: Any, checks: Checks) -> AsyncIterator[httpx.AsyncClient]:
    pages = make_pages(new_door(), checks, version="1.2.3")
    async with serving(pages=pages) as served, httpx.AsyncClient(base_url=served.http_url, timeout=20) as found:
        yield found


async def test_health_says_that_the_process_lives(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": "1.2.3"}
    assert (await client.head("/health")).content == b""
    assert (await client.post("/health")).status_code == 405


async def test_ready_says_which_part_is_not(client: httpx.AsyncClient, checks: Checks) -> None:
    assert (await client.get("/ready")).json() == {"status": "ready", "checks": {"clonk.db": "ok"}}
    checks.states = {"clonk.db": "ok", "arbor": "cannot be opened"}
    answer = await client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["arbor"] == "cannot be opened"


async def test_the_openrpc_document_is_what_discover_answers(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openrpc.json")).json()["methods"][0]["name"] == "test.echo"


async def test_the_home_page_lists_the_methods_and_lets_nothing_foreign_in(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert "<code>test.echo</code>" in answer.text
    assert "Say it again. &lt;b&gt;&amp;" in answer.text
    assert "1.2.3" in answer.text
    nonces = {(await client.get("/")).headers["content-security-policy"] for _ in range(2)}
    assert len(nonces) == 2


async def test_an_unknown_page_is_404_and_escaped(client: httpx.AsyncClient) -> None:
    answer = await client.get("/<script>")
    assert answer.status_code == 404
    assert "<script>" not in answer.text


async def test_the_guard_holds_for_pages_too(client: httpx.AsyncClient) -> None:
    for path in ("/", "/health", "/openrpc.json"):
        assert (await client.get(path, headers={"Host": "evil.example"})).status_code == 421
        assert (await client.get(path, headers={"Origin": "https://evil.example"})).status_code == 403
