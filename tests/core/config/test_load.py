"""Loading: layers, paths, the specification's examples, and what this version does not do yet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clonk_core.config.load import Loaded, load, load_plugins_section
from clonk_core.config.nodes import ConfigProblems
from clonk_core.config.notices import is_loopback
from clonk_core.config.places import default_data_dir, find_config

LoadText = Callable[..., Loaded]


def test_without_file_environment_and_flags_everything_is_a_default(load_text: LoadText) -> None:
    loaded = load_text()
    assert (loaded.settings.server.host, loaded.settings.server.websocket_port) == ("127.0.0.1", 4444)
    assert loaded.settings.server.http_port == 4445
    assert loaded.sections["claudecode"].session.max_concurrent == 10
    assert not loaded.origins
    assert not loaded.notices
    loaded.require_startable(listening=True)


def test_flags_win_over_the_environment_and_that_over_the_file(load_text: LoadText) -> None:
    text = "server: {http_port: 1, websocket_port: 1}\nlogging: {level: debug}\n"
    environ = {"CLONK_SERVER__HTTP_PORT": "2", "CLONK_SERVER__WEBSOCKET_PORT": "3"}
    loaded = load_text(text, environ, {"server.http_port": "4"})
    server = loaded.settings.server
    assert (server.http_port, server.websocket_port, loaded.settings.logging.level) == (4, 3, "debug")
    assert str(loaded.origins["server.http_port"]) == "--http-port"
    assert str(loaded.origins["server.websocket_port"]) == "CLONK_SERVER__WEBSOCKET_PORT"
    assert str(loaded.origins["logging.level"]).endswith("clonk.yaml:2")


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("CLONK_SERVER__HTTP_PORT", "0", lambda it: it.settings.server.http_port == 0),
        ("CLONK_SERVER__TLS__ENABLED", "true", lambda it: it.settings.server.tls.enabled is True),
        ("CLONK_WORKSPACES__ROOTS", "[/srv, /data]", lambda it: it.settings.workspaces.roots[1] == Path("/data")),
        ("CLONK_STREAMS__RETENTION_S", "1.5", lambda it: it.settings.streams.retention_s == 1.5),
        ("CLONK_CLAUDECODE__OAUTH_TOKEN", "no", lambda it: it.sections["claudecode"].oauth_token == "no"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "12345", lambda it: it.sections["claudecode"].oauth_token == "12345"),
        ("CLONK_CLAUDECODE__SESSION__MODE", "plan", lambda it: it.sections["claudecode"].session.mode == "plan"),
        ("CLONK_CLAUDECODE__SIZE", "7", lambda it: it.sections["claudecode"].size == 7),
        ("CLONK_CLAUDECODE__SIZE", "large", lambda it: it.sections["claudecode"].size == "large"),
        (
            "CLONK_CLAUDECODE__ENV__HTTPS_proxy",
            "a: b",
            lambda it: it.sections["claudecode"].env == {"HTTPS_proxy": "a: b"},
        ),
        ("CLONK_CLAUDECODE__ENV", "{A: b}", lambda it: it.sections["claudecode"].env == {"A": "b"}),
        ("CLONK_SERVER__HTTP_PORT", "", lambda it: it.settings.server.http_port == 4445),
        ("CLAUDE_CODE_OAUTH_TOKEN", "", lambda it: it.sections["claudecode"].oauth_token is None),
        ("CLONK_DEBUG", "1", lambda it: True),
    ],
)
def test_a_variable_is_read_as_its_setting_wants_it(
    load_text: LoadText, name: str, value: str, read: Callable[[Any], bool]
) -> None:
    assert read(load_text(environ={name: value}))


def test_a_variable_of_clonk_wins_over_another_programs_name_for_the_same(load_text: LoadText) -> None:
    loaded = load_text(environ={"CLONK_CLAUDECODE__OAUTH_TOKEN": "ours", "CLAUDE_CODE_OAUTH_TOKEN": "theirs"})
    assert loaded.sections["claudecode"].oauth_token == "ours"


def test_another_programs_variable_means_nothing_when_no_package_declares_it(load_text: LoadText) -> None:
    assert load_text(environ={"CLAUDE_CODE_OAUTH_TOKEN": "x"}, sections={}).sections == {}


def test_relative_paths_belong_to_the_files_folder_and_those_of_variables_to_the_working_one(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "c.yaml").write_text("storage: {data_dir: data}\nworkspaces: {roots: [~/src, '~', /abs]}\n")
    environ = {"HOME": "/users/ann", "CLONK_PLUGINS__DIR": "tools"}
    loaded = load(Path("etc/c.yaml"), environ, {}, {}, cwd=tmp_path)
    assert loaded.settings.storage.data_dir == folder / "data"
    assert loaded.settings.workspaces.roots == (Path("/users/ann/src"), Path("/users/ann"), Path("/abs"))
    assert loaded.settings.plugins.dir == tmp_path / "tools"


def test_the_file_is_looked_for_in_the_documented_order(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "CLONK_CONFIG": "named.yaml"}
    assert find_config(environ, tmp_path) == tmp_path / "named.yaml"
    del environ["CLONK_CONFIG"]
    in_user_folder = tmp_path / "xdg" / "clonk" / "clonk.yaml"
    in_user_folder.parent.mkdir(parents=True)
    in_user_folder.touch()
    assert find_config(environ, tmp_path) == in_user_folder
    (tmp_path / "clonk.yaml").touch()
    assert find_config(environ, tmp_path) == tmp_path / "clonk.yaml"


@pytest.mark.parametrize("named", ["flag", "CLONK_CONFIG"])
def test_a_file_that_was_named_and_is_missing_stops_the_start(tmp_path: Path, named: str) -> None:
    path = tmp_path / "nowhere.yaml"
    with pytest.raises(ConfigProblems, match=r"nowhere\.yaml: cannot be read"):
        if named == "flag":
            load(path, {}, {}, {}, cwd=tmp_path)
        else:
            load(None, {"CLONK_CONFIG": str(path)}, {}, {}, cwd=tmp_path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "server:\nclaudecode:\n"])
def test_empty_files_and_empty_sections_are_all_defaults(load_text: LoadText, text: str) -> None:
    assert load_text(text).settings.server == load_text().settings.server


def test_the_specifications_complete_example_is_read_and_its_placeholder_is_told(
    load_text: LoadText, specification_example: str
) -> None:
    loaded = load_text(specification_example)
    assert loaded.settings.storage.data_dir == Path("/var/clonk")
    assert loaded.sections["claudecode"].session.working_dir == Path("/workspace")
    assert loaded.settings.workspaces.mappings[0].branch == "main"
    loaded.require_startable(listening=True)
    assert {notice.path for notice in loaded.notices if notice.stops == "nothing"} == {
        "auth.api_keys[0].secret_hash",
    }


def test_the_specifications_example_of_keys_and_tokens_is_read(
    load_text: LoadText, specification_auth_example: str
) -> None:
    loaded = load_text(specification_auth_example)
    keys = loaded.settings.auth.api_keys
    assert [key.rate_limit for key in keys] == ["100/min", "1000/min"]
    assert keys[1].scopes == ("claudecode:chat", "gitsync:*")
    assert loaded.settings.auth.jwt is not None
    placeholders = ["auth.api_keys[0].secret_hash", "auth.api_keys[1].secret_hash"]
    assert [notice.path for notice in loaded.notices] == placeholders
    loaded.require_startable(listening=True)
    off = load_text(specification_auth_example + "  enabled: false\n")
    assert {notice.path for notice in off.notices} >= {"auth.api_keys", "auth.jwt"}


@pytest.mark.parametrize(
    ("text", "path", "listening_only"),
    [
        ("{auth: {enabled: false}, server: {host: 192.168.1.5}}", "server.host", True),
        ("{auth: {enabled: false}, server: {host: '::'}}", "server.host", True),
        ("{auth: {enabled: false}, server: {host: clonk.example.com}}", "server.host", True),
        ("storage: {database_url: 'postgres://u:hunter2@h/clonk'}", "storage.database_url", False),
    ],
)
def test_what_would_be_dangerous_to_pass_over_stops_the_start(
    load_text: LoadText, text: str, path: str, listening_only: bool
) -> None:
    loaded = load_text(text)
    with pytest.raises(ConfigProblems, match=r"clonk\.yaml:1") as caught:
        loaded.require_startable(listening=True)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert "hunter2" not in str(caught.value)
    if listening_only:
        loaded.require_startable(listening=False)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "")),
    ],
)
def test_only_the_machines_own_addresses_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_sections_of_plugins_that_are_not_loaded_are_passed_over(load_text: LoadText) -> None:
    loaded = load_text("broken: {anything: [1]}\n", {"CLONK_BROKEN__KEY": "1"}, sections={}, unchecked=("broken",))
    assert loaded.sections == {}


def test_the_plugins_section_is_read_whatever_stands_in_the_others(tmp_path: Path) -> None:
    path = tmp_path / "clonk.yaml"
    path.write_text("plugins: {disabled: [arbor], dir: tools}\nunheard_of: {a: 1}\nserver: {http_port: x}\n")
    section = load_plugins_section(path, {"CLONK_NO_SUCH": "1"}, {}, cwd=tmp_path)
    assert (section.disabled, section.dir) == (("arbor",), tmp_path / "tools")
    path.write_text("plugins: {disabled: arbor}\n")
    with pytest.raises(ConfigProblems, match=r"plugins\.disabled"):
        load_plugins_section(path, {}, {}, cwd=tmp_path)


def test_the_data_directory_follows_the_xdg_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clonk_core.config.places.in_container", lambda environ: False)
    assert default_data_dir({"HOME": "/users/ann"}) == Path("/users/ann/.local/share/clonk")
    assert default_data_dir({"HOME": "/users/ann", "XDG_DATA_HOME": "/data"}) == Path("/data/clonk")
    # The XDG specification: a relative path is to be ignored.
    assert default_data_dir({"HOME": "/users/ann", "XDG_DATA_HOME": "data"}) == Path("/users/ann/.local/share/clonk")


@pytest.mark.parametrize("usable", [True, False])
def test_in_a_container_the_data_directory_is_var_clonk_when_it_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    volume = tmp_path / "volume" if usable else tmp_path / "missing" / "volume"
    monkeypatch.setattr("clonk_core.config.places.CONTAINER_DATA_DIR", volume)
    found = default_data_dir({"HOME": "/users/ann", "container": "podman"})
    assert found == (volume if usable else Path("/users/ann/.local/share/clonk"))


def test_a_key_of_a_tenant_that_is_not_there_yet_is_told(load_text: LoadText) -> None:
    entry = "{id: a, secret_hash: 'sha256:" + "0" * 64 + "', tenant: %s}"
    told = load_text("auth: {api_keys: [%s]}\n" % (entry % "other")).notices
    assert [notice.path for notice in told] == ["auth.api_keys[0].tenant"]
    assert load_text("auth: {api_keys: [%s]}\n" % (entry % "default")).notices == ()
