"""`gitsync`. Thin: `methods` says what is offered, `workbench.py`, `exchange.py` and `cloning.py` do the work."""

from collections.abc import Callable

from clonk_core.plugin import Activation, Host
from clonk_gitsync.credentials import Credentials
from clonk_gitsync.discovery import register_configured
from clonk_gitsync.exchange import Exchange
from clonk_gitsync.forges.opening import Forges
from clonk_gitsync.git.process import Git
from clonk_gitsync.methods.looking import LookingMethods
from clonk_gitsync.methods.pull_requests import PullRequestMethods
from clonk_gitsync.methods.work import WorkMethods
from clonk_gitsync.methods.workspaces import WorkspaceMethods
from clonk_gitsync.policy import Policy
from clonk_gitsync.pull_requests import PullRequests
from clonk_gitsync.pushes import Pushes
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.signing import Signer
from clonk_gitsync.workbench import Workbench
from clonk_gitsync.workspaces import Workspaces


class GitSync(WorkspaceMethods, LookingMethods, WorkMethods, PullRequestMethods, Activation):
    """Work of sessions, brought to branches of repositories."""

    namespace = "gitsync"
    version = "1.1.0"

    def __init__(self, host: Host) -> None:
        database = host.database("gitsync", migrations="clonk_gitsync.migrations")
        home = host.data_dir / "home"
        repositories = host.data_dir / "repositories"
        tools = host.data_dir / "tools"
        for folder in (home, repositories, tools):
            folder.mkdir(exist_ok=True, mode=0o700)
        self._host = host
        # Hosted without the package's hooks, as in a test, there is no section.
        settings = host.settings if isinstance(host.settings, GitSyncSettings) else GitSyncSettings()
        self._settings = settings
        self._policy = Policy(settings, host.workspace_roots)
        self._git = Git(home, large_files=settings.large_files)
        self._workspaces = Workspaces(database, host.workspace_roots, self._policy)
        forges = Forges(settings, host)
        credentials = Credentials(settings, host.secret, tools, forges.token)
        key = settings.signing_key
        signer = None if key is None else Signer(key, host.secret, tools, host.log)
        self._bench = Workbench(
            settings, self._policy, self._git, host.workspace_roots, repositories, credentials, host.log, signer
        )
        self._exchange = Exchange(self._bench)
        self._pull_requests = PullRequests(self._bench, self._exchange, forges)
        self._pushes = Pushes(database, settings, self._workspaces, self._exchange, host.log)

    async def serve(self, started: Callable[[], None]) -> None:
        try:
            await register_configured(self._host, self._workspaces, self._git)
            started()
            await self._pushes.serve()
        finally:
            self._bench.glances.close()
