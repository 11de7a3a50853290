"""The errors of clonk_claudecode. All of them may be shown to the caller; none tells a path of the hub's own files.

NotFound (404)
├── SessionNotFound      not_found                      there is no session of that name
├── PermissionNotFound   not_found                      there is no such permission request
└── SnapshotNotFound     not_found                      the session has no such message
Conflict (409)
├── SessionBusy          claudecode.session_busy        a turn is running; `subscription` names its run
├── SessionArchived      claudecode.session_archived    the session was put aside
├── PermissionResolvedAlready
│                        claudecode.permission_resolved the request waits no longer; tells who answered and what
├── OutputMismatch       claudecode.output_mismatch     the answer does not fit the `output_schema`
├── QueueFull            claudecode.queue_full          as many prompts wait for the session as may
├── WorkspaceFull        claudecode.workspace_full      the session's folder is beyond its limits
├── WorkingDirLost       claudecode.working_dir_lost    the session's folder is gone or was replaced
├── SnapshotPartial      conflict                       a message that was cut off: nothing can go on from it
├── NoCheckpoint         claudecode.no_checkpoint       no recorded state of the files belongs to the message
├── NotRestorable        claudecode.not_restorable      the files cannot be put back as they are now
└── FolderNotCopyable    claudecode.not_copyable        a copy of the folder would share a git repository with it
TooLarge (413)
└── CopyTooLarge         too_large                      the working directory is too large to be copied
Unavailable (503)
├── BinaryMissing        claudecode.binary_missing      no Claude Code binary; says how to install it
├── BinaryTooOld         claudecode.binary_too_old      older than 2.1.0
├── BinaryBroken         claudecode.binary_broken       it is there and cannot be run
├── IsolationUnavailable claudecode.isolation_unavailable  a sandbox, user or limit that is wanted cannot be had
├── CapacityReached      claudecode.capacity            every process is busy
├── ProcessDied          claudecode.process_died        it ended when it should not have
├── ProcessBroken        claudecode.process_broken      it does not speak the protocol
├── ApiError             claudecode.api_error           the model's API answered with an error
├── CredentialMissing    claudecode.credential_missing  the server has no credential for Claude
├── SecretUnavailable    claudecode.secret_unavailable  a secret that the configuration names is not there
└── EngineStopped        claudecode.stopping            the hub is shutting down
RateLimited (429)
└── BudgetExhausted      claudecode.budget_exhausted    no more may be spent; `resets_at` says until when
DeadlineExceeded (504)
├── TurnLimitReached     claudecode.turn_limit          a turn has used up its time, its calls of the API or its budget
└── TurnStalled          claudecode.turn_stalled        not a line from the binary for too long
"""

from collections.abc import Sequence
from datetime import datetime

from clonk_core.plugin import Conflict, DeadlineExceeded, NotFound, RateLimited, TooLarge, Unavailable


class SessionNotFound(NotFound):
    """There is no session of that name.

    Args:
        name: The name that was asked for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no session {name!r}; `claudecode.list` shows all", name=name)


class PermissionNotFound(NotFound):
    """There is no such permission request.

    Args:
        request_id: The id that was given.
    """

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"there is no permission request {request_id!r}; `claudecode.permissions` shows what waits",
            request_id=request_id,
        )


class PermissionResolvedAlready(Conflict):
    """The permission request waits no longer: somebody else was first, the time was up, or the turn has ended.

    Args:
        request_id: Which request.
        state: What became of it.
        decision: What Claude Code was told; None when it was told nothing.
        by: Who answered; None when nobody did.
        at: When, ISO 8601.
    """

    kind = "claudecode.permission_resolved"

    def __init__(self, *, request_id: str, state: str, decision: str | None, by: str | None, at: str | None) -> None:
        what = {
            "expired": f"nobody answered in time, and the default was taken: {decision}",
            "withdrawn": "Claude Code does not want an answer any more",
            "ended": "its turn has ended",
        }.get(state, f"{by} was first and said {decision}")
        super().__init__(
            f"the permission request was resolved already: {what}",
            request_id=request_id,
            state=state,
            decision=decision,
            by=by,
            at=at,
        )


class SessionBusy(Conflict):
    """The session already has a turn.

    Args:
        session: The session's name or id, for the message.
        turn_id: The running turn's subscription; None when the session is being rewound.
    """

    kind = "claudecode.session_busy"

    def __init__(self, session: str, turn_id: str | None) -> None:
        busy = "answering another prompt; follow it with `rpc.resume`, stop it with `claudecode.interrupt`"
        super().__init__(
            f"session {session} is {'being rewound' if turn_id is None else busy}; try again when it is done",
            subscription=turn_id,
        )


class SessionArchived(Conflict):
    """The session was put aside and takes no prompts."""

    kind = "claudecode.session_archived"

    def __init__(self, name: str) -> None:
        super().__init__(f"the session {name!r} is archived; `claudecode.archive` with archived=false takes it back")


class QueueFull(Conflict):
    """As many prompts wait for the session as may.

    Args:
        session: The session's name.
        limit: How many may wait.
    """

    kind = "claudecode.queue_full"

    def __init__(self, session: str, limit: int) -> None:
        super().__init__(
            f"{limit} prompts wait for session {session} already, and no more may; try again when one was answered, "
            "or raise claudecode.turn.queue_limit",
            limit=limit,
        )


class OutputMismatch(Conflict):
    """The answer does not fit the `output_schema` that was asked for.

    Args:
        reason: What is wrong with it.
        path: Where, as `$.items[0].name`; None when there was no answer that could be looked at.
        text: The answer.
    """

    kind = "claudecode.output_mismatch"

    def __init__(self, reason: str, path: str | None = None, text: str = "") -> None:
        where = "" if path is None else f" at {path}"
        super().__init__(
            f"the answer does not fit the output_schema{where}: {reason[:500]}", path=path, text=text[:2000]
        )


class WorkspaceFull(Conflict):
    """The folder that was made for the session holds more than it may. Nothing was said to Claude.

    Args:
        bytes: What its files take.
        files: How many files, folders and links it holds.
        max_bytes: The limit; None for none.
        max_files: The limit; None for none.
    """

    kind = "claudecode.workspace_full"

    def __init__(self, *, bytes: int, files: int, max_bytes: int | None, max_files: int | None) -> None:
        super().__init__(
            "the session's workspace holds more than `claudecode.workspaces` allows; make room, or raise the limit",
            bytes=bytes,
            files=files,
            max_bytes=max_bytes,
            max_files=max_files,
        )


class WorkingDirLost(Conflict):
    """The session's working directory is not what it was when the session was created.

    Args:
        path: The session's own `working_dir`, as its caller knows it.
        what: What is wrong with it and what to do, beginning with a verb.
    """

    kind = "claudecode.working_dir_lost"

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"the session's working directory {path!r} {what}", working_dir=path)


class BinaryMissing(Unavailable):
    """No Claude Code binary was found.

    Args:
        configured: The path that was configured and holds nothing; empty when the usual places were searched.
    """

    kind = "claudecode.binary_missing"

    def __init__(self, configured: str = "") -> None:
        where = f"claudecode.binary_path is {configured!r}, which is no file" if configured else "there is no `claude`"
        super().__init__(
            f"{where}; install Claude Code with `npm install -g @anthropic-ai/claude-code` or with "
            "`pip install 'clonk-claudecode[bundled]'`, or set claudecode.binary_path"
        )


class BinaryTooOld(Unavailable):
    """The binary is older than this package can drive."""

    kind = "claudecode.binary_too_old"

    def __init__(self, found: str, minimum: str) -> None:
        super().__init__(
            f"Claude Code is version {found}, at least {minimum} is needed; run `claude update` or install a newer one",
            found=found,
            minimum=minimum,
        )


class BinaryBroken(Unavailable):
    """The binary is there and cannot be run, or does not behave like Claude Code.

    Args:
        reason: What happened when it was tried.
    """

    kind = "claudecode.binary_broken"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the Claude Code binary cannot be used: {reason}")


class IsolationUnavailable(Unavailable):
    """What is to keep sessions apart cannot be had on this machine, and without it none is started; says what to do."""

    kind = "claudecode.isolation_unavailable"


class CapacityReached(Unavailable):
    """As many sessions are answering as the configuration allows, and none ended in time."""

    kind = "claudecode.capacity"

    def __init__(self, max_concurrent: int, waited_s: float) -> None:
        super().__init__(
            f"all {max_concurrent} sessions that may run at once are busy, and none became free within {waited_s:g} s; "
            "try again later or raise claudecode.session.max_concurrent",
            max_concurrent=max_concurrent,
        )


class ProcessDied(Unavailable):
    """The binary's process ended in the middle of its work. The session is intact: the next prompt resumes it.

    Args:
        exit_code: Its exit code; negative for a signal; None when it could not be learnt.
        stderr: Its last lines on stderr.
        during: What it was doing, in words.
    """

    kind = "claudecode.process_died"

    def __init__(self, exit_code: int | None, stderr: Sequence[str], during: str) -> None:
        ending = "was killed by signal " + str(-exit_code) if exit_code is not None and exit_code < 0 else "ended"
        said = f"; it said: {stderr[-1][:500]}" if stderr else ""
        super().__init__(
            f"the Claude Code process {ending} {during} (exit code {exit_code}){said}",
            exit_code=exit_code,
            stderr=[line[:500] for line in stderr[-10:]],
        )
        self.stderr = tuple(stderr)


class ProcessBroken(Unavailable):
    """The binary's process does not speak the protocol: garbage, an endless line, no answer to a control request."""

    kind = "claudecode.process_broken"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the Claude Code process does not work as it must: {reason}; it was stopped")


class ApiError(Unavailable):
    """The binary gave up because of an answer of the model's API.

    Args:
        message: The binary's own words.
        status: HTTP status of the API's last answer, None when there was none (cut, unreachable).
        error_type: The API's name for it, such as `overloaded_error`.
    """

    kind = "claudecode.api_error"

    def __init__(self, message: str, status: int | None = None, error_type: str | None = None) -> None:
        super().__init__(message, status=status, error_type=error_type)


class CredentialMissing(Unavailable):
    """The binary has nothing to show to the model's API."""

    kind = "claudecode.credential_missing"

    def __init__(self) -> None:
        super().__init__(
            "Claude Code has no credential; keep one with `clonk secrets set claude_oauth_token` (`claude setup-token` "
            "makes one) or `clonk secrets set anthropic_api_key`"
        )


class SecretUnavailable(Unavailable):
    """A secret that the server's configuration names for Claude Code is not there; the message says which."""

    kind = "claudecode.secret_unavailable"


class EngineStopped(Unavailable):
    """The hub is shutting down, or the session is being closed."""

    kind = "claudecode.stopping"

    def __init__(self, message: str = "the hub is shutting down; the session can be resumed when it is back") -> None:
        super().__init__(message)


class TurnLimitReached(DeadlineExceeded):
    """A turn has used up its time, its calls of the API or its budget, and was ended.

    Args:
        limit: Which limit: `timeout_s`, `max_turns` or `max_budget_usd`.
        value: Where it was; None when that is not known.
    """

    kind = "claudecode.turn_limit"

    def __init__(self, limit: str, value: float | None) -> None:
        at = "" if value is None else f" of {value:g}"
        super().__init__(
            f"the turn was ended at its {limit}{at}; the session can be used again, and knows what was done so far",
            limit=limit,
            value=value,
        )


class TurnStalled(DeadlineExceeded):
    """Not a line came from the binary for too long, so the turn was interrupted.

    Args:
        silent_s: How long it was silent, in seconds.
    """

    kind = "claudecode.turn_stalled"

    def __init__(self, silent_s: float) -> None:
        super().__init__(
            f"Claude Code was silent for {silent_s:g} s and was interrupted; the session can be used again",
            silent_s=silent_s,
        )


class BudgetExhausted(RateLimited):
    """What may be spent is spent. Nothing was said to Claude.

    Args:
        of: Whose budget: `tenant`, or a caller.
        period: The time that it is for.
        resets_at: When it begins anew; None when it never does.
        now: The time.
    """

    kind = "claudecode.budget_exhausted"

    def __init__(self, of: str, period: str, resets_at: datetime | None, now: datetime) -> None:
        whose = "the tenant's" if of == "tenant" else "your"
        if resets_at is None:
            super().__init__(f"{whose} budget is used up for good; `claudecode.budgets` shows it", of=of, period=period)
            return
        super().__init__(
            f"{whose} budget for this {period} is used up; `claudecode.budgets` shows it",
            of=of,
            period=period,
            resets_at=resets_at.isoformat(),
            retry_after_s=max(1.0, (resets_at - now).total_seconds()),
        )


class SnapshotNotFound(NotFound):
    """The session has no message of that snapshot.

    Args:
        session: The session's name.
        snapshot_id: What was asked for.
    """

    def __init__(self, session: str, snapshot_id: str) -> None:
        super().__init__(
            f"session {session!r} has no message {snapshot_id!r}; `claudecode.history` shows the `snapshot_id` of each",
            snapshot_id=snapshot_id,
        )


class SnapshotPartial(Conflict):
    """The message was cut off by the server's own end: Claude Code does not know it, so nothing can go on from it."""

    def __init__(self, snapshot_id: str) -> None:
        super().__init__(
            "that message was cut off and is no part of the conversation that Claude knows; choose the one before it",
            snapshot_id=snapshot_id,
        )


class NoCheckpoint(Conflict):
    """No recorded state of the files belongs to the message.

    Args:
        reason: Why, if that is known: a sentence without its end.
    """

    kind = "claudecode.no_checkpoint"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; `claudecode.checkpoints` lists what there is")


class NotRestorable(Conflict):
    """The files cannot be put back as they are now; nothing was changed.

    Args:
        reason: Why and what to do.
    """

    kind = "claudecode.not_restorable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the files cannot be put back: {reason}, or pass `files: false` to go back without them")


class CopyTooLarge(TooLarge):
    """The working directory is too large to be copied.

    Args:
        what: What there is too much of: `bytes` or `files`.
        limit: How much is allowed.
    """

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(
            f"the working directory has more than {limit} {what}; fork with files `shared` or `worktree`, or raise "
            f"claudecode.forks.max_copy_{what}",
            limit=limit,
        )


class FolderNotCopyable(Conflict):
    """The working directory points to a git repository elsewhere, which a copy would share with it.

    Args:
        path: The pointing file, relative to the working directory.
    """

    kind = "claudecode.not_copyable"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} in the working directory points to a git repository outside of it, which a copy would share; "
            "fork with files `worktree` or `shared`",
            path=path,
        )
