"""The how-to "configure Clonk" shows settings that exist, and names the variables and flags that set them."""

import re
from pathlib import Path

import pytest
import yaml

from clonk_claudecode.settings import ClaudeCodeSettings
from clonk_core.config.load import load
from clonk_gitsync.settings import GitSyncSettings

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in sorted(PAGES.glob("*.md"))
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_is_a_configuration_that_starts(block: str, tmp_path: Path) -> None:
    path = tmp_path / "clonk.yaml"
    path.write_text(block)
    (tmp_path / "plugins").mkdir()  # which the examples name
    loaded = load(path, {}, {}, {"claudecode": ClaudeCodeSettings, "gitsync": GitSyncSettings})
    loaded.require_startable(listening=True)
    assert loaded.notices == ()
    assert {key.split(".")[0] for key in loaded.origins} == set(yaml.safe_load(block))


def test_the_variables_that_are_named_exist(tmp_path: Path) -> None:
    page = (PAGES / "configure.md").read_text()
    named = dict(re.findall(r"\b(CLONK_\w+__\w+)=(\S+?)`", page))
    assert named
    loaded = load(None, named, {}, {"claudecode": ClaudeCodeSettings}, cwd=tmp_path)
    assert len(loaded.origins) == len(named)
