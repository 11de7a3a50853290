"""The how-to "write an activation" works as printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.contract import check_activation
from clonk_core.testing.host import open_host

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-an-activation.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def plugins_dir(tmp_path: Path) -> Path:
    """A folder with the page's `dice.py` in it, and nothing else."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "dice.py").write_text(blocks("python")[0])
    return folder


async def test_the_example_works_as_a_single_file_plugin(tmp_path: Path, plugins_dir: Path) -> None:
    settings = {"plugins": {"dir": str(plugins_dir)}}
    async with open_host(tmp_path / "host", settings=settings) as host:
        roll = await host.client.call("dice.roll", sides=20)
        assert 1 <= roll["value"] <= roll["sides"] == 20
        events = await host.client.events("dice.stream", count=3)
        assert [event["sides"] for event in events if "sides" in event] == [6, 6, 6]
        assert events[-1]["outcome"] == "complete"
        with pytest.raises(CallError) as refused:
            await host.client.call("dice.roll", sides=1)
        assert (refused.value.kind, refused.value.data["path"]) == ("invalid_params", "$.sides")


@pytest.fixture
def clonk_dice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's package, importable as `clonk_dice`."""
    activation, _error, hooks, _tests = blocks("python")
    package = tmp_path / "src" / "clonk_dice"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "activation.py").write_text(activation)
    (package / "hooks.py").write_text(hooks)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    return package


async def test_the_package_s_hooks_offer_the_activation(tmp_path: Path, clonk_dice: Path) -> None:
    hooks = __import__("clonk_dice.hooks", fromlist=["hooks"])
    async with open_host(tmp_path / "host", plugins={"dice": hooks}) as host:
        assert (await host.client.call("dice.roll"))["sides"] == 6


async def test_the_example_keeps_the_contract(tmp_path: Path, clonk_dice: Path) -> None:
    activation = __import__("clonk_dice.activation", fromlist=["Dice"])
    await check_activation(activation.Dice, tmp_path, {"dice.stream": {"count": 3}})


def test_the_page_s_tests_pass(tmp_path: Path, clonk_dice: Path) -> None:
    *_, tests = blocks("python")
    (tmp_path / "test_dice.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\npythonpath = src\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_dice.py"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
