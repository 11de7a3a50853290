"""From the configuration and the store to what the engine is told."""

from pathlib import Path
from typing import Final

from clonk_claudecode.engine.isolation import Isolation, ResourceLimits, Sandbox
from clonk_claudecode.engine.permissions import joined
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.settings import ClaudeCodeSettings
from clonk_claudecode.turns.options import TurnOptions

CONFIG_FOLDER: Final = "claude"
"""Below the package's data directory: the binary's own files, transcripts among them."""


def engine_settings(settings: ClaudeCodeSettings, data_dir: Path) -> EngineSettings:
    """Return what the engine is told; the credential and the variables are looked up at each start.

    Args:
        settings: The section `claudecode`.
        data_dir: The package's own folder.
    """
    return EngineSettings(
        config_dir=data_dir / CONFIG_FOLDER,
        run_dir=data_dir / "run",
        binary_path=settings.binary_path,
        max_concurrent=settings.session.max_concurrent,
        session_timeout_s=settings.session.timeout,
        capacity_wait_s=settings.turn.capacity_wait_s,
        idle_timeout_s=settings.turn.idle_timeout_s,
        tool_timeout_s=settings.turn.tool_timeout_s,
        max_retries=settings.turn.max_retries,
        api_timeout_s=settings.turn.api_timeout_s,
        min_free_memory_bytes=settings.session.min_free_memory_bytes,
        isolation=_isolation(settings, data_dir.parent),
        data_dir=data_dir.parent,
    )


def _isolation(settings: ClaudeCodeSettings, whole_data_dir: Path) -> Isolation:
    sandbox = None
    if settings.sandbox.enabled:
        sandbox = Sandbox(
            bwrap_path=settings.sandbox.bwrap_path,
            writable=settings.sandbox.writable,
            hidden=(whole_data_dir, *settings.sandbox.hidden),
        )
    limits = ResourceLimits(
        memory_bytes=settings.limits.memory_bytes,
        cpu_s=settings.limits.cpu_s,
        processes=settings.limits.processes,
        open_files=settings.limits.open_files,
        file_bytes=settings.limits.file_bytes,
    )
    return Isolation(limits=limits, sandbox=sandbox, user=settings.run_as)


def session_spec(
    session: StoredSession, settings: ClaudeCodeSettings, options: TurnOptions | None = None
) -> SessionSpec:
    """Return what the engine is told about a session, for one turn with options of its own when there are any."""
    options = options or TurnOptions.within(settings.turn)
    return SessionSpec(
        session_id=session.id,
        claude_session_id=session.claude_session_id,
        working_dir=Path(session.working_dir),
        model=session.model,
        system_prompt=session.system_prompt,
        permission_mode=session.permission_mode,
        allowed_tools=joined((*settings.session.allowed_tools, *session.allowed_tools), session.granted_tools),
        disallowed_tools=joined(settings.session.disallowed_tools, session.disallowed_tools),
        add_dirs=session.granted_dirs,
        setting_sources=settings.session.setting_sources,
        max_turns=options.max_turns,
        max_budget_usd=options.max_budget_usd,
        output_schema=options.output_schema,
        tools=session.given_tools,
    )
