"""What a prompt may ask of its own turn, within what the configuration allows."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs

from clonk_claudecode.prompts.attachments import Attachment
from clonk_claudecode.settings import TurnSettings
from clonk_core.plugin import InvalidParams

Number = TypeVar("Number", int, float)


@attrs.frozen(kw_only=True)
class TurnOptions:
    """How one prompt is answered.

    Attributes:
        model: Who answers; None for the session's own model.
        max_turns: Calls of the API at most; None for no limit.
        max_budget_usd: What it may cost at most; None for no limit.
        timeout_s: Seconds that it may take; None for no limit.
        partial: Whether the answer is shown while it is written, not only when it is whole.
        output_schema: JSON Schema that the answer has to fit; None for an answer in words.
        attachments: What goes along with the prompt.
    """

    model: str | None = None
    max_turns: int | None = None
    max_budget_usd: float | None = None
    timeout_s: float | None = None
    partial: bool = True
    output_schema: Mapping[str, Any] | None = None
    attachments: Sequence[Attachment] = ()

    @classmethod
    def within(
        cls,
        settings: TurnSettings,
        *,
        max_turns: int | None = None,
        max_budget_usd: float | None = None,
        timeout_s: float | None = None,
        **others: Any,
    ) -> "TurnOptions":
        """Return options whose limits are those asked for, and the configured ones where none are.

        Raises:
            InvalidParams: More was asked for than the configuration allows.
        """
        return cls(
            max_turns=_limit("max_turns", max_turns, settings.max_turns),
            max_budget_usd=_limit("max_budget_usd", max_budget_usd, settings.max_budget_usd),
            timeout_s=_limit("timeout_s", timeout_s, settings.timeout_s),
            **others,
        )


def _limit(name: str, asked: Number | None, allowed: Number | None) -> Number | None:
    if asked is None or allowed is None:
        return allowed if asked is None else asked
    if asked > allowed:
        raise InvalidParams(f"at most {allowed:g}, as `claudecode.turn.{name}` says", path=f"$.{name}")
    return asked
