"""What the host gives to one package in one tenant's realm."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from clonk_core.errors import CallError
from clonk_core.interfaces.hub import Hub
from clonk_core.interfaces.metrics import PluginMetrics
from clonk_core.interfaces.storage import Database
from clonk_core.messages import AuditKind, Caller, ErrorObject, Identity, JsonValue


class Log(Protocol):
    """A logger bound to a package's name; keyword arguments become members of the record."""

    def debug(self, event: str, **members: Any) -> None:
        """Log for those who look for a fault."""

    def info(self, event: str, **members: Any) -> None:
        """Log what the operator may want to know."""

    def warning(self, event: str, **members: Any) -> None:
        """Log what the operator should look at."""

    def error(self, event: str, **members: Any) -> None:
        """Log what failed."""

    def exception(self, event: str, **members: Any) -> None:
        """Log what failed, with the traceback of the exception being handled."""


class SettingOrigin(Protocol):
    """Where a setting came from. As text it is what people are told: `clonk.yaml:12`, `CLAUDE_CODE_OAUTH_TOKEN`."""

    @property
    def kind(self) -> Literal["default", "file", "environment", "flag"]:
        """Which layer of the configuration."""


class WorkspaceMapping(Protocol):
    """One folder of `workspaces.mappings` and the repository it belongs to."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def remote(self) -> str:
        """Its remote."""

    @property
    def branch(self) -> str:
        """Branch to work on."""

    @property
    def auto_commit(self) -> bool:
        """Whether each chat is committed."""

    @property
    def auto_push(self) -> bool:
        """Whether each commit is pushed."""


class WorkspacesSection(Protocol):
    """What the section `workspaces` of the configuration says of repositories."""

    @property
    def mappings(self) -> Sequence[WorkspaceMapping]:
        """Folders with their remotes."""

    @property
    def auto_discover(self) -> bool:
        """Whether to look for repositories below the roots."""

    @property
    def allowed_orgs(self) -> Sequence[str]:
        """Organizations whose repositories are taken."""


class Host(Protocol):
    """What the host gives to one package in one tenant's realm."""

    @property
    def settings(self) -> Any:
        """The package's own section of the configuration, an instance of the class its `clonk_settings` hook gave."""

    @property
    def data_dir(self) -> Path:
        """Folder for the package's own files, made on first use (`<data_dir>/<package name>`)."""

    @property
    def workspaces_dir(self) -> Path:
        """Folder of the realm's workspaces (`<data_dir>/workspaces`)."""

    @property
    def workspace_roots(self) -> Sequence[Path]:
        """Folders, resolved, below which sessions and repositories may live."""

    @property
    def workspaces(self) -> WorkspacesSection:
        """What the configuration says of repositories in them."""

    @property
    def tenant(self) -> str:
        """Name of the realm's tenant."""

    @property
    def caller(self) -> Caller:
        """Who called the method that is running now; the package's own service caller in background work."""

    @property
    def log(self) -> Log:
        """Logger bound to the package's name."""

    @property
    def metrics(self) -> PluginMetrics:
        """Makes metrics of the package's own; while metrics are off they can be used all the same, and do nothing."""

    @property
    def hub(self) -> Hub:
        """What the host tells of itself."""

    def setting_origin(self, path: str) -> SettingOrigin:
        """Tell where one of the package's settings came from, by its path in the section: `session.timeout`."""

    async def secret(self, name: str) -> str | None:
        """Return a secret that `clonk secrets set` has kept for this tenant; None when there is none of that name.

        Ask each time it is used and keep it nowhere, so that a new value is found without a restart.

        Raises:
            Unavailable: It is there and cannot be decrypted; the log says why.
        """

    def database(self, name: str, *, migrations: str) -> Database:
        """Return the package's database, opened and migrated before the first call.

        To be asked for in a hook, as a rule when the activation is made; asked for again it is the same.

        Args:
            name: File name without ending (`arbor` for `arbor.db`): lower-case letters, digits and `_`.
            migrations: Dotted name of the package that holds the numbered SQL files (`clonk_arbor.migrations`).

        Raises:
            PluginError: The name is against the rule or another package's, or it is too late.
        """

    def has(self, method: str) -> bool:
        """Tell whether a method of that name is there."""

    def ask(self, hook: str, /, **arguments: Any) -> Sequence[tuple[str, Any]]:
        """Ask a hook of the package's own (`clonk_hookspecs`) and return what others gave, each with its plugin's name.

        To be asked when every package is there: from `serve` and from methods on. Each plugin that implements the hook
        is offered its own `host` beside the arguments. One that raises is told to the log and left out.

        Args:
            hook: Its name.
            arguments: What the hook is offered.
        """

    async def call(self, method: str, /, **params: JsonValue) -> JsonValue:
        """Call a plain method of another activation for the current caller and return its result as JSON values.

        No scope is checked: the door was passed when the caller came in, and this is the activation's own work.

        Raises:
            CallError: What the method answered.
            PluginError: It is a streaming method; it has not been called.
        """

    def stream(self, method: str, /, **params: JsonValue) -> AbstractAsyncContextManager[AsyncIterator[JsonValue]]:
        """Call a streaming method of another activation and read its events as JSON values, `done` included.

        Leaving the context ends the run, unless the method is durable.

        Raises:
            CallError: What the method answered instead of starting.
            PluginError: It is a plain method; it has not been called.
        """

    def acting(self, caller: Caller) -> Caller:
        """Return a caller who acts in somebody's name, with what that one may do now.

        The answer is of the kind `session`, and its scopes are those that the one given has and that whom it acts for
        has now. What a user of the identity provider may do is not known without a token: there, those given hold.

        Args:
            caller: The id is of whom it acts for; the scopes are what it was given and must never exceed.

        Raises:
            Forbidden: Whom it acts for is let in no more: a key that was revoked, has expired or is gone.
        """

    async def call_as(
        self, caller: Caller, method: str, params: JsonValue, *, peer: str, run_id: str | None = None
    ) -> JsonValue:
        """Call a plain method in somebody's name, through the door, and return its result as JSON values.

        For what is done on another's wish and not as the activation's own work, such as a tool that a model uses. All
        is as if whom it acts for called: scopes, arguments, limits, the deadline and the audit log; but that the method
        sees a caller of the kind `session`, with the scopes of `acting`.

        Args:
            caller: As for `acting`.
            method: Which.
            params: Its arguments, unchecked.
            peer: On whose wish, for the audit log.
            run_id: The run whose work it is, for the audit log.

        Raises:
            CallError: What the method answered, or the door.
            PluginError: It is a streaming method; it has not been called.
        """

    def stream_as(
        self, caller: Caller, method: str, params: JsonValue, *, peer: str, run_id: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[JsonValue]]:
        """Call a streaming method as `call_as` does, and read its events as JSON values, `done` included.

        Leaving the context ends the run, also that of a durable method.

        Raises:
            CallError: What the method answered instead of starting, or the door.
            PluginError: It is a plain method; it has not been called.
        """

    def error_object(self, error: CallError) -> ErrorObject:
        """Return an error as it appears on the wire, for a `Done` event."""

    async def emit(self, event: object) -> None:
        """Tell an event to every handler of its class; a failing handler is recorded and harms nobody."""

    async def audit(
        self,
        action: str,
        *,
        kind: AuditKind = "tool",
        target: str | None = None,
        outcome: str = "ok",
        duration_ms: float | None = None,
        run_id: str | None = None,
        detail: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Write down what was done for the current caller, and return when it is kept; nothing when the log is off.

        Calls at the door are written down already; this is for what an activation does on its own.

        Args:
            action: What was done.
            kind: What it is about.
            target: What it was done to, such as a session's name.
            outcome: `ok`, or what went wrong.
            duration_ms: How long it took.
            run_id: The run it belongs to; that of the current call when None.
            detail: What else is to be known. Each member is kept up to `audit.max_params_bytes`. Nothing is masked.

        Raises:
            StorageFull, StorageError: It is not kept.
        """


CredentialCheck = Callable[[str], Awaitable[Identity | None]]
"""Tells whose credential it is that somebody shows; None for one that it does not know."""

Handler = Callable[[Any], Awaitable[None]]
