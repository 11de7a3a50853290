"""`clonk config` and `clonk doctor`."""

import socket
from collections.abc import Callable
from typing import Any

Clonk = Callable[..., Any]


def test_a_right_configuration_is_told_to_be_right(clonk: Clonk) -> None:
    done = clonk("config", "check")
    assert (done.code, done.err) == (0, "")
    assert "clonk.yaml: the configuration is right" in done.out


def test_problems_are_told_with_file_and_line_and_code_2(clonk: Clonk, place: Any) -> None:
    (place.folder / "clonk.yaml").write_text("server:\n  http_port: many\n  hots: x\n")
    for arguments in (("config", "check"), ("config", "show"), ("serve",), ("stdio",)):
        done = clonk(*arguments)
        assert (done.code, done.out) == (2, "")
        assert "clonk.yaml:2: server.http_port: " in done.err
        assert "clonk.yaml:3: server.hots: there is no such key; did you mean host?" in done.err


def test_a_named_file_is_used_and_flags_and_variables_are_checked_too(clonk: Clonk, place: Any) -> None:
    (place.folder / "other.yaml").write_text("logging: {level: loud}\n")
    assert "other.yaml:1: logging.level" in clonk("config", "check", "--config", "other.yaml").err
    assert "--http-port: server.http_port" in clonk("config", "check", "--http-port", "x").err
    assert "CLONK_SERVER__HTP_PORT" in clonk("config", "check", environ={"CLONK_SERVER__HTP_PORT": "1"}).err
    assert "nowhere.yaml: cannot be read" in clonk("config", "check", "--config", "nowhere.yaml").err


def test_what_is_missing_is_told_and_what_would_be_dangerous_stops(clonk: Clonk, place: Any) -> None:
    (place.folder / "clonk.yaml").write_text("server: {host: 0.0.0.0}\nplugins: {dir: /nonexistent/clonk}\n")
    done = clonk("config", "check")
    assert done.code == 2
    assert "note: clonk.yaml:2: plugins.dir" in done.out
    assert "clonk.yaml:1: server.host" in done.err
    started = clonk("serve")
    assert started.code == 2
    assert "clonk.yaml:1: server.host" in started.err


def test_the_configuration_is_shown_with_origins_and_without_secrets(clonk: Clonk, place: Any) -> None:
    (place.folder / "clonk.yaml").write_text(
        "server:\n  http_port: 0\nstorage: {database_url: 'postgres://u:hunter2@h/x'}\n"
    )
    done = clonk("config", "show", "--log-level", "debug", environ={"CLAUDE_CODE_OAUTH_TOKEN": "hunter2"})
    assert done.code == 0
    lines = {line.split(":")[0].strip(): line for line in done.out.splitlines()}
    assert lines["http_port"].endswith("# clonk.yaml:2")
    assert lines["level"].endswith("# --log-level")
    assert lines["oauth_token"].endswith("# CLAUDE_CODE_OAUTH_TOKEN")
    assert "hunter2" not in done.out + done.err


def test_the_doctor_finds_everything_in_order(clonk: Clonk) -> None:
    done = clonk("doctor")
    assert (done.code, done.err) == (0, "")
    for name in ("Python", "configuration", "plugins", "data directory", "git"):
        assert f"ok       {name}: " in done.out


def test_the_doctor_names_what_does_not_work_and_what_to_do(clonk: Clonk, place: Any) -> None:
    (place.folder / "data").write_text("in the way")
    (place.folder / "plugins" / "broken.py").write_text("raise OSError('no')")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = clonk("doctor", "--http-port", str(taken.getsockname()[1]), environ={"PATH": "/nowhere"})
    assert done.code == 1
    for name in ("plugins: broken", "data directory", "server.http_port", "git"):
        assert f"FAILED   {name}: " in done.out


def test_the_doctor_knows_a_running_clonk_from_another_program(clonk: Clonk, served: Any) -> None:
    http_port, websocket_port = (url.split(":")[2].split("/")[0] for url in (served.url, served.websocket_url))
    done = clonk("doctor", "--http-port", http_port, "--websocket-port", websocket_port)
    assert f"ok       server.http_port: {http_port}, a Clonk is running there" in done.out
    assert f"ok       server.websocket_port: {websocket_port}, a Clonk is running there" in done.out


def test_the_doctor_goes_on_when_the_configuration_is_wrong(clonk: Clonk, place: Any) -> None:
    (place.folder / "clonk.yaml").write_text("servr: {}\n")
    done = clonk("doctor", environ={"XDG_DATA_HOME": str(place.folder)})
    assert done.code == 1
    assert "FAILED   configuration: clonk.yaml:1: servr" in done.out
    assert "git: " in done.out


def test_a_plugins_check_that_breaks_has_failed_and_the_others_go_on(clonk: Clonk, place: Any) -> None:
    (place.folder / "plugins" / "checks.py").write_text(
        "from clonk_core.plugin import Check, CheckResult, hookimpl\n"
        "async def good(): return CheckResult(state='warning', message='so so', fix='do this')\n"
        "async def bad(): raise OSError('broken')\n"
        "@hookimpl\n"
        "def clonk_checks(settings):\n"
        "    return [Check(name='bad one', function=bad), Check(name='good one', function=good)]\n"
    )
    done = clonk("doctor")
    assert done.code == 1
    assert "FAILED   bad one: the check itself broke, OSError: broken" in done.out
    assert "warning  good one: so so" in done.out
    assert "do this" in done.out
