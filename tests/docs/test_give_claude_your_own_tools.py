"""The how-to "give Claude your own tools" works as printed."""

import json
import re
from pathlib import Path

import pytest
import yaml

from clonk_core.plugin import Activation, Call, Caller, CallError, Forbidden, Host, method
from clonk_core.testing.host import open_host

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGE = (HOW_TO / "give-claude-your-own-tools.md").read_text()


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


async def test_the_settings_and_calls_of_the_page_are_good(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    dice = blocks("python", (HOW_TO / "write-an-activation.md").read_text())[0]
    (tmp_path / "plugins" / "dice.py").write_text(dice)
    allow, limits = (yaml.safe_load(block) for block in blocks("yaml"))
    settings = {
        "plugins": {"dir": str(tmp_path / "plugins")},
        "claudecode": {
            "tools": allow["claudecode"]["tools"] | limits["claudecode"]["tools"],
            "session": {"working_dir": "/nonexistent/clonk"},
        },
    }
    calls = re.findall(r"clonk call (claudecode\.\w+) name=gambler tools:='(.*)'", PAGE)
    assert [name for name, _ in calls] == ["claudecode.create", "claudecode.update", "claudecode.update"]
    async with open_host(tmp_path / "host", packages=["claudecode", "arbor"], settings=settings) as host:
        for name, tools in calls:
            await host.client.call(name, name="gambler", tools=json.loads(tools))
            assert (await host.client.call("claudecode.get", name="gambler"))["tools"] == json.loads(tools)
        await host.client.call("claudecode.update", name="gambler", tools=["arbor.context_search"])
        with pytest.raises(CallError) as refused:
            await host.client.call("claudecode.update", name="gambler", tools=["arbor.tree_delete"])
        assert refused.value.kind == "forbidden"


async def test_an_activation_may_refuse_sessions_tools_as_the_page_does(tmp_path: Path) -> None:
    names: dict[str, type[Activation]] = {}
    exec(blocks("python")[0], {"Activation": Activation, "Call": Call, "Forbidden": Forbidden}, names)

    class Safe(names["Safe"]):  # type: ignore[misc, valid-type]
        """Keeps something."""

        def __init__(self, host: Host) -> None:
            self.host = host
            made.append(self)

        @method(scope="read")
        async def open_it(self) -> str:
            """Open it."""
            return "gold"

    made: list[Safe] = []
    async with open_host(tmp_path / "host", activations=[Safe]) as host:
        assert await host.client.call("safe.open_it") == "gold"
        with pytest.raises(Forbidden):
            await made[0].host.call_as(Caller(id="local", scopes=frozenset({"*"})), "safe.open_it", {}, peer="test")
