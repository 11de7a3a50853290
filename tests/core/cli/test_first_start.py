"""The first start: with nothing configured, with the specification's configurations, and off the loopback."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from clonk_core.config.notices import EMPTY_KEY_HASH
from tests.core.config.specification import SPECIFICATION_AUTH_EXAMPLE, SPECIFICATION_EXAMPLE

Clonk = Callable[..., Any]

PRINTED = re.compile(r"export CLONK_API_KEY=(clonk_admin_([A-Za-z0-9_-]{43}))\n")

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@attrs.frozen
class Started:
    """A server that listens.

    Attributes:
        process: Its process.
        http: Where HTTP is, with path.
        log: What it has logged until it was ready.
    """

    process: subprocess.Popen[str]
    http: str
    log: str

    def end(self) -> tuple[str, str]:
        """End it; return what it printed and all it logged."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        return out, self.log + err


Start = Callable[..., Started]


@pytest.fixture
def start(guarded: Any) -> Start:
    """Start `clonk serve` where callers are asked who they are."""

    def start_one(*arguments: str) -> Started:
        process = guarded.start("serve", *arguments)
        log = []
        for line in process.stderr:
            log.append(line)
            if '"listening"' in line:
                return Started(process, json.loads(line)["http"], "".join(log))
        raise AssertionError("".join(log))

    return start_one


def run(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as it was printed."""
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)


def curl(url: str, *flags: str) -> tuple[int, Any]:
    """Call `hub.info`; return status and answer."""
    call = '{"jsonrpc":"2.0","method":"hub.info","id":1}'
    words = ["curl", "-s", "-w", "\n%{http_code}", url, "-H", "Content-Type: application/json", "-d", call, *flags]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(answer)


@needs_curl
def test_with_nothing_configured_a_key_is_printed_once_with_a_call_to_paste(
    guarded: Any, start: Start, clonk: Clonk
) -> None:
    server = start()
    text = ""
    while "clonk keys revoke admin" not in text:
        line = server.process.stdout.readline()  # type: ignore[union-attr]
        assert line
        text += line
    found = PRINTED.search(text)
    assert found is not None
    [command] = [line for line in text.splitlines() if line.strip().startswith("curl ")]
    done = run(command)
    assert json.loads(done.stdout)["result"]["name"] == "clonk"
    rest, log = server.end()
    assert rest == ""
    assert found[2] not in log
    kept = b"".join(path.read_bytes() for path in (guarded.folder / "data").rglob("*") if path.is_file())
    assert found[2].encode() not in kept

    again = start()
    assert curl(again.http, "-H", f"Authorization: Bearer {found[1]}")[0] == 200
    out, log = again.end()
    assert (out, found[2] in log) == ("", False)
    key = clonk("keys", "show", "admin").json
    assert (key["state"], key["scopes"], key["description"]) == ("good", ["*"], "made at first start")
    [row] = clonk("audit", "tail", "--json", "--kind", "key").lines
    assert (row["action"], row["target"]) == ("keys.create", "admin")


def test_with_a_key_or_tokens_or_without_authentication_none_is_made(guarded: Any, start: Start, clonk: Clonk) -> None:
    assert clonk("keys", "create", "mine", "--scope", "arbor:read").code == 0
    assert start().end()[0] == ""
    jwt = {"issuer": "https://id.invalid", "audience": "clonk", "jwks_uri": "https://id.invalid/keys"}
    given = yaml.safe_load((guarded.folder / "clonk.yaml").read_text())
    for number, auth in enumerate(({"enabled": False}, {"jwt": jwt})):
        path = guarded.folder / f"{number}.yaml"
        path.write_text(yaml.safe_dump({**given, "storage": {"data_dir": f"data{number}"}, "auth": auth}))
        assert start("--config", str(path)).end()[0] == ""
        assert clonk("keys", "list", "--config", str(path)).out == ""


def test_with_every_key_taken_back_the_start_warns_and_makes_none(start: Start, clonk: Clonk) -> None:
    clonk("keys", "create", "only", "--scope", "*")
    clonk("keys", "revoke", "only")
    server = start()
    # It is said when the ports are open.
    said = next(line for line in server.process.stderr or () if '"warning"' in line)
    out, log = server.end()
    log += said
    assert out == ""
    records = [json.loads(line) for line in log.splitlines()]
    [warning] = [record["event"] for record in records if record["level"] == "warning"]
    assert "`clonk keys create`" in warning
    assert [key["id"] for key in clonk("keys", "list", "--json").lines] == ["only"]


@needs_curl
def test_off_the_loopback_there_must_be_a_key_first(guarded: Any, start: Start, clonk: Clonk) -> None:
    refused = clonk("serve", "--host", "0.0.0.0")
    assert (refused.code, refused.out) == (2, "")
    [heading, problem] = [line for line in refused.err.splitlines() if not line.startswith("{")]
    assert heading == "clonk: the configuration is wrong:"
    assert "server.host" in problem
    assert "clonk keys create admin --scope '*'" in problem
    assert "Traceback" not in refused.err

    key = clonk("keys", "create", "admin", "--scope", "*").out.strip()
    server = start("--host", "0.0.0.0")
    url = server.http.replace("0.0.0.0", "127.0.0.1")
    bearer = ("-H", f"Authorization: Bearer {key}")
    assert curl(url)[0] == 401
    for name in ("127.0.0.1", "localhost", "0.0.0.0"):
        assert curl(url, *bearer, "-H", f"Host: {name}")[0] == 200
    status, answer = curl(url, *bearer, "-H", "Host: rebound.example.com")
    assert (status, answer["error"]["data"]["kind"]) == (421, "forbidden")
    assert server.end()[0] == ""


def test_off_the_loopback_nobody_goes_unasked(clonk: Clonk, guarded: Any) -> None:
    refused = clonk("serve", "--host", "0.0.0.0", environ={"CLONK_AUTH__ENABLED": "false"})
    assert (refused.code, refused.out) == (2, "")
    assert "auth.enabled" in refused.err
    assert len(refused.err.splitlines()) == 2
    assert clonk("config", "check", "--host", "0.0.0.0", environ={"CLONK_AUTH__ENABLED": "false"}).code == 2


# ── the specification's configurations ───────────────────────────────────────


@pytest.fixture(params=[SPECIFICATION_EXAMPLE, SPECIFICATION_AUTH_EXAMPLE], ids=["whole", "auth"])
def example(request: pytest.FixtureRequest) -> str:
    """Each of the specification's configurations, as printed."""
    return str(request.param)


def test_the_specification_s_configurations_load_as_printed(clonk: Clonk, guarded: Any, example: str) -> None:
    path = guarded.folder / "printed.yaml"
    path.write_text(example)
    checked = clonk("config", "check", "--config", str(path))
    assert (checked.code, checked.err) == (0, "")
    notes = [line for line in checked.out.splitlines() if "placeholder" in line]
    assert len(notes) == example.count("secret_hash")
    assert all("secret_hash: is a placeholder and will never let anyone in" in note for note in notes)


@needs_curl
def test_nobody_gets_in_with_the_specification_s_placeholders(
    clonk: Clonk, guarded: Any, start: Start, example: str
) -> None:
    given = yaml.safe_load(example)
    given["server"] = {**given.get("server", {}), "host": "127.0.0.1", "http_port": 0, "websocket_port": 0}
    given["storage"] = {"data_dir": str(guarded.folder / "data")}
    given["logging"] = {"format": "json"}
    given["metrics"] = {"enabled": True, "port": 0}
    path: Path = guarded.folder / "printed.yaml"
    path.write_text(yaml.safe_dump(given))
    server = start("--config", str(path))
    assert server.log.count("is a placeholder") == example.count("secret_hash")
    for words in ("", " ", "...", "sha256:...", EMPTY_KEY_HASH, EMPTY_KEY_HASH.removeprefix("sha256:"), "default"):
        for header in (f"Authorization: Bearer {words}", f"Authorization: {words}"):
            assert curl(server.http, "-H", header)[0] == 401, header
    states = {key["id"]: key["state"] for key in clonk("keys", "list", "--json", "--config", str(path)).lines}
    assert set(states.values()) - {"good"} == {"placeholder"}
    out, _ = server.end()
    # Tokens let someone in, where the example has them; without, a first key is made.
    assert (PRINTED.search(out) is None) == ("jwt" in given["auth"])
    assert ("admin" in states) == ("jwt" not in given["auth"])


def test_the_specification_s_whole_configuration_asks_for_a_key_before_it_is_served_as_printed(
    clonk: Clonk, guarded: Any
) -> None:
    text = SPECIFICATION_EXAMPLE.replace("4444", "0").replace("4445", "0").replace("9090", "0")
    (guarded.folder / "printed.yaml").write_text(text.replace("/var/clonk", str(guarded.folder / "data")))
    refused = clonk("serve", "--config", "printed.yaml")
    assert (refused.code, refused.out) == (2, "")
    assert "clonk keys create admin" in refused.err
