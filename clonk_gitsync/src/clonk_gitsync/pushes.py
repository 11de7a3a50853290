"""Pushes what was committed, where `auto_push` wants it: kept in the database until it is done, across restarts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trio

from clonk_core.plugin import CallError, Database, Log, new_id
from clonk_gitsync import store
from clonk_gitsync.errors import GitUnusable, NotRegistered, RemoteFailed, RemoteProblem
from clonk_gitsync.exchange import Exchange
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.store import WaitingPush
from clonk_gitsync.workspaces import Workspaces

MAX_WAIT_S: Final = 3600.0
"""Longest time between two attempts."""

PAGE: Final = 1000
"""Pushes that are looked at together; the rest has its turn when some of them are done."""

LASTING: Final[frozenset[RemoteProblem]] = frozenset({"authentication", "host_key", "refused"})
"""What does not pass by itself; to try it again could close an account."""


class Pushes:
    """What is to be pushed, and does it: several workspaces at the same time, each on its own.

    Args:
        database: Where it is kept.
        settings: How often it is tried.
        workspaces: Tells whether a push is still wanted.
        exchange: Pushes.
        log: For what did not work: nobody is there to be told.
    """

    def __init__(
        self, database: Database, settings: GitSyncSettings, workspaces: Workspaces, exchange: Exchange, log: Log
    ) -> None:
        self._database = database
        self._settings = settings
        self._workspaces = workspaces
        self._exchange = exchange
        self._log = log
        self._changed = trio.Event()
        self._busy: set[Path] = set()

    async def add(self, path: Path, branch: str) -> None:
        """Have a branch pushed. Kept at once, so before the commit is made; begun with by `wake`, at the latest."""
        await self._database.run(store.keep_push, str(path), branch, new_id("push"), datetime.now(UTC))

    def wake(self) -> None:
        """Look for what is due."""
        self._changed.set()

    async def serve(self) -> None:
        """Push, until cancelled. What has waited since an earlier run is tried at once."""
        await self._database.run(store.hasten_pushes, datetime.now(UTC))
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                wait_s = MAX_WAIT_S
                for push in await self._database.read(store.waiting_pushes, PAGE):
                    if push.path in self._busy:
                        continue
                    left_s = (push.due_at - datetime.now(UTC)).total_seconds()
                    if left_s > 0:
                        wait_s = min(wait_s, left_s)
                    elif len(self._busy) < self._settings.concurrency:
                        self._busy.add(push.path)
                        nursery.start_soon(self._work, push)
                with trio.move_on_after(wait_s):
                    await self._changed.wait()

    async def _work(self, push: WaitingPush) -> None:
        try:
            retry = await self._try(push)
            if retry is None:
                await self._database.run(store.delete_push, push)
            else:
                await self._database.run(store.delay_push, push, datetime.now(UTC) + retry)
        except CallError as error:  # of the database: what is kept there stays as it was
            self._log.warning("a push cannot be noted", workspace=str(push.path), reason=error.message)
            await trio.sleep(self._settings.push_retry_s)
        finally:
            self._busy.discard(push.path)
            self.wake()

    async def _try(self, push: WaitingPush) -> timedelta | None:
        """Push, and return after what time it is to be tried again; None for never."""
        path, branch = str(push.path), push.branch
        try:
            workspace = await self._workspaces.get(push.path)
            if not workspace.auto_push:
                return None
            pushed = await self._exchange.push_branch(workspace, branch)
        except NotRegistered:
            return None
        except CallError as error:
            lasting = isinstance(error, RemoteFailed) and error.data["reason"] in LASTING
            passing = isinstance(error, RemoteFailed | GitUnusable) and not lasting
            if passing and push.attempts + 1 < self._settings.push_attempts:
                wait_s = min(self._settings.push_retry_s * 2**push.attempts, MAX_WAIT_S)
                self._log.warning(
                    "a commit is not pushed yet", workspace=path, branch=branch, reason=error.message, again_in_s=wait_s
                )
                return timedelta(seconds=wait_s)
            self._log.warning("a commit is not pushed", workspace=path, branch=branch, reason=error.message)
        else:
            self._log.info("a commit is pushed", workspace=path, branch=branch, commit=pushed.commit)
        return None
