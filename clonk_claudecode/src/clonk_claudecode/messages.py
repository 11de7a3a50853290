"""What `claudecode` takes and returns."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import attrs

from clonk_claudecode.checkpoints.messages import CheckpointMade
from clonk_claudecode.events import TurnUsage
from clonk_claudecode.settings import PermissionMode
from clonk_claudecode.sharing.messages import Watcher
from clonk_claudecode.tools.patterns import ToolPattern
from clonk_core.plugin import Done, Ge, JsonValue, Le, MaxLen, MinLen, Pattern

SessionName = Annotated[
    str, MinLen(1), MaxLen(64), Pattern(r"[A-Za-z0-9._-]{1,64}", "1 to 64 of letters, digits, `.`, `_` and `-`")
]

WorkspaceName = Annotated[
    str,
    MinLen(1),
    MaxLen(64),
    Pattern(
        r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", "1 to 64 of letters, digits, `.`, `_` and `-`, no `.` at the beginning"
    ),
]

Metadata = Annotated[dict[str, Annotated[str, MaxLen(1000)]], MaxLen(50)]

SnapshotId = Annotated[str, MinLen(1), MaxLen(64)]

AfterNumber = Annotated[int, Ge(0), Le(2**63 - 1)]
"""The last one of the page before; the store's numbers have 64 bits."""

SystemPrompt = Annotated[str, MaxLen(100_000)]

ToolPatterns = Annotated[tuple[ToolPattern, ...], MaxLen(100)]

Prompt = Annotated[str, MinLen(1), MaxLen(1_000_000)]

IdempotencyKey = Annotated[str, MinLen(1), MaxLen(200)]


@attrs.frozen(kw_only=True)
class CreatedSession:
    """A new session.

    Attributes:
        name: Its name, unique.
        id: Its id, `sess_...`; never used again, also when the name is.
        created_at: When it was created.
        working_dir: Where Claude works, symbolic links resolved.
        model: The model it talks to.
    """

    name: str
    id: str
    created_at: datetime
    working_dir: str
    model: str


@attrs.frozen(kw_only=True)
class SessionSummary(CreatedSession):
    """One session in a list.

    Attributes:
        last_active_at: When it last got a prompt or answered.
        state: `busy` while it answers, `idle` when its process waits warm, `parked` when it has none.
        message_count: Messages in its history.
        owner: Who created it: a key's id, `user:` and a subject, `local`.
        metadata: What its users keep with it.
        archived_at: When it was put aside; null when it was not.
    """

    last_active_at: datetime
    state: Literal["busy", "idle", "parked"]
    message_count: int
    owner: str
    metadata: dict[str, str]
    archived_at: datetime | None


@attrs.frozen(kw_only=True)
class ForkedFrom:
    """Where a forked session came from.

    Attributes:
        session: The name that the parent had then.
        session_id: The parent's id.
        snapshot_id: The message that it was forked at.
        files: What it got to work on: `shared`, `copy` or `worktree`.
    """

    session: str
    session_id: str
    snapshot_id: str
    files: Literal["shared", "copy", "worktree"]


@attrs.frozen(kw_only=True)
class Session(SessionSummary):
    """One session, whole.

    Attributes:
        system_prompt: What was added to Claude Code's own system prompt.
        permission_mode: What it may do without asking.
        allowed_tools: Rules of tools that it uses without asking, beside those of the configuration.
        disallowed_tools: Rules of tools that it may never use, beside those of the configuration.
        granted_tools: Rules that `allow_always` has added.
        granted_dirs: Folders that `allow_always` has added.
        waiting: Ids of the permission requests that wait for an answer.
        tools: The methods that it was given as tools; `dice.*` for all of a namespace.
        claude_session_id: Claude Code's own id of the conversation (UUID).
        tree_id: Its tree in `arbor`; null before the first message, and when arbor is not installed.
        snapshot_id: The node of its last message; null when there is none.
        subscription: The run that answers now; null when none does.
        watchers: Who watches it now (`claudecode.attach`).
        forked_from: Where it came from; null when it is no fork.
    """

    system_prompt: str | None
    permission_mode: PermissionMode
    allowed_tools: tuple[str, ...]
    disallowed_tools: tuple[str, ...]
    granted_tools: tuple[str, ...]
    granted_dirs: tuple[str, ...]
    waiting: tuple[str, ...]
    tools: tuple[str, ...]
    claude_session_id: str
    tree_id: str | None
    snapshot_id: str | None
    subscription: str | None
    watchers: tuple[Watcher, ...]
    forked_from: ForkedFrom | None = None


@attrs.frozen(kw_only=True)
class Rewound:
    """A session that went back.

    Attributes:
        session: Its name.
        snapshot_id: The last message of its conversation now.
        abandoned_snapshot_id: The last message before; fork or rewind to it to have it back.
        message_count: Messages in its history now.
        files: `restored` to the checkpoint of the message, or `kept` as they were.
        checkpoint: The files as they were before, when they were restored.
    """

    session: str
    snapshot_id: str
    abandoned_snapshot_id: str | None
    message_count: int
    files: Literal["restored", "kept"]
    checkpoint: CheckpointMade | None


@attrs.frozen(kw_only=True)
class Workspace:
    """A session's working directory, and what is in it.

    Attributes:
        path: Where it is.
        kind: `own` was made for the session alone, `shared` is shared by name, `given` was there before; the
            last has no limits.
        bytes: What its files take on the disk; each file once, however many names it has.
        files: How many files, folders and links it holds.
        max_bytes: The most that its files may take; null for no limit.
        max_files: The most that it may hold; null for no limit.
        complete: False when it holds so much that not all was counted: the numbers are then the least that there is.
    """

    path: str
    kind: Literal["own", "shared", "given"]
    bytes: int
    files: int
    max_bytes: int | None
    max_files: int | None
    complete: bool


@attrs.frozen(kw_only=True)
class HistoryMessage:
    """One message of a session's history.

    Attributes:
        seq: Its number in the session, from 1.
        role: `user` for prompts and for tool results, `assistant` for Claude.
        content: The text of a prompt, or a list of the API's content blocks (`text`, `tool_use`, `tool_result`, ...). A
            prompt with attachments is a list of `image_file {name, media_type, size, sha256}`, `text_file {name,
            media_type, text}` and at last its `text`.
        created_at: When it came.
        snapshot_id: Its node in the session's tree; null without arbor.
        subscription: The run it belongs to.
        partial: True for an answer that was cut off by the end of the server or of Claude Code's process: what had been
            shown of it. The session itself does not know it afterwards.
    """

    seq: int
    role: Literal["user", "assistant"]
    content: JsonValue
    created_at: datetime
    snapshot_id: str | None
    subscription: str
    partial: bool


@attrs.frozen(kw_only=True)
class Interrupted:
    """What became of an interrupt.

    Attributes:
        interrupted: Whether a turn was running.
        subscription: Its run; null when there was none.
    """

    interrupted: bool
    subscription: str | None


@attrs.frozen(kw_only=True)
class Queued:
    """The prompt waits until the session has answered those before it; told again when it has moved up.

    Attributes:
        position: Its place among those that wait; 1 is the next.
    """

    type: Literal["queued"] = "queued"
    position: int


@attrs.frozen(kw_only=True)
class Started:
    """The turn has begun. The first event, but for `queued`.

    Attributes:
        session: The session's name.
        session_id: The session's id.
        model: The model that answers.
        snapshot_id: The prompt's node in the session's tree; null without arbor, and for an ephemeral prompt.
    """

    type: Literal["started"] = "started"
    session: str
    session_id: str
    model: str
    snapshot_id: str | None


@attrs.frozen(kw_only=True)
class ChatDone(Done):
    """The turn has ended; always the last event.

    Attributes:
        outcome: `complete`; `cancelled` when it was stopped; `limited` when it ran out of time, turns or budget;
            `failed`.
        error: What went wrong, when it did not end well.
        snapshot_id: The node of the last message; null without arbor, and for an ephemeral prompt.
        usage: What this turn spent.
        output: The answer in the form of the `output_schema`; null when none was asked for, or there is none.
        checkpoint: The files as they were recorded at the end of the turn; null where the working directory is in no
            git repository, and where it did not work (the log says why).
    """

    snapshot_id: str | None = None
    usage: TurnUsage | None = None
    output: JsonValue = None
    checkpoint: CheckpointMade | None = None


@attrs.frozen(kw_only=True)
class TurnEnded:
    """Told to other packages when a turn has ended (event `claudecode.turn_ended`).

    Attributes:
        session: The session's name.
        session_id: The session's id.
        working_dir: Where it worked.
        subscription: The run.
        outcome: How it ended.
        prompt: The prompt, its first 2,000 characters.
        snapshot_id: The node of the last message.
    """

    name: ClassVar[str] = "claudecode.turn_ended"

    session: str
    session_id: str
    working_dir: str
    subscription: str
    outcome: str
    prompt: str
    snapshot_id: str | None


@attrs.frozen(kw_only=True)
class StoredSession:
    """One row of the store; not on the wire."""

    id: str
    name: str
    claude_session_id: str
    working_dir: str
    model: str
    system_prompt: str | None
    permission_mode: Any
    tree_id: str | None
    head_node_id: str | None
    message_count: int
    created_at: datetime
    last_active_at: datetime
    owner: str = ""
    metadata: dict[str, str] = attrs.field(factory=dict)
    archived_at: datetime | None = None
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    granted_tools: tuple[str, ...] = ()
    granted_dirs: tuple[str, ...] = ()
    forked_from: dict[str, str] | None = None
    tools: tuple[str, ...] = ()
    tools_owner: str = ""
    tools_scopes: tuple[str, ...] = ()

    @property
    def given_tools(self) -> tuple[str, ...]:
        """What it was given as tools, to be used in its owner's name; nothing of what an earlier owner was given."""
        return self.tools if self.owner and self.tools_owner == self.owner else ()
