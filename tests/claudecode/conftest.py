"""What the tests of the driver share: the real binary, a scripted model, an engine between them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import attrs
import pytest

from clonk_claudecode.engine.binary import Binary, BinaryFinder
from clonk_claudecode.engine.engine import Engine, open_engine
from clonk_claudecode.engine.outcome import TurnResult
from clonk_claudecode.engine.process_table import marked
from clonk_claudecode.engine.spec import Credential, EngineSettings, SessionSpec
from clonk_claudecode.errors import BinaryMissing
from clonk_claudecode.events import TextDelta, TurnItem
from clonk_claudecode.testing.scripted_model import ScriptedModel, scripted_model

TOKEN = "sk-ant-api03-scripted-and-worthless"


T = TypeVar("T")


class Diary:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, event: str, **members: object) -> None:
        self.lines.append(("debug", event, members))

    def info(self, event: str, **members: object) -> None:
        self.lines.append(("info", event, members))

    def warning(self, event: str, **members: object) -> None:
        self.lines.append(("warning", event, members))

    def error(self, event: str, **members: object) -> None:
        self.lines.append(("error", event, members))

    def exception(self, event: str, **members: object) -> None:
        self.lines.append(("exception", event, members))
        raise AssertionError(f"the driver failed: {event} {members}")


@attrs.frozen
class Chat:
    """What one turn gave."""

    items: list[TurnItem]
    result: TurnResult

    @property
    def streamed(self) -> str:
        """The deltas joined."""
        return "".join(item.text for item in self.items if isinstance(item, TextDelta))

    def only(self, kind: type[T]) -> list[T]:
        """The items of one class."""
        return [item for item in self.items if isinstance(item, kind)]


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own Claude Code may be read or changed."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def own_processes(tmp_path: Path) -> Callable[[], list[str]]:
    """Command lines of what this test's engines have started, at the moment of the call."""

    def find() -> list[str]:
        lines = []
        for pid in marked(""):
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if f"CLAUDE_CONFIG_DIR={tmp_path}/".encode() in environ:
                lines.append(line.replace(b"\0", b" ").decode())
        return lines

    return find


@pytest.fixture
async def claude(_home: None) -> Binary:
    try:
        return await BinaryFinder().find()
    except BinaryMissing:
        pytest.skip("needs the Claude Code binary")


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model([]) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, claude: Binary, model: ScriptedModel) -> EngineSettings:
    return EngineSettings(
        config_dir=tmp_path / "claude",
        run_dir=tmp_path / "run",
        binary_path=claude.path,
        credential=Credential(kind="api_key", secret=TOKEN),
        env={"ANTHROPIC_BASE_URL": model.base_url, "IS_SANDBOX": "1"},
        max_retries=2,
    )


@pytest.fixture
async def engine(settings: EngineSettings, diary: Diary) -> AsyncIterator[Engine]:
    async with open_engine(settings, log=diary) as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def new_spec(workspace: Path) -> Callable[..., SessionSpec]:
    """Make a session; each call another one, allowed to do everything."""

    def make(**changes: Any) -> SessionSpec:
        spec = SessionSpec(
            session_id=f"sess_{uuid4().hex}",
            claude_session_id=str(uuid4()),
            working_dir=workspace,
            permission_mode="bypassPermissions",
        )
        return attrs.evolve(spec, **changes)

    return make


@pytest.fixture
def spec(new_spec: Callable[..., SessionSpec]) -> SessionSpec:
    return new_spec()


@pytest.fixture
def chat(engine: Engine) -> Callable[..., Awaitable[Chat]]:
    """Say something and wait for the whole turn."""

    async def say(spec: SessionSpec, prompt: str, **options: Any) -> Chat:
        async with engine.turn(spec, prompt, turn_id="sub_test", prompt_uuid=str(uuid4()), **options) as turn:
            items = [item async for item in turn]
        return Chat(items, turn.result)

    return say
