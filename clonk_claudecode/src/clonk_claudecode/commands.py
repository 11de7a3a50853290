"""The commands this package adds to `clonk`. Light: what they need is imported when they run."""

from collections.abc import Sequence

from clonk_claudecode.demo.command import demo
from clonk_claudecode.terminal.command import chat
from clonk_claudecode.terminal.exchange import export_session, import_session
from clonk_core.plugin import Command


def commands() -> Sequence[Command]:
    """Return `chat`, `demo`, `export` and `import`."""
    return [
        Command(name="chat", function=chat),
        Command(name="demo", function=demo),
        Command(name="export", function=export_session),
        Command(name="import", function=import_session),
    ]
