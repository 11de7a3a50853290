"""The section `claudecode` of `clonk.yaml`."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

import attrs

from clonk_claudecode.engine.tool_rules import MAX_RULE_CHARS, MAX_RULES, complaint
from clonk_claudecode.tools.patterns import ToolPattern
from clonk_core.plugin import Ge, Gt, Le, MaxLen, Pattern

Model = Annotated[
    str,
    MaxLen(200),
    Pattern(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*", "`sonnet`, `opus`, `haiku`, or a model's full name"),
]

TurnSeconds = Annotated[float, Gt(0), Le(604_800)]
TurnCalls = Annotated[int, Ge(1), Le(10_000)]
TurnBudget = Annotated[float, Ge(0.000_001), Le(1_000_000)]

STORED_OAUTH_TOKEN: Final = "claude_oauth_token"
STORED_API_KEY: Final = "anthropic_api_key"
"""What the credentials are called that `clonk secrets` keeps."""

_REFERENCE: Final = re.compile(r"\$\{secret:(?![A-Za-z][A-Za-z0-9_-]{0,63}\})")
"""The beginning of a reference to a secret that no secret can have as its name."""

ToolRule = Annotated[str, MaxLen(MAX_RULE_CHARS)]

PermissionMode = Literal["default", "acceptEdits", "plan", "dontAsk", "bypassPermissions"]


@attrs.frozen(kw_only=True)
class SessionSettings:
    """Session defaults.

    Attributes:
        timeout: Seconds without a prompt after which a session's process is closed. Nothing is lost: the next prompt
            resumes it, about a second later than a warm one would answer.
        max_concurrent: At most this many sessions have a process at the same time. Each takes about 115 MB.
        min_free_memory_bytes: While less memory than this is left on the machine, or in the server's control group,
            processes without a turn are closed, the one idle longest first; 0 for never.
        working_dir: Where a session works that does not say otherwise, and allowed for all that do. When it does not
            exist, a session gets a folder of its own under `<data_dir>/workspaces`.
        permission_mode: What a session may do without asking: `default` asks before it changes anything,
            `acceptEdits` edits files in its working directory, `plan` only reads, `dontAsk` refuses instead of asking,
            `bypassPermissions` does everything (as root the binary also wants `IS_SANDBOX: "1"` under
            `claudecode.env`). What would ask becomes a permission request, which `claudecode.permit` answers.
        allowed_tools: Rules of tools that every session uses without asking, in Claude Code's syntax: `Read`,
            `Bash(git status *)`, `mcp__server__tool`.
        disallowed_tools: Rules of tools that no session may ever use. They win over everything that a session or a
            caller allows.
        setting_sources: Which settings files of Claude Code are read: `user`, `project`, `local`. None, because a
            workspace's own settings can run commands and start servers without asking.
    """

    timeout: Annotated[float, Gt(0)] = 3600.0
    max_concurrent: Annotated[int, Ge(1), Le(1000)] = 10
    min_free_memory_bytes: Annotated[int, Ge(0)] = 256 * 1024**2
    working_dir: Path = Path("/workspace")
    permission_mode: PermissionMode = "default"
    allowed_tools: tuple[ToolRule, ...] = ()
    disallowed_tools: tuple[ToolRule, ...] = ()
    setting_sources: tuple[Literal["user", "project", "local"], ...] = ()

    def __attrs_post_init__(self) -> None:
        for name in ("allowed_tools", "disallowed_tools"):
            rules: tuple[str, ...] = getattr(self, name)
            if len(rules) > MAX_RULES:
                raise ValueError(f"{name}: at most {MAX_RULES} rules")
            for place, rule in enumerate(rules):
                wrong = complaint(rule)
                if wrong is not None:
                    raise ValueError(f"{name}[{place}]: {rule!r} {wrong}")


@attrs.frozen(kw_only=True)
class PermissionSettings:
    """What becomes of a permission request that nobody answers.

    Attributes:
        timeout_s: Seconds that a request waits for an answer. Its session keeps its process for that long, so it counts
            against `session.max_concurrent`.
        default: What is done when the time is up: `deny`, or `allow` for sessions that are watched by nobody and fenced
            in otherwise. A question of Claude's is always denied then.
    """

    timeout_s: Annotated[float, Gt(0), Le(604_800)] = 600.0
    default: Literal["deny", "allow"] = "deny"


@attrs.frozen(kw_only=True)
class TurnSettings:
    """Limits of one turn: one prompt and all that follows from it.

    Attributes:
        idle_timeout_s: Seconds without a sign of life from the binary after which the turn is interrupted. The binary
            can hang for minutes on a silent API.
        tool_timeout_s: The same while a tool is at work.
        capacity_wait_s: Seconds that a prompt waits for a free process when `session.max_concurrent` are busy.
        queue_limit: At most this many prompts wait for one session (`queue: true`); 0 lets none wait.
        timeout_s: Seconds that a turn may take at most; a chat may ask for less. No limit when null.
        max_turns: Calls of the model's API in one turn at most; a chat may ask for fewer. No limit when null.
        max_budget_usd: What one turn may cost at most, by the binary's own estimate; a chat may ask for less. No limit
            when null.
        max_retries: How often the binary repeats a request that the API refused for the moment.
        api_timeout_s: Seconds after which the binary gives up one request to the API.
    """

    idle_timeout_s: Annotated[float, Gt(0)] = 300.0
    tool_timeout_s: Annotated[float, Gt(0)] = 1200.0
    capacity_wait_s: Annotated[float, Ge(0)] = 10.0
    queue_limit: Annotated[int, Ge(0), Le(1000)] = 20
    timeout_s: TurnSeconds | None = None
    max_turns: TurnCalls | None = None
    max_budget_usd: TurnBudget | None = None
    max_retries: Annotated[int, Ge(0), Le(20)] = 4
    api_timeout_s: Annotated[float, Gt(0)] = 240.0


@attrs.frozen(kw_only=True)
class LimitSettings:
    """Limits of each single process that a session runs, as the kernel keeps them; null for none. On Linux alone.

    Attributes:
        memory_bytes: Private memory. At least 1 GiB: Claude Code does not start with less.
        cpu_s: Seconds of processor time. A session's own process ends with it as well, and is started anew.
        processes: Processes and threads of the user that sessions run as, all together; has no effect on root.
        open_files: Open files.
        file_bytes: Size of a file that is written.
    """

    memory_bytes: Annotated[int, Ge(1024**3)] | None = None
    cpu_s: Annotated[int, Ge(60)] | None = None
    processes: Annotated[int, Ge(64)] | None = None
    open_files: Annotated[int, Ge(256)] | None = None
    file_bytes: Annotated[int, Ge(1024**2)] | None = None


@attrs.frozen(kw_only=True)
class SandboxSettings:
    """A sandbox of bubblewrap's around each session's process and all that it starts.

    Inside, the whole system can be read but for the server's data directory, and a session writes to its working
    directory, to Claude Code's own folder and to a `/tmp` of its own. It sees no process but its own. The network is
    open.

    Attributes:
        enabled: Whether there is one. If it cannot be had, no session starts.
        bwrap_path: The program `bwrap`; searched on PATH when null.
        writable: Further folders that sessions may write to.
        hidden: Further folders whose contents they do not see.
    """

    enabled: bool = False
    bwrap_path: Path | None = None
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


@attrs.frozen(kw_only=True)
class WorkspaceSettings:
    """Limits of the folders that the server makes for sessions; those it is given have none. Null for none.

    Looked at before each prompt, and a prompt to a session whose folder is beyond them is refused.

    Attributes:
        max_bytes: What the files in one folder may take, added up.
        max_files: How many files, folders and links it may hold.
    """

    max_bytes: Annotated[int, Ge(1)] | None = None
    max_files: Annotated[int, Ge(1)] | None = None


Period = Literal["day", "month", "ever"]


@attrs.frozen(kw_only=True)
class Budget:
    """How much may be spent. A turn that begins before it is used up is not cut.

    Attributes:
        period: Over which time: a `day` or a `month` of UTC, or `ever`.
        cost_usd: US dollars, by Claude Code's own estimate at list prices.
        tokens: Tokens, read and written, those of the cache included.
    """

    period: Period = "month"
    cost_usd: Annotated[float, Ge(0)] | None = None
    tokens: Annotated[int, Ge(0)] | None = None

    def __attrs_post_init__(self) -> None:
        if self.cost_usd is None and self.tokens is None:
            raise ValueError("needs cost_usd, tokens, or both")


@attrs.frozen(kw_only=True)
class BudgetSettings:
    """Budgets; a prompt is refused when one that holds for it is used up.

    Attributes:
        tenant: Of each tenant, all its callers together; null for none.
        each_caller: Of each caller (a key, a user) that has none of its own; null for none. What is spent with a token
            of `claudecode.share` is spent by who gave it out.
        callers: Of single callers, by the key's id, `user:` and the subject of a token, or `local`.
    """

    tenant: Budget | None = None
    each_caller: Budget | None = None
    callers: dict[str, Budget] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class CheckpointSettings:
    """Recorded states of a session's files, when its working directory is in a git repository.

    Attributes:
        enabled: Whether the files are recorded at the end of each turn.
        timeout_s: Seconds that recording may take; `done` waits for it. What was read by then is kept, and the next
            turn's end goes on from there.
        max_file_bytes: Larger files are left out, and named.
        max_bytes: When more than this has changed since the checkpoint before, none is made.
    """

    enabled: bool = True
    timeout_s: Annotated[float, Gt(0)] = 15.0
    max_file_bytes: Annotated[int, Ge(1)] = 52_428_800
    max_bytes: Annotated[int, Ge(1)] = 2_147_483_648


@attrs.frozen(kw_only=True)
class ForkSettings:
    """Limits of forks with a copy of the working directory.

    Attributes:
        max_copy_bytes: Most bytes of a working directory that is copied.
        max_copy_files: Most files and folders of one.
    """

    max_copy_bytes: Annotated[int, Ge(1)] = 2_147_483_648
    max_copy_files: Annotated[int, Ge(1)] = 200_000


@attrs.frozen(kw_only=True)
class ToolSettings:
    """Methods of the server that sessions may be given as tools (`claudecode.create`, `tools`).

    Attributes:
        allowed: Which: `dice.roll`, or all of a namespace, `dice.*`. None, and nothing of the server itself (`audit`,
            `auth`, `health`, `hub`, `keys`, `rpc`) or of `arbor`, whose trees hold every session's conversation, but
            what is named in full. Of sessions only `claudecode.chat`, `get`, `history`, `interrupt`, `list` and
            `search` can be given, each named in full.
        deadline_s: Seconds after which a call is stopped. For a method that does not stream, its own limit holds as
            well, or `server.call_deadline_s`.
        max_result_bytes: How much of a result Claude is shown; the rest is cut, and Claude is told.
    """

    allowed: tuple[ToolPattern, ...] = ()
    deadline_s: Annotated[float, Gt(0), Le(86_400)] = 120.0
    max_result_bytes: Annotated[int, Ge(1000), Le(10_000_000)] = 50_000


@attrs.frozen(kw_only=True)
class ClaudeCodeSettings:
    """How Claude Code is run.

    The credential is the first of: `oauth_token_file`; `oauth_token`, then `api_key`, where this file or a flag sets
    them; the secrets `claude_oauth_token`, then `anthropic_api_key`, of `clonk secrets`; the environment variables. It
    is looked for each time a session's process starts, so that a new one needs no restart of the server.

    Attributes:
        binary_path: The `claude` binary; searched on PATH and in the usual places when null.
        default_model: Model of sessions that do not name one: `sonnet`, `opus`, `haiku`, or a full name.
        oauth_token_file: File with the token of a Claude subscription, such as a secret of a container. Read each time
            a session's process starts.
        oauth_token: Token of a Claude subscription (`claude setup-token` makes one). Better kept by
            `clonk secrets set claude_oauth_token`, or given in the environment, than written into a file.
        api_key: API key, when there is no subscription. Better kept by `clonk secrets set anthropic_api_key`.
        session: Session defaults.
        turn: Limits of one turn.
        budgets: How much may be spent.
        workspaces: Limits of sessions' own folders.
        limits: Limits of sessions' processes.
        sandbox: A sandbox around them.
        tools: Methods of the server that sessions may be given as tools.
        run_as: Name of a user that sessions' processes run as. The server must run as root, gives that user the folders
            that it makes, and lets it pass through the data directory. Null for the server's own user.
        permissions: Requests for a permission that nobody answers.
        checkpoints: Recorded states of a session's files.
        forks: Limits of forks with a copy of the working directory.
        env: Further environment variables for the binary, such as `ANTHROPIC_BASE_URL`. It gets nothing of the server's
            own environment but PATH and the language. `${secret:NAME}` in a value stands for a secret of
            `clonk secrets`; the binary and the tools that it runs can read it.
    """

    binary_path: Path | None = None
    default_model: Model = "sonnet"
    oauth_token_file: Path | None = None
    oauth_token: str | None = attrs.field(
        default=None,
        repr=False,
        metadata={"secret": True, "env": "CLAUDE_CODE_OAUTH_TOKEN", "stored_as": STORED_OAUTH_TOKEN},
    )
    api_key: str | None = attrs.field(
        default=None, repr=False, metadata={"secret": True, "env": "ANTHROPIC_API_KEY", "stored_as": STORED_API_KEY}
    )
    session: SessionSettings = attrs.field(factory=SessionSettings)
    turn: TurnSettings = attrs.field(factory=TurnSettings)
    budgets: BudgetSettings = attrs.field(factory=BudgetSettings)
    workspaces: WorkspaceSettings = attrs.field(factory=WorkspaceSettings)
    limits: LimitSettings = attrs.field(factory=LimitSettings)
    sandbox: SandboxSettings = attrs.field(factory=SandboxSettings)
    tools: ToolSettings = attrs.field(factory=ToolSettings)
    run_as: Annotated[str, Pattern(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", "a user's name")] | None = None
    permissions: PermissionSettings = attrs.field(factory=PermissionSettings)
    checkpoints: CheckpointSettings = attrs.field(factory=CheckpointSettings)
    forks: ForkSettings = attrs.field(factory=ForkSettings)
    env: dict[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for variable, value in self.env.items():
            if _REFERENCE.search(value):
                raise ValueError(f"env.{variable}: a secret is named as in ${{secret:a_name}}")
