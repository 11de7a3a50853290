"""What is wrong in a configuration: all of it at once, each with its place and what is allowed."""

from collections.abc import Callable

import pytest

from clonk_core.config.load import Loaded
from clonk_core.config.nodes import ConfigProblems

LoadText = Callable[..., Loaded]

ALIAS_BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 8))


@pytest.mark.parametrize(
    ("text", "line", "path", "says"),
    [
        ("server:\n  http_port: abc\n", 2, "server.http_port", "from 0 to 65535"),
        ("server:\n  http_port: 70000\n", 2, "server.http_port", "from 0 to 65535"),
        ("server:\n  http_port: '4445'\n", 2, "server.http_port", "whole number"),
        ("server:\n  http_port: 4445.0\n", 2, "server.http_port", "whole number"),
        ("server:\n  http_port: true\n", 2, "server.http_port", "whole number"),
        ("server:\n  http_port:\n", 2, "server.http_port", "an empty value"),
        ("server:\n  http_port: 4:45\n", 2, "server.http_port", "base sixty"),
        ("server:\n  http_port: 04445\n", 2, "server.http_port", "leading zero"),
        ("server:\n  http_port: 0b11\n", 2, "server.http_port", "whole number"),
        ("server:\n  http_port: [4445]\n", 2, "server.http_port", "a list is not allowed"),
        ("server:\n  hots: x\n", 2, "server.hots", "did you mean host?"),
        ("server:\n  qqq: x\n", 2, "server.qqq", "there are "),
        ("servre: {}\n", 1, "servre", "did you mean server?"),
        ("dice: {}\n", 1, "dice", "when the plugin is installed"),
        ("claudecod: {}\n", 1, "claudecod", "did you mean claudecode?"),
        ("server: 5\n", 1, "server", "a section"),
        ("server: [5]\n", 1, "server", "a section"),
        ("version: 1\n", 1, "version", 'write "1"'),
        ("version: '2'\n", 1, "version", 'allowed is "1"'),
        ("server: {host: no}\n", 1, "server.host", 'write "no"'),
        ("server: {host: 127}\n", 1, "server.host", 'write "127"'),
        ("server: {host: 2025-01-01}\n", 1, "server.host", 'write "2025-01-01"'),
        ("storage: {data_dir: ~}\n", 1, "storage.data_dir", 'write "~"'),
        ("server: {host: ''}\n", 1, "server.host", "not empty"),
        ("server: {http_port: 5, websocket_port: 5}\n", 1, "server", "must differ"),
        ("server: {call_deadline_s: 0}\n", 1, "server.call_deadline_s", "above 0"),
        ("server: {call_deadline_s: .inf}\n", 1, "server.call_deadline_s", "a number"),
        ("server: {call_deadline_s: .nan}\n", 1, "server.call_deadline_s", "a number"),
        ("server: {call_deadline_s: 1:30.5}\n", 1, "server.call_deadline_s", "a number"),
        ("server: {tls: {enabled: 1}}\n", 1, "server.tls.enabled", "true or false"),
        ("server: {tls: {enabled: 'true'}}\n", 1, "server.tls.enabled", "true or false"),
        ("server: {allowed_hosts: example.com}\n", 1, "server.allowed_hosts", "a list of texts"),
        ("server: {allowed_hosts: [a, 5]}\n", 1, "server.allowed_hosts[1]", 'write "5"'),
        ("server: {allowed_origins: [example.com]}\n", 1, "server.allowed_origins[0]", "https://app.example.com"),
        ("logging: {level: loud}\n", 1, "logging.level", "debug, info, warning or error"),
        ("logging: {level: on}\n", 1, "logging.level", 'write "on"'),
        ("workspaces:\n  mappings:\n    - path: /a\n", 3, "workspaces.mappings[0]", "remote is missing"),
        ("auth:\n  api_keys:\n    - {id: a, secret_hash: hunter2}\n", 3, "auth.api_keys[0].secret_hash", "64 hex"),
        ("auth: {jwt: {issuer: a, audience: b, jwks_uri: c}}\n", 1, "auth.jwt.jwks_uri", "https"),
        ("storage: {data_dir: 5}\n", 1, "storage.data_dir", "a path"),
        ("storage: {database_url: 'mysql://u:hunter2@h/x'}\n", 1, "storage.database_url", "postgres://"),
        ("claudecode: {session: {max_concurrent: 0}}\n", 1, "claudecode.session.max_concurrent", "from 1"),
        ("claudecode: {oauth_token: 12345}\n", 1, "claudecode.oauth_token", "text"),
        ("claudecode: {env: {A: 5}}\n", 1, "claudecode.env.A", 'write "5"'),
        ("claudecode: {env: [A]}\n", 1, "claudecode.env", "a mapping"),
        ("claudecode: {size: medium}\n", 1, "claudecode.size", "a whole number or small or large"),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_what_is_allowed(
    load_text: LoadText, text: str, line: int, path: str, says: str
) -> None:
    with pytest.raises(ConfigProblems) as caught:
        load_text(text)
    (problem,) = caught.value.problems
    assert (problem.origin.line, problem.path) == (line, path)
    assert says in problem.message
    assert "hunter2" not in str(caught.value)
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("server:\n  host: a\n  host: b\n", 3, "server.host is given twice, first on line 2"),
        ("server: [\n", 2, "not valid YAML"),
        ("server:\n\t- x\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("- server\n", 1, "must hold keys"),
        ("just text\n", 1, "must hold keys"),
        ("server: !!python/object:os.system {}\n", 1, "tag"),
        ("server:\n  host: !secret x\n", 2, "tag"),
        ("server:\n  <<: {host: a}\n", 2, "merge keys"),
        ("? [a, b]\n: c\n", 1, "plain name"),
        ("--- \na: 1\n---\nb: 2\n", 3, "not valid YAML"),
        ("server: *nobody\n", 1, "not valid YAML"),
        (ALIAS_BOMB, 1, "aliases"),
        ("a: &a [*a]\n", 1, "aliases"),
        ("a: " + "[" * 100_000 + "\n", 1, "nested deeper"),
        ("a: [" + "x," * 30_000 + "]\n", 1, "more than"),
        ("a: \x07\n", 1, "control character"),
        (b"a: b\nc: \xff\n", 2, "UTF-8"),
        ("x" * (1024 * 1024 + 1), 0, "larger than"),
        ("a: 2025-99-99\n", 1, "no such key"),
    ],
)
def test_what_is_no_proper_yaml_is_told_with_its_line(
    load_text: LoadText, text: str | bytes, line: int, says: str
) -> None:
    with pytest.raises(ConfigProblems) as caught:
        load_text(text)
    (problem,) = caught.value.problems
    assert problem.origin.line == line
    assert says in problem.message


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CLONK_SERVER__HTP_PORT", "1", "did you mean CLONK_SERVER__HTTP_PORT?"),
        ("CLONK_SERVER__HTTP_PORT", "abc", "from 0 to 65535"),
        ("CLONK_SERVER__HTTP_PORT__X", "1", "sets nothing"),
        ("CLONK_SERVER", "{host: a}", "one by one, such as CLONK_SERVER__HOST"),
        ("CLONK_WORKSPACES__ROOTS", "/srv", "a list of paths"),
        ("CLONK_WORKSPACES__ROOTS", "[/srv", "a list of paths"),
        ("CLONK_CLAUDE__X", "1", "sets nothing"),
        ("CLONK_LOGGING__LEVEL", "LOUD", "debug, info"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(load_text: LoadText, name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigProblems) as caught:
        load_text(environ={name: value})
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{name}: ")
    assert says in problem.message


def test_a_wrong_flag_is_told_by_its_name(load_text: LoadText) -> None:
    with pytest.raises(ConfigProblems, match=r"^--http-port: server\.http_port: "):
        load_text(flags={"server.http_port": "many"})


def test_all_problems_are_told_at_once_in_one_error(load_text: LoadText) -> None:
    text = "servr: {}\nserver:\n  http_port: x\n  hots: y\nclaudecode:\n  session: {timeout: -1}\n"
    with pytest.raises(ConfigProblems) as caught:
        load_text(text, {"CLONK_NO": "1"})
    places = [(problem.origin.line, problem.path) for problem in caught.value.problems]
    assert places == [
        (0, ""),
        (1, "servr"),
        (4, "server.hots"),
        (3, "server.http_port"),
        (6, "claudecode.session.timeout"),
    ]
    assert len(str(caught.value).splitlines()) == 5


def test_numbers_and_switches_may_be_written_as_yaml_has_them(load_text: LoadText) -> None:
    server = load_text(
        "server: {max_body_bytes: 0x100000, call_deadline_s: 1e3, tls: {enabled: off}}\n"
    ).settings.server
    assert (server.max_body_bytes, server.call_deadline_s, server.tls.enabled) == (1024 * 1024, 1000.0, False)
