"""What the operator is told at the start."""

from pathlib import Path

import attrs

from clonk_core.config.load import load


def test_a_folder_of_plugins_that_is_not_there_is_told(tmp_path: Path) -> None:
    config = tmp_path / "clonk.yaml"
    config.write_text('version: "1"\nplugins: {dir: plugs}\n')
    (notice,) = load(config, {}, {}, {}).notices
    assert (notice.path, notice.stops, notice.origin.line) == ("plugins.dir", "nothing", 2)
    (tmp_path / "plugs").mkdir()
    assert load(config, {}, {}, {}).notices == ()


@attrs.frozen(kw_only=True)
class Inner:
    key: str | None = attrs.field(default=None, metadata={"secret": True, "stored_as": "inner_key"})


@attrs.frozen(kw_only=True)
class Section:
    token: str | None = attrs.field(default=None, metadata={"secret": True, "stored_as": "a_token", "env": "A_TOKEN"})
    inner: Inner = Inner()


def test_a_secret_in_the_file_is_told_with_its_line_and_what_keeps_it_better(tmp_path: Path) -> None:
    config = tmp_path / "clonk.yaml"
    config.write_text('version: "1"\nagent:\n  token: hunter2\n  inner: {key: hunter2}\n')
    found = load(config, {}, {}, {"agent": Section}).notices
    assert [(one.path, one.stops, one.origin.line) for one in found] == [
        ("agent.token", "nothing", 3),
        ("agent.inner.key", "nothing", 4),
    ]
    assert f"{config}:3: agent.token: " in str(found[0])
    assert "clonk secrets set a_token" in found[0].message
    assert "hunter2" not in str(found)


def test_a_secret_from_the_environment_or_a_flag_is_not_told(tmp_path: Path) -> None:
    config = tmp_path / "clonk.yaml"
    config.write_text("agent: {token: hunter2}\n")
    assert load(config, {"A_TOKEN": "x"}, {}, {"agent": Section}).notices == ()
    assert load(config, {"CLONK_AGENT__TOKEN": "x"}, {}, {"agent": Section}).notices == ()
    config.write_text("agent: {token: null}\n")
    assert load(config, {}, {}, {"agent": Section}).notices == ()
