"""Clonk's own bare repository for a workspace: all that is exchanged with the remote goes through it.

It lies in Clonk's data directory, and a workspace's owner cannot reach it. Commits come from the workspace as packs
through a pipe, written by a git that runs as the owner and read by one that runs as the hub; so neither remote nor
credential is ever near the workspace, and nothing of the workspace's settings counts here.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs
import trio

from clonk_core.plugin import Log
from clonk_gitsync.credentials import Credentials
from clonk_gitsync.errors import RemoteFailed
from clonk_gitsync.git.complaints import problem_of
from clonk_gitsync.git.loose import NotLoose, copy_new
from clonk_gitsync.git.process import Done, Git, GitTooSlow, OnLine
from clonk_gitsync.git.refs import NotPlain, check_plain, read_all, read_ref, write_ref
from clonk_gitsync.git.shadow import WHO, Shadow
from clonk_gitsync.git.side_by_side import pipe
from clonk_gitsync.git.unfinished import remove_unfinished
from clonk_gitsync.policy import Remote

MAX_PACKS: Final = 40
"""Packs after which they are put together: each larger exchange adds one."""

MAX_REMEMBERED: Final = 100
"""Places of a remote's branch that are looked at, at least: each comes of a fetch or a push."""

LOG_LINE_BYTES: Final = 300
"""Of a reflog, more than ever: two ids, who, when and what."""

LOOSE_AS_PACK: Final = 170
"""Objects in files of their own that count as a pack: with 40 packs' worth of them git puts them together too."""


@attrs.frozen(kw_only=True)
class RemoteRefs:
    """What a remote has, as it told just now.

    Attributes:
        default_branch: The branch that its HEAD means; None for none.
        default_commit: Where that is.
        commit: Where the branch is that was asked for; None when there is no such branch.
        alias_of: What that branch is another name for; None for itself.
    """

    default_branch: str | None
    default_commit: str | None
    commit: str | None
    alias_of: str | None


@attrs.frozen(kw_only=True)
class Pushed:
    """How a push ended.

    Attributes:
        ok: Whether the remote's branch is where it shall be.
        reason: Why not, in the server's words on one line; empty when it is.
    """

    ok: bool
    reason: str = ""


class Hub:
    """Clonk's own repository for one workspace.

    Args:
        git: Runs git.
        folder: Where it is; made by `prepare`.
        credentials: Opens remotes.
        timeout_s: Seconds for one exchange.
        log: For git's own words.
    """

    def __init__(self, git: Git, folder: Path, credentials: Credentials, *, timeout_s: float, log: Log) -> None:
        self._git = git
        self.folder = folder
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._log = log

    async def prepare(self, object_format: str = "sha1") -> None:
        """Make the repository if need be, and put its packs together when they are many.

        Raises:
            GitFailed: It cannot be made.
        """

        def look() -> tuple[bool, int]:
            self._tidy()
            with suppress(FileNotFoundError), os.scandir(self.folder / "objects" / "pack") as entries:
                packs = sum(entry.name.endswith(".pack") for entry in entries)
                return (self.folder / "HEAD").is_file(), packs + self._loose() // LOOSE_AS_PACK
            return False, 0

        is_there, packs = await trio.to_thread.run_sync(look)
        if not is_there:
            await trio.to_thread.run_sync(lambda: self.folder.mkdir(parents=True, exist_ok=True, mode=0o700))
            form = f"--object-format={object_format}"
            await self._git.run("init", "--quiet", "--bare", form, str(self.folder), cwd=self.folder)
        if packs > MAX_PACKS:
            await self.run("repack", "-a", "-d", "-q")

    def _tidy(self) -> None:
        """Remove what an exchange that was cut off has left. Nobody else works here meanwhile."""
        remove_unfinished(self.folder / "objects")
        for lock in (*self.folder.glob("*.lock"), *(self.folder / "refs").rglob("*.lock")):
            lock.unlink(missing_ok=True)

    def _loose(self) -> int:
        """Guess how many objects lie in files of their own, from one of 256 folders, as git itself does."""
        with suppress(FileNotFoundError), os.scandir(self.folder / "objects" / "17") as entries:
            return 256 * sum(1 for _ in entries)
        return 0

    async def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes | int = b"",
        stdout: int | None = None,
        check: bool = True,
    ) -> Done:
        """Run a subcommand that speaks with nobody.

        Raises:
            GitFailed: It failed.
        """
        return await self._git.run(
            *arguments,
            cwd=self.folder,
            env={**self._environment, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            check=check,
        )

    @property
    def _environment(self) -> dict[str, str]:
        # Where branches of the remote have been is remembered: a rebase asks (see `former_tips`).
        return {
            "GIT_DIR": str(self.folder),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.logAllRefUpdates",
            "GIT_CONFIG_VALUE_0": "true",
            **WHO,
        }

    # ── With the remote ───────────────────────────────────────────────────────

    async def look(self, remote: Remote, branch: str | None) -> RemoteRefs:
        """Ask a remote where its HEAD and a branch are.

        Raises:
            RemoteFailed: It does not tell.
        """
        wanted = ("HEAD",) if branch is None else ("HEAD", f"refs/heads/{branch}")
        done = await self.exchange(remote, "ls-remote", "--symref", "--", remote.url, *wanted)
        commits: dict[str, str] = {}
        symbolic: dict[str, str] = {}
        for line in done.output.decode(errors="replace").splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: "):
                symbolic[name] = value.removeprefix("ref: ")
            else:
                commits[name] = value
        default = symbolic.get("HEAD", "")
        alias = symbolic.get(f"refs/heads/{branch}")
        return RemoteRefs(
            default_branch=default.removeprefix("refs/heads/") if default.startswith("refs/heads/") else None,
            default_commit=commits.get("HEAD"),
            commit=commits.get(f"refs/heads/{branch}"),
            alias_of=alias,
        )

    async def fetch(
        self, remote: Remote, branch: str, *, depth: int | None = None, on_line: OnLine | None = None
    ) -> str:
        """Fetch one branch and return its commit.

        Raises:
            RemoteFailed: It did not work.
        """
        limit = () if depth is None else (f"--depth={depth}",)
        ref = tracking(branch)
        words = ("fetch", "--no-tags", "--no-write-fetch-head", "--progress", "--no-auto-maintenance", *limit, "--")
        await self.exchange(remote, *words, remote.url, f"+refs/heads/{branch}:{ref}", on_line=on_line)
        return (await self.run("rev-parse", "--verify", ref)).text

    async def push(
        self, remote: Remote, commit: str, branch: str, *, expect: str | None, force: bool, on_line: OnLine | None
    ) -> Pushed:
        """Push one commit to one branch, named in full, and nothing else.

        Args:
            remote: Where to.
            commit: Its id.
            branch: The branch, which the policy has passed.
            expect: Where the branch is now, as the remote told; None for nowhere.
            force: Overwrite what is at `expect`, and only that.
            on_line: Told of the progress.

        Raises:
            RemoteFailed: The exchange failed; whether the branch was moved is not known.
        """
        ref = f"refs/heads/{branch}"
        lease = (f"--force-with-lease={ref}:{expect or ''}",) if force else ()
        words = ("push", "--porcelain", "--progress", "--no-verify", "--no-signed", *lease, "--", remote.url)
        done = await self.exchange(remote, *words, f"{commit}:{ref}", on_line=on_line, check=False)
        line = next((one for one in done.output.decode(errors="replace").splitlines() if f":{ref}\t" in one), None)
        if line is None:
            raise self._failed(done.said, "push")
        if line[0] == "!":
            return Pushed(ok=False, reason=" ".join(line.split("\t")[-1].split())[:200])
        if done.code != 0:
            raise self._failed(done.said, "push")
        await self._put(tracking(branch), commit)
        return Pushed(ok=True)

    async def _put(self, ref: str, commit: str) -> None:
        def put() -> None:
            check_plain(self.folder)
            write_ref(self.folder, ref, commit, "{GIT_COMMITTER_NAME} <{GIT_COMMITTER_EMAIL}>".format(**WHO))

        try:
            await trio.to_thread.run_sync(put)
        except NotPlain:
            await self.run("update-ref", ref, commit)

    async def known_tip(self, branch: str) -> str | None:
        """Return where a branch of the remote was at the last exchange; None when it is not known."""
        try:
            return await trio.to_thread.run_sync(self.tip_in_files, branch)
        except NotPlain:
            done = await self.run("rev-parse", "--verify", "--quiet", tracking(branch), check=False)
            return done.text if done.code == 0 else None

    def tip_in_files(self, branch: str) -> str | None:
        """Return the same as `known_tip`, without git. Touches the disk: for a thread.

        Raises:
            NotPlain: The files do not tell.
        """
        if not (self.folder / "HEAD").is_file():
            return None
        check_plain(self.folder)
        return read_ref(self.folder, tracking(branch))

    async def former_tips(self, branch: str) -> list[str]:
        """Return where a branch of the remote is known to have been, its last places and today's."""
        today = await self.known_tip(branch)
        lines = await trio.to_thread.run_sync(_last_lines, self.folder / "logs" / tracking(branch))
        places = [word for line in lines for word in line.split(" ", 2)[:2]]
        return list(dict.fromkeys(one for one in [*places, today or ""] if one.strip("0")))

    async def exchange(
        self,
        remote: Remote,
        *arguments: str,
        options: Sequence[str] = (),
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Done:
        """Run a subcommand that speaks with a remote, and with it alone.

        Raises:
            RemoteFailed: It failed, unless `check` is off, or took too long.
        """
        async with self._credentials.hand_over(remote) as handed:
            try:
                done = await self._git.run(
                    *arguments,
                    cwd=self.folder,
                    env={**self._environment, "GIT_ALLOW_PROTOCOL": remote.protocol, **handed.env},
                    options=(*handed.options, *options),
                    pass_fds=handed.pass_fds,
                    limit_s=self._timeout_s,
                    check=False,
                    on_line=on_line,
                    with_remote=True,
                )
            except GitTooSlow as error:
                raise RemoteFailed("too_slow") from error
            said = done.said.replace(handed.secret, "***") if handed.secret else done.said
        if check and done.code != 0:
            raise self._failed(said, arguments[0])
        return attrs.evolve(done, said=said)

    def _failed(self, said: str, command: str) -> RemoteFailed:
        self._log.warning("an exchange with a remote failed", command=command, said=said.strip()[-1000:])
        return RemoteFailed(problem_of(said))

    # ── With the workspace ────────────────────────────────────────────────────

    async def take(self, shadow: Shadow, commit: str, parent: str | None = None, *, is_small: bool = False) -> None:
        """Bring a commit of the workspace here, with what it needs.

        Args:
            shadow: The workspace.
            commit: Which one.
            parent: The commit that it was made on, when that is known to be in the workspace.
            is_small: Whether it changes few files.

        Raises:
            GitFailed: It did not work; the workspace may lack objects.
        """
        await trio.to_thread.run_sync(_copy_shallow, shadow.folder, self.folder)
        known = await self._tips()
        if commit in known:
            return
        if parent is not None and parent in known:
            have = [parent]
            if is_small and await self._copied(shadow, commit):
                return
        else:
            asked = "".join(f"{tip}\n" for tip in known).encode()
            there = await shadow.run("cat-file", "--batch-check", stdin=asked)
            have = [line.split()[0] for line in there.output.decode().splitlines() if line.split()[1:2] == ["commit"]]
        await pipe(
            lambda out: shadow.run(*PACK, stdin=_revisions(commit, have), stdout=out),
            lambda inn: self.run(*UNPACK, stdin=inn),
        )

    async def _copied(self, shadow: Shadow, commit: str) -> bool:
        """Copy what a small commit has made new, file by file; tell whether that could be done."""
        recorded = shadow.recorded
        if recorded is None or recorded.commit != commit or shadow.object_format != "sha1":
            return False
        objects = shadow.repository.common_dir / "objects"
        try:
            await trio.to_thread.run_sync(copy_new, recorded, objects, self.folder / "objects")
        except NotLoose:
            return False
        return True

    async def keep(self, commit: str) -> None:
        """Keep a commit that was brought here and not pushed, so that it need not be brought again.

        Raises:
            GitFailed: It did not work.
        """
        await self._put("refs/clonk/taken", commit)

    async def give(self, shadow: Shadow, commit: str) -> None:
        """Bring a commit of ours to the workspace, with what it needs. No branch of the workspace is touched.

        Raises:
            GitFailed: It did not work.
        """
        if (await shadow.run("cat-file", "-e", f"{commit}^{{commit}}", check=False)).code == 0:
            return
        have: list[str] = []
        if shadow.head is not None:
            known = await self.run("cat-file", "-e", f"{shadow.head}^{{commit}}", check=False)
            have = [shadow.head] if known.code == 0 else []
        await pipe(
            lambda out: self.run(*PACK, stdin=_revisions(commit, have), stdout=out),
            lambda inn: shadow.run(*UNPACK, stdin=inn),
        )

    async def _tips(self) -> list[str]:
        try:
            return await trio.to_thread.run_sync(read_all, self.folder)
        except NotPlain:
            done = await self.run("for-each-ref", "--format=%(objectname)")
        return list(dict.fromkeys(done.text.split()))


PACK: Final = ("pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "--threads=1", "-q")
UNPACK: Final = ("index-pack", "--stdin", "--fix-thin", "--threads=1")


def tracking(branch: str) -> str:
    """Return the ref that remembers where a branch of the remote is."""
    return f"refs/remotes/origin/{branch}"


def _last_lines(log: Path) -> list[str]:
    """Return the last lines of a reflog, whole ones; none when there is no log."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_REMEMBERED * LOG_LINE_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > MAX_REMEMBERED * LOG_LINE_BYTES else lines


def _revisions(commit: str, have: Sequence[str]) -> bytes:
    return "\n".join([commit, *(f"^{one}" for one in have), ""]).encode()


def _copy_shallow(source: Path, target: Path) -> None:
    if (source / "shallow").is_file():
        shutil.copyfile(source / "shallow", target / "shallow")
