"""What the operator is told at the start."""

from pathlib import Path

from clonk_core.config.load import load


def test_a_folder_of_plugins_that_is_not_there_is_told(tmp_path: Path) -> None:
    config = tmp_path / "clonk.yaml"
    config.write_text('version: "1"\nplugins: {dir: plugs}\n')
    (notice,) = load(config, {}, {}, {}).notices
    assert (notice.path, notice.stops, notice.origin.line) == ("plugins.dir", "nothing", 2)
    (tmp_path / "plugs").mkdir()
    assert load(config, {}, {}, {}).notices == ()
