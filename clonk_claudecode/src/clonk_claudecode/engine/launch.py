"""How a session's process is started: arguments, environment, and whether it resumes."""

import os
from pathlib import Path
from typing import Final

import trio

from clonk_claudecode.engine.binary import MINIMUM_VERSION, Binary
from clonk_claudecode.engine.environment import (
    build_environment,
    credential_pipe,
    prepare_config_dir,
    system_prompt_file,
)
from clonk_claudecode.engine.isolation import limited, open_to_user, sandboxed
from clonk_claudecode.engine.process import BinaryProcess, Command, start_process
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.engine.tools import arguments_for_tools
from clonk_claudecode.errors import BinaryBroken, ProcessDied
from clonk_claudecode.working_dir import require_unmoved

UNKEPT_FROM: Final = (2, 1, 330)
"""The version from which on it was seen that a conversation can be held without a transcript."""

_NO_TRANSCRIPT = "No conversation found"
_TRANSCRIPT_EXISTS = "is already in use"
"""What the binary says on stderr, in all versions so far."""


def has_transcript(config_dir: Path, claude_session_id: str) -> bool:
    """Whether the binary has anything to resume. Each working directory has a folder; ids are unique over all.

    Looks into every folder: for a thread, since thousands take tens of milliseconds.
    """
    name = f"{claude_session_id}.jsonl"
    try:
        with os.scandir(config_dir / "projects") as folders:
            # Three times as fast as with a Path for each.
            return any(os.path.exists(f"{folder.path}/{name}") for folder in folders)  # noqa: PTH110
    except FileNotFoundError:  # nothing was ever said here
        return False


def contradicts(error: ProcessDied, *, resume: bool) -> bool:
    """Whether a start failed because there is no transcript after all, or there is one after all."""
    sign = _NO_TRANSCRIPT if resume else _TRANSCRIPT_EXISTS
    return any(sign in line for line in error.stderr)


def build_arguments(
    spec: SessionSpec, *, resume: bool, mirror: bool = False, version: tuple[int, int, int] = MINIMUM_VERSION
) -> tuple[str, ...]:
    """Return the binary's arguments. Neither prompt nor system prompt is one of them: everyone can see arguments."""
    return (
        "-p",
        *("--input-format", "stream-json"),
        *("--output-format", "stream-json"),
        "--verbose",
        "--include-partial-messages",
        *("--permission-prompt-tool", "stdio"),
        *("--setting-sources", ",".join(spec.setting_sources)),
        *("--model", spec.model),
        *("--permission-mode", spec.permission_mode),
        # One argument for each rule, with `=`: the options take as many values as follow, and split each at commas and
        # blanks outside of parentheses.
        *(f"--allowedTools={rule}" for rule in spec.allowed_tools),
        *(f"--disallowedTools={rule}" for rule in spec.disallowed_tools),
        *(f"--add-dir={folder}" for folder in spec.add_dirs),
        *_conversation(spec, resume=resume, version=version),
        *(() if spec.max_turns is None else ("--max-turns", str(spec.max_turns))),
        *(() if spec.max_budget_usd is None else ("--max-budget-usd", f"{spec.max_budget_usd:.6f}")),
        *(("--session-mirror",) if mirror else ()),
        *(arguments_for_tools() if spec.tools else ()),
        *spec.extra_args,
    )


def _conversation(spec: SessionSpec, *, resume: bool, version: tuple[int, int, int]) -> tuple[str, ...]:
    """Return which conversation goes on, or begins."""
    if spec.ephemeral is None:
        return ("--resume" if resume else "--session-id", spec.claude_session_id)
    fork: tuple[str, ...] = ("--session-id", spec.ephemeral.claude_session_id)
    if version >= UNKEPT_FROM:
        fork = (*fork, "--no-session-persistence")
    if not resume:
        return fork
    at = () if spec.ephemeral.at_entry is None else ("--resume-session-at", spec.ephemeral.at_entry)
    return ("--resume", spec.claude_session_id, "--fork-session", *at, *fork)


async def launch(
    spec: SessionSpec, settings: EngineSettings, binary: Binary, *, mark: str, resume: bool, mirror: bool = False
) -> BinaryProcess:
    """Start the process of a session.

    Raises:
        BinaryBroken: It cannot be started.
        IsolationUnavailable: What is to keep it apart cannot be had.
        WorkingDirLost: The session's folder is gone, or a link stands in its place.
    """
    require_unmoved(spec.working_dir)
    if settings.isolation.user is not None:
        await trio.to_thread.run_sync(_give_folders, settings.isolation.user, spec, settings)
    try:
        prepare_config_dir(settings.config_dir)
    except OSError as error:
        raise BinaryBroken(f"its configuration folder cannot be made ({error.strerror})") from error
    with (
        credential_pipe(settings.credential) as (descriptors, variables),
        system_prompt_file(spec.system_prompt, settings.isolation.user) as (prompt_descriptors, prompt_arguments),
    ):
        arguments = build_arguments(spec, resume=resume, mirror=mirror, version=binary.version)
        argv = (str(binary.path), *arguments, *prompt_arguments)
        command = Command(
            argv=_isolated(argv, spec, settings),
            env={**build_environment(settings, mark=mark), **variables},
            working_dir=spec.working_dir,
            mark=mark,
            pass_fds=(*descriptors, *prompt_descriptors),
            user=settings.isolation.user,
        )
        return await start_process(command)


def _give_folders(user: str, spec: SessionSpec, settings: EngineSettings) -> None:
    """Give the folders that are ours to the user that the process runs as. Touches the disk: for a thread."""
    below = settings.data_dir
    if below is not None:
        prepare_config_dir(settings.config_dir)
        folders = [path for path in (settings.config_dir, spec.working_dir) if path.is_relative_to(below)]
        open_to_user(user, folders, below=below)


def _isolated(argv: tuple[str, ...], spec: SessionSpec, settings: EngineSettings) -> tuple[str, ...]:
    """Return the command with what keeps it apart."""
    isolation = settings.isolation
    if isolation.sandbox is not None:
        argv = sandboxed(argv, isolation.sandbox, working_dir=spec.working_dir, config_dir=settings.config_dir)
    return limited(argv, isolation.limits)
