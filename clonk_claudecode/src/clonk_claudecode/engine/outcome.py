"""How a turn ended: read from the binary's `result` frame, or from what ended it instead."""

import re

import attrs

from clonk_claudecode.engine.frames import Frame
from clonk_claudecode.errors import ApiError, CredentialMissing, OutputMismatch, TurnLimitReached
from clonk_claudecode.events import ModelUsage, TokenCount
from clonk_core.plugin import (
    CallCancelled,
    CallError,
    DeadlineExceeded,
    JsonValue,
    Outcome,
    ServerRestarted,
    StopReason,
)

_NOT_LOGGED_IN = "Not logged in"
"""How the binary begins its answer when it has no credential; what it advises then is no help to a server's user."""

_LIMITS = {"error_max_turns": "max_turns", "error_max_budget_usd": "max_budget_usd"}


@attrs.frozen(kw_only=True)
class TurnResult:
    """The end of a turn.

    Attributes:
        outcome: As in the `done` event.
        error: What a plain call would have answered; None when the outcome is `complete`.
        tokens: Spent by this turn.
        text: The last text of the answer; empty when it was cut short.
        models: The same by model, with what subagents spent; None when the binary did not tell.
        output: What the binary took for the answer in the form of the `output_schema`; None without.
        last_entry_uuid: The transcript's last entry of the main conversation; None when nothing was written.
        is_cut: Whether the process ended with it: what was shown last may not be in the transcript.
    """

    outcome: Outcome
    error: CallError | None = None
    tokens: TokenCount = attrs.field(factory=TokenCount)
    models: tuple[ModelUsage, ...] | None = None
    text: str = ""
    output: JsonValue = None
    last_entry_uuid: str | None = None
    is_cut: bool = False


def read_result(
    frame: Frame, stop_reason: StopReason | None, stop_error: CallError | None
) -> tuple[Outcome, CallError | None]:
    """Return outcome and error of a `result` frame.

    API errors come as `subtype: "success"` with `is_error: true`; they are failures.

    Args:
        frame: The `result`.
        stop_reason: Why the turn was interrupted, None when it was not.
        stop_error: A better error for that reason than the general one.
    """
    subtype = frame.get("subtype")
    is_error = bool(frame.get("is_error"))
    if subtype == "success" and not is_error:
        return ("refused", None) if frame.get("stop_reason") == "refusal" else ("complete", None)
    if stop_reason is not None:
        return stopped(stop_reason, stop_error)
    if subtype in _LIMITS:
        return "limited", TurnLimitReached(_LIMITS[subtype], _limit_value(frame))
    if subtype == "error_max_structured_output_retries":
        return "failed", OutputMismatch(_words(frame))
    error = _api_error(frame)
    if frame.get("stop_reason") == "refusal":
        return "refused", error
    return "failed", error


def stopped(reason: StopReason, error: CallError | None = None) -> tuple[Outcome, CallError]:
    """Return outcome and error of a turn that was stopped."""
    if reason == "limited":
        return "limited", error or DeadlineExceeded("the turn's time was up; it was interrupted")
    if reason == "shutdown":
        return "failed", error or ServerRestarted("the server was stopped; the session can be used when it is back")
    return "cancelled", error or CallCancelled("the turn was interrupted on request")


def _words(frame: Frame) -> str:
    """Return what the binary says of an error."""
    text = frame.get("result")
    if isinstance(text, str) and text:
        return text
    errors = frame.get("errors")
    return "; ".join(map(str, errors)) if isinstance(errors, list) and errors else str(frame.get("subtype"))


def _limit_value(frame: Frame) -> float | None:
    """Read where the limit was from the binary's words: `Reached maximum number of turns (2)`."""
    errors = frame.get("errors")
    found = re.search(r"\(\$?([0-9.]+)\)", str(errors[0])) if isinstance(errors, list) and errors else None
    try:
        return None if found is None else float(found[1])
    except ValueError:
        return None


def _api_error(frame: Frame) -> CallError:
    text = _words(frame)
    if text.startswith(_NOT_LOGGED_IN):
        return CredentialMissing()
    status = frame.get("api_error_status")
    error_type = frame.get("api_error_type")
    return ApiError(
        text[:2000],
        status=status if isinstance(status, int) else None,
        error_type=error_type if isinstance(error_type, str) else None,
    )
