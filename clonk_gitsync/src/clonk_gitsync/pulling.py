"""Brings a remote's branch into a workspace: forward, or by a merge or a rebase when that is asked for."""

from typing import Final

import attrs
import trio

from clonk_core.plugin import InvalidParams
from clonk_gitsync.committing import check_quiet, is_ancestor, record, who, write
from clonk_gitsync.errors import BranchDiverged, MergeConflict, WorkspaceBusy
from clonk_gitsync.git import diffs, merging
from clonk_gitsync.git.commits import replayed
from clonk_gitsync.git.names import problem_with_branch
from clonk_gitsync.git.process import OnLine
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.transfers import download_large
from clonk_gitsync.messages import PullMode, PullResult, WorkspaceConfig
from clonk_gitsync.placing import move_to
from clonk_gitsync.workbench import Workbench

MAX_REPLAYED: Final = 500
"""Commits that a rebase takes along; each costs five short commands, and all are done within one call."""


async def pull(
    bench: Workbench, workspace: WorkspaceConfig, branch: str | None, mode: PullMode, *, on_line: OnLine | None = None
) -> PullResult:
    """Fetch a branch of the remote and bring what is checked out there.

    Raises:
        BranchDiverged: Both sides have commits of their own, and `mode` does not join them.
        BranchProtected: They would be joined on a protected branch.
        MergeConflict: Both change the same.
        WorkspaceBusy: Files are in the way.
    """
    remote = bench.policy.remote(workspace.remote)
    async with bench.alone(workspace), bench.at(workspace) as shadow:
        await trio.to_thread.run_sync(check_quiet, shadow.repository)
        current = shadow.repository.head_branch()
        wanted = branch or current or workspace.branch
        if (problem := problem_with_branch(wanted)) is not None:  # HEAD can name anything
            raise InvalidParams(problem, path="$.branch")
        hub = bench.hub(workspace)
        await hub.prepare(shadow.object_format)
        former = await hub.former_tips(wanted)
        tip = await hub.fetch(remote, wanted, on_line=on_line)
        await hub.give(shadow, tip)
        answer = PullResult(updated=False, before=shadow.head, commit=shadow.head or tip, branch=wanted)
        if shadow.head is not None and await is_ancestor(shadow, tip, shadow.head):
            return answer
        forward = shadow.head is None or await is_ancestor(shadow, shadow.head, tip)
        if not forward and mode == "ff":
            raise BranchDiverged(
                wanted,
                f"{wanted!r} of the remote and what is checked out have each their own commits; mode `merge` or "
                "`rebase` joins them",
            )
        if current is None:
            raise WorkspaceBusy("detached", "HEAD is detached; check a branch out first")
        target = tip
        if shadow.head is not None and not forward:
            bench.check_branch(workspace, current)
            joining = _Joining(bench, shadow, shadow.head, tip, wanted)
            try:
                target = await (joining.merge(current) if mode == "merge" else joining.rebase(former))
            except merging.Conflicts as error:
                raise MergeConflict(wanted, diffs.named(error.paths), error.commit) from error
        await download_large(
            *(bench.git, hub, shadow, remote, await merging.differences(shadow, shadow.head, target)),
            max_file_bytes=bench.settings.max_file_bytes,
            on_line=on_line,
        )
        await move_to(bench, shadow, current, target, f"pull ({'forward' if forward else mode})")
        return attrs.evolve(answer, updated=True, commit=target)


@attrs.frozen
class _Joining:
    """Two lines of commits that shall become one."""

    bench: Workbench
    shadow: Shadow
    head: str
    tip: str
    wanted: str

    async def merge(self, current: str) -> str:
        """Return a commit with both as parents."""
        await self._check_related(self.head)
        tree = await merging.merged_tree(self.shadow, self.head, self.tip)
        into = "" if self.wanted == current else f" into {current}"
        message = f"Merge branch '{self.wanted}' of the remote{into}"
        return await record(self.bench, self.shadow, tree, (self.head, self.tip), message)

    async def rebase(self, former: list[str]) -> str:
        """Return what comes of the commits that are only here, put on the remote's one after the other.

        Args:
            former: Where the remote's branch has been. What it had then, and was rewritten since, is not the
                workspace's own work.
        """
        gone = [f"^{one}" for one in await self._known(former)]
        span = ("--right-only", f"{self.tip}...{self.head}", *gone)
        if int((await self.shadow.run("rev-list", "--count", "--merges", *span)).text):
            raise BranchDiverged(
                self.wanted, "a rebase would take the merges apart that are among the commits here; use mode `merge`"
            )
        words = ("rev-list", "--reverse", "--topo-order", "--parents", "--cherry-pick", *span)
        listed = [line.split() for line in (await self.shadow.run(*words)).text.splitlines()]
        if len(listed) > MAX_REPLAYED:
            raise BranchDiverged(
                self.wanted, f"a rebase takes at most {MAX_REPLAYED} commits along, and here are {len(listed)}"
            )
        onto = self.tip
        for commit, *parents in listed:
            if not parents:
                raise self._unrelated()
            onto = await self._replay(commit, parents[0], onto)
        return onto

    async def _replay(self, commit: str, parent: str, onto: str) -> str:
        tree = await merging.replayed_tree(self.shadow, commit, parent, onto)
        trees = (
            await self.shadow.run("rev-parse", *(f"{one}^{{tree}}" for one in (onto, commit, parent)))
        ).text.split()
        if tree == trees[0] and trees[1] != trees[2]:  # the remote has that change already
            return onto
        original = (await self.shadow.run("cat-file", "commit", commit)).output
        text = replayed(original, tree=tree, parent=onto, committer=who(self.bench))
        return await write(self.bench, self.shadow, text)

    async def _known(self, commits: list[str]) -> list[str]:
        asked = "".join(f"{one}\n" for one in commits).encode()
        done = await self.shadow.run("cat-file", "--batch-check", stdin=asked)
        return [words[0] for words in map(str.split, done.output.decode().splitlines()) if words[1] == "commit"]

    async def _check_related(self, head: str) -> None:
        if (await self.shadow.run("merge-base", head, self.tip, check=False)).code != 0:
            raise self._unrelated()

    def _unrelated(self) -> BranchDiverged:
        return BranchDiverged(
            self.wanted,
            f"{self.wanted!r} of the remote and what is checked out have no commit in common, or it is not here "
            "because the clone is shallow",
        )
