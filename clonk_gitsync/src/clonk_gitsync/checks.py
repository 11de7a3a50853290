"""What `clonk doctor` looks at for gitsync: git and the programs beside it, and the secrets that the settings name."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from clonk_core.plugin import CallError, Check, CheckResult
from clonk_gitsync.credentials import ReadSecret
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.signing import Signer

MIN_GIT: Final = (2, 38)
"""The first whose `merge-tree` writes trees, and that believes `safe.directory` of its command line."""

MIN_LFS: Final = (3, 0)
"""The first that can be told to transfer over SSH in no way of its own (`lfs.sshtransfer`)."""

_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


def checks(settings: GitSyncSettings, *, secret: ReadSecret) -> Sequence[Check]:
    """Return the checks of this package: what the settings do not use is not looked for.

    Args:
        settings: The section `gitsync`.
        secret: Reads a stored secret.
    """
    hosts = dict.fromkeys((*(one.host for one in settings.credentials), *(one.host for one in settings.forges)))

    async def credentials() -> CheckResult:
        try:
            missing = [name for name in _named(settings) if not await secret(name)]
        except CallError as error:
            return CheckResult(state="failed", message=error.message)
        if missing:
            fix = "; ".join(f"`clonk secrets set {name}`" for name in missing)
            return CheckResult(state="failed", message=f"no secret {', '.join(missing)}", fix=fix)
        return CheckResult(state="ok", message=f"for {', '.join(hosts)}")

    async def signing() -> CheckResult:
        name = settings.signing_key or ""
        with tempfile.TemporaryDirectory(prefix="clonk-doctor-") as folder:
            signer = Signer(name, secret, Path(folder))
            try:
                await signer.sign(b"a trial")
                key = await signer.public_key()
            except CallError as error:
                reason = error.data.get("reason", error.message)
                fix = f"`clonk secrets set {name} < KEY_FILE`, made by `ssh-keygen -t ed25519 -N ''`"
                return CheckResult(state="failed", message=str(reason), fix=fix)
        return CheckResult(state="ok", message=f"with {key}")

    found = [Check(name="git version", function=_git), Check(name="git-lfs", function=_lfs)]
    if any(one.ssh_key is not None for one in settings.credentials) or settings.known_hosts:
        found.append(Check(name="ssh", function=lambda: _ssh(settings)))
    if hosts:
        found.append(Check(name="git credentials", function=credentials))
    if settings.signing_key is not None:
        found.append(Check(name="commit signing", function=signing))
    return found


def _named(settings: GitSyncSettings) -> list[str]:
    """Return the secrets that open remotes and forges, each once."""
    named = [
        *(name for one in settings.credentials for name in (one.token, one.ssh_key)),
        *(name for one in settings.forges for name in (one.token, None if one.app is None else one.app.private_key)),
    ]
    return list(dict.fromkeys(name for name in named if name is not None))


async def _git() -> CheckResult:
    version = await _version("git", "--version")
    if version is None:
        return CheckResult(state="failed", message="there is no git that runs", fix="install git")
    if version < MIN_GIT:
        fix = f"install git {_text(MIN_GIT)} or newer; with this one gitsync cannot work on repositories"
        return CheckResult(state="failed", message=f"{_text(version)} is too old", fix=fix)
    return CheckResult(state="ok", message=f"{_text(version)}, {_text(MIN_GIT)} or newer is needed")


async def _lfs() -> CheckResult:
    version = await _version("git-lfs", "version")
    if version is None:
        return CheckResult(state="ok", message="not installed; large files of Git LFS are left out of commits")
    if version < MIN_LFS:
        fix = f"install git-lfs {_text(MIN_LFS)} or newer"
        return CheckResult(state="warning", message=f"{_text(version)} is older than what is tested", fix=fix)
    return CheckResult(state="ok", message=_text(version))


async def _ssh(settings: GitSyncSettings) -> CheckResult:
    program = shutil.which("ssh")
    if program is None:
        fix = "install an OpenSSH client (openssh-client)"
        return CheckResult(state="failed", message="not on the path, and gitsync.credentials has SSH keys", fix=fix)
    if not settings.known_hosts:
        fix = "name the servers' keys in gitsync.known_hosts, as `ssh-keyscan` and the forge's own pages show them"
        return CheckResult(state="warning", message="no SSH server is believed: gitsync.known_hosts is empty", fix=fix)
    return CheckResult(state="ok", message=program)


async def _version(name: str, *words: str) -> tuple[int, int] | None:
    """Ask a program for the first two numbers of its version; None when it is not there or says none."""
    program = shutil.which(name)
    if program is None:
        return None
    try:
        done = await trio.run_process([program, *words], capture_stdout=True, capture_stderr=True, check=False)
    except OSError:
        return None
    said = _VERSION.search(done.stdout.decode(errors="replace"))
    return None if said is None or done.returncode else (int(said[1]), int(said[2]))


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
