"""What the engine is told about a session and about the binary's start. Plain frozen values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from clonk_claudecode.engine.isolation import Isolation


@attrs.frozen(kw_only=True)
class Ephemeral:
    """A fork of a session's conversation that is thrown away.

    Attributes:
        claude_session_id: UUID of the fork.
        at_entry: Uuid of the entry in the session's transcript at which it forks; None for the last one.
        from_nothing: Whether it sees nothing of the session's conversation, which has no finished message yet.
    """

    claude_session_id: str
    at_entry: str | None = None
    from_nothing: bool = False


@attrs.frozen(kw_only=True)
class SessionSpec:
    """One session, as far as starting its process goes.

    Attributes:
        session_id: Clonk's own id of the session (`sess_...`).
        claude_session_id: UUID of the transcript; made with the session and never changed.
        working_dir: Where Claude works, symbolic links resolved. The caller has checked that it is allowed.
        model: An alias (`sonnet`, `opus`, `haiku`) or a full name.
        system_prompt: Added to the end of Claude Code's own system prompt.
        permission_mode: `default`, `acceptEdits`, `plan`, `dontAsk`, `bypassPermissions`.
        allowed_tools: Rules of what needs no asking, in the binary's syntax; checked (tool_rules.py).
        disallowed_tools: Rules of what may never be used; they win over everything else.
        add_dirs: Folders beside the working directory that Claude may work in.
        setting_sources: Which settings of the workspace and the user are read: `user`, `project`, `local`. None by
            default, because a workspace's settings may run hooks and start servers without asking.
        max_turns: The binary ends a turn after so many calls of the API; None for no limit.
        max_budget_usd: The binary ends a turn that has cost so much by its own estimate; None for no limit.
        output_schema: JSON Schema that the answer has to fit; None for an answer in words.
        ephemeral: Set for a process that answers one prompt and leaves nothing behind.
        tools: Patterns of the methods that it was given as tools; with none, there is no server of tools.
        extra_args: Further arguments for the binary, as they are.
    """

    session_id: str
    claude_session_id: str
    working_dir: Path
    model: str = "sonnet"
    system_prompt: str | None = None
    permission_mode: str = "default"
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    add_dirs: tuple[str, ...] = ()
    setting_sources: tuple[str, ...] = ()
    max_turns: int | None = None
    max_budget_usd: float | None = None
    output_schema: Mapping[str, Any] | None = None
    ephemeral: Ephemeral | None = None
    tools: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells its process from others in the engine: several of one session when they are ephemeral."""
        return self.session_id if self.ephemeral is None else f"{self.session_id}/{self.ephemeral.claude_session_id}"


@attrs.frozen(kw_only=True)
class Credential:
    """What the binary shows to the API. It reaches the process through a pipe, never by environment or argument.

    Attributes:
        kind: An OAuth token of a subscription or an API key.
        secret: The token or key itself; kept out of `repr`.
    """

    kind: Literal["oauth_token", "api_key"]
    secret: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class EngineSettings:
    """How the engine runs its processes.

    Attributes:
        config_dir: The binary's own folder (`CLAUDE_CONFIG_DIR`) for transcripts and state; made when missing.
        run_dir: Where running processes are recorded, so that the next start can end what a crash left; made when
            missing.
        binary_path: The binary; None searches for it.
        credential: What the API is shown; None when the environment map or a gateway takes care of it.
        env: Further variables for the child, over everything else.
        max_concurrent: At most this many processes at once; each takes about 115 MB.
        session_timeout_s: An idle process is closed after this long; the session itself stays.
        capacity_wait_s: A prompt waits this long for a free place when all are busy. 10 s is within the patience of a
            client that waits for an answer.
        idle_timeout_s: A turn without a line from the binary for this long, and without a tool at work, is interrupted.
            The binary itself retries a silent API only after minutes.
        tool_timeout_s: The same while a tool is at work; the binary's own limit for a command is 10 minutes.
        interrupt_timeout_s: An interrupted turn that does not end within this time ends with its process.
        start_timeout_s: The binary must be ready this long after its start; a cold start takes about 1 s.
        max_retries: How often the binary tries an API request again.
        api_timeout_s: The binary gives up one API request after this long.
        min_free_memory_bytes: While less is left on the machine, idle processes are parked; 0 looks at nothing.
        memory_every_s: Between two such looks; a parked process should have ended by then.
        isolation: What keeps processes apart.
        data_dir: The server's data, below which lie the binary's folder and the sessions' own.
    """

    config_dir: Path
    run_dir: Path
    binary_path: Path | None = None
    credential: Credential | None = None
    env: Mapping[str, str] = attrs.field(factory=dict)
    max_concurrent: int = 10
    session_timeout_s: float = 3600.0
    capacity_wait_s: float = 10.0
    idle_timeout_s: float = 300.0
    tool_timeout_s: float = 1200.0
    interrupt_timeout_s: float = 5.0
    start_timeout_s: float = 30.0
    max_retries: int = 4
    api_timeout_s: float = 240.0
    min_free_memory_bytes: int = 0
    memory_every_s: float = 2.0
    isolation: Isolation = attrs.field(factory=Isolation)
    data_dir: Path | None = None
