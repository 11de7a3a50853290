"""What `clonk config show` prints, and the generated reference."""

from collections.abc import Callable
from typing import Any

import yaml

from clonk_core.config.load import Loaded
from clonk_core.config.reference import reference
from clonk_core.config.settings import Settings
from clonk_core.config.show import show
from clonk_core.config.types import fields, is_section

LoadText = Callable[..., Loaded]


def test_every_value_is_shown_with_where_it_came_from(load_text: LoadText) -> None:
    text = show(load_text("server:\n  http_port: 1\n", {"CLONK_LOGGING__LEVEL": "debug"}, {"server.host": "::1"}))
    shown = text[text.index("server:") :]
    lines = {line.split(":")[0].strip(): line for line in reversed(shown.splitlines()) if "#" in line}
    assert "clonk.yaml:2" in lines["http_port"]
    assert lines["level"].endswith("# CLONK_LOGGING__LEVEL")
    assert lines["host"].endswith("# --host")
    assert lines["websocket_port"].endswith("# default")


def test_no_secret_is_shown(load_text: LoadText) -> None:
    text = "claudecode: {oauth_token: hunter2}\nstorage: {database_url: 'postgres://u:hunter2@h/x'}\n"
    loaded = load_text(text)
    assert "hunter2" not in show(loaded)
    assert "hunter2" not in repr(loaded)
    assert "********" in show(loaded)


def test_what_is_shown_is_itself_a_configuration_with_the_same_meaning(
    load_text: LoadText, specification_example: str
) -> None:
    odd = "claudecode: {env: {A: 'no', B: '4:45', 'C d': 'x # y', E: ''}, default_model: 'on'}\n"
    for text in ("", odd, specification_example.replace("secret_hash", "secret_hash")):
        loaded = load_text(text)
        shown = show(loaded).replace('"********"', '"sha256:..."')
        again = load_text(shown)
        assert again.sections == loaded.sections
        assert again.settings.server == loaded.settings.server
        assert again.settings.workspaces == loaded.settings.workspaces


def test_what_is_shown_is_yaml_with_every_setting(load_text: LoadText) -> None:
    shown = yaml.safe_load(show(load_text()))

    def check(section: type[Any], values: Any) -> None:
        for key, field in fields(section).items():
            assert key in values
            if is_section(field.type):
                check(field.type, values[key])  # type: ignore[arg-type]

    check(Settings, shown)


def test_the_reference_has_every_setting_with_its_meaning(agent_section: type[Any]) -> None:
    page = reference({"claudecode": agent_section})
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(not row.endswith("|  |") for row in rows)
    for word in ("`http_port`", "`retention_s`", "`jwks_uri`", "`max_concurrent`", "`CLAUDE_CODE_OAUTH_TOKEN`"):
        assert word in page
