"""The protocols between rooms: who gives what to whom, without saying how."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import attrs

from clonk_core.errors import CallError
from clonk_core.messages import AuditKind, Caller, ErrorObject, Event, JsonValue, Quota, Reply, Request, StopReason

if TYPE_CHECKING:
    # Not loaded with the plugin API.
    from clonk_core.gateway_messages import ApiKeyInfo, AuditEntry, AuditFilters, AuditReport, AuditRow, KeyRequest
    from clonk_core.methods import Method

P = ParamSpec("P")
T = TypeVar("T")

Row = tuple[Any, ...]
Bindings = Mapping[str, Any] | Sequence[Any]


class Transaction(Protocol):
    """One open transaction, given to the plain function that `Database.run` calls on the database's thread.

    SQL is written once with `:name` parameters. The function must not keep the object after it returns.
    """

    def execute(self, sql: str, bindings: Bindings = ()) -> Iterator[Row]:
        """Run one statement and return an iterator over its rows (run to the end for statements without rows)."""

    def execute_many(self, sql: str, rows: Sequence[Bindings]) -> None:
        """Run one statement once for each set of bindings."""

    def one(self, sql: str, bindings: Bindings = ()) -> Row | None:
        """Return the first row, or None."""

    def all(self, sql: str, bindings: Bindings = ()) -> list[Row]:
        """Return all rows."""

    def changes(self) -> int:
        """Return how many rows the last statement inserted, updated or deleted."""


class Database(Protocol):
    """One package's database (`arbor.db`)."""

    @property
    def name(self) -> str:
        """Name without the ending: `arbor`."""

    async def run(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(transaction, *args)` as one transaction: committed when it returns, rolled back when it raises.

        When the caller is cancelled while the function runs, the transaction may commit all the same.

        Raises:
            StorageFull: The disk is full; nothing was kept.
            StorageError: The database is broken or closed.
        """

    async def read(self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(transaction, *args)` on a read-only connection, beside writers, with one consistent view."""

    async def write_grouped(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `run`, sharing its commit with whatever else is waiting: for many small writes at the same time.

        Each function is isolated by a savepoint: one that raises is undone alone.
        """


class CoreDatabase(Database, Protocol):
    """The core's own database, which every call at the door writes a row into."""

    async def write_small(
        self, function: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `write_grouped`, for a row that somebody waits for and that is small: it must take some 10 us.

        When nobody else is writing it is done here and now, without a checkpoint; else with the others.
        """


class Run(Protocol):
    """An ordered, numbered log of events with exactly one last event, `done`."""

    @property
    def id(self) -> str:
        """The subscription, `sub_...`."""

    @property
    def method(self) -> str:
        """Name of the method whose run it is."""

    @property
    def caller(self) -> Caller:
        """Who started it."""

    @property
    def target(self) -> str | None:
        """What it is about (a session's name), None for nothing."""

    @property
    def durable(self) -> bool:
        """Whether it goes on without a reader."""

    @property
    def state(self) -> Literal["running", "done"]:
        """`done` once its last event is stored."""

    @property
    def outcome(self) -> str | None:
        """How it ended, None while it runs."""

    @property
    def last_seq(self) -> int:
        """Number of the last stored event, 0 before the first."""

    def follow(self, after: int = 0) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Event]]]:
        """Read the events after number `after`, in batches of what is ready, waiting for more until `done`.

        A batch is at most 512 events and about 256 KiB. The iteration ends after `done`. Reads at the reader's own
        pace; events that retention has dropped are told by one gap event whose `seq` is the last one dropped.
        Leaving the context ends a run that is not durable.

        Raises:
            InvalidParams: `after` is beyond what the run has.
            StorageFull, Unavailable: The log cannot be written or read now; what was read stays read, come back later.
        """

    async def stop(self, reason: StopReason) -> None:
        """Stop the run and return when its `done` is stored; nothing when it has ended already."""


@attrs.frozen(kw_only=True)
class Following:
    """The answer of a streaming method: follow `run` after event number `after`.

    Attributes:
        run: Which run.
        after: Number of the last event that the caller has already.
        repeated: The run was there before: an earlier request with the same idempotency key has started it.
    """

    run: Run
    after: int = 0
    repeated: bool = False


class Settling(Protocol):
    """Something that is being found out."""

    async def wait(self) -> object:
        """Wait until it is."""


@attrs.define(kw_only=True)
class Connection:
    """What a transport knows of the other side.

    Attributes:
        transport: Which door.
        peer: Address of the other side, for the log: `127.0.0.1:51234`, `stdio`.
        id: Names the connection in the log (`conn_...`).
        address: IP address of the other side, that of the client behind trusted proxies; empty where there is none.
        bearer: The credential of `Authorization: Bearer`, if one was given. Never logged.
        caller: Who it turned out to be, once the gateway knows; kept for the connection's life.
        quota: What was left of the caller's rate limit after the last call; None without one.
        grant: What the gateway remembers of the caller; None until it is known. The gateway's own.
        settling: Whether a credential is good that is being looked at now, None when none is: calls that came behind it
            wait for that. The gateway's own.
        trace_id: The trace that the request belongs to (W3C Trace Context), for the log; None where none was told.
    """

    transport: Literal["http", "websocket", "stdio", "inside"]
    peer: str
    id: str
    address: str = ""
    bearer: str | None = attrs.field(default=None, repr=False)
    caller: Caller | None = None
    quota: Quota | None = None
    trace_id: str | None = None
    grant: object = attrs.field(default=None, repr=False)
    settling: Settling | None = attrs.field(default=None, repr=False)
    _runs: list[Run] = attrs.field(factory=list, init=False, repr=False)

    def note_run(self, run: Run) -> None:
        """Remember a run that was started over this connection."""
        self._runs = [one for one in self._runs if one.state == "running"]
        self._runs.append(run)

    def runs_open(self) -> bool:
        """Tell whether a run that was started over this connection is going on."""
        return any(run.state == "running" for run in self._runs)


class AuditWriter(Protocol):
    """Where what happens is written down."""

    async def write(self, entry: "AuditEntry") -> None:
        """Write one entry and return when it is kept.

        Raises:
            StorageFull, StorageError: It is not kept.
        """


class KeyKeeper(Protocol):
    """Makes, changes and takes back API keys."""

    def list(self, caller: Caller) -> "Sequence[ApiKeyInfo]":
        """Return the keys that the caller may see, by id."""

    def get(self, caller: Caller, key_id: str) -> "ApiKeyInfo":
        """Return one key.

        Raises:
            NotFound: There is none, or none that the caller may see.
        """

    async def create(self, caller: Caller, wanted: "KeyRequest") -> "tuple[ApiKeyInfo, str]":
        """Make a key; return it and its secret, which nobody can be shown again.

        Raises:
            InvalidParams: A word is against the rules.
            Forbidden: It would do more than its maker may.
            Conflict: The id is taken.
        """

    async def revoke(self, caller: Caller, key_id: str) -> "ApiKeyInfo":
        """Take a key back.

        Raises:
            NotFound: There is none.
            Conflict: It stands in the configuration.
            Forbidden: It may do more than the caller.
        """

    async def rotate(self, caller: Caller, key_id: str, keep_old_for_s: float) -> "tuple[ApiKeyInfo, str]":
        """Give a key a new secret; the old one is good for `keep_old_for_s` more. Return both.

        Raises:
            NotFound: There is none.
            Conflict: It stands in the configuration, or was revoked.
            Forbidden: It may do more than the caller.
        """


class AuditReader(Protocol):
    """What is written down, to be read; see `AuditWriter`."""

    async def query(
        self,
        filters: "AuditFilters",
        *,
        limit: int,
        before: int | None = None,
        after: int | None = None,
    ) -> "Sequence[AuditRow]":
        """Return up to `limit` rows, newest first; oldest first with `after`.

        Args:
            filters: Which.
            limit: At most this many.
            before: Only rows with a lower number: the last one of the page before.
            after: Only rows with a higher number, the oldest of them first. Not together with `before`.
        """

    def follow(self, filters: "AuditFilters", *, after: int | None = None) -> "AsyncIterator[AuditRow]":
        """Iterate over the rows after number `after` (None for those to come), waiting for more, for ever.

        Rows that another process writes are seen within a second.
        """

    async def verify(self, *, expect_head: str | None = None) -> "AuditReport":
        """Check the chain of hashes from its beginning to its end.

        Args:
            expect_head: A head noted earlier (`AuditReport.head`), which must still be in the log.

        Raises:
            InvalidParams: `expect_head` is none.
        """


class Dispatch(Protocol):
    """The one door behind the transports."""

    async def __call__(self, request: Request, connection: Connection) -> Reply | Following:
        """Find the caller, check scope and arguments, call the method.

        Raises:
            CallError: And nothing else, whatever goes wrong behind the door (`Cancelled` apart).
        """

    async def greet(self, connection: Connection) -> None:
        """Look at the credential that a connection begins with, where it has one.

        Raises:
            CallError: It is not good; the connection shall not be opened.
        """

    async def wait_over(self, connection: Connection) -> str:
        """Wait until the connection may not go on, and return why in a few words.

        It may not when it has not said who it is in time, and when its credential is revoked or expires. For the local
        caller this waits for ever.
        """


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


@attrs.frozen(kw_only=True)
class PluginStatus:
    """One installed plugin.

    Attributes:
        name: The entry point's name, or the file's for a single-file plugin.
        package: Distribution that brought it; null for a single file.
        version: Version of the distribution; null for a single file.
        state: `loaded`, `failed`, or `disabled` by the configuration.
        namespaces: What its activations offer.
        error: Why it could not be loaded; null when it was.
        services: State of each background service by namespace: `starting`, `running`, `restarting: ` and why, `ended`.
    """

    name: str
    package: str | None = None
    version: str | None = None
    state: Literal["loaded", "failed", "disabled"] = "loaded"
    namespaces: tuple[str, ...] = ()
    error: str | None = None
    services: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class RunSummary:
    """One run, as `rpc.subscriptions` lists it.

    Attributes:
        subscription: Its id.
        method: The method called.
        state: `running` or `done`.
        outcome: How it ended: `complete`, `cancelled`, `refused`, `limited` or `failed`; null while it runs.
        durable: Whether it goes on without a reader.
        last_seq: Number of the last event, 0 before the first.
        started_at: Clock time of the start (RFC 3339, UTC).
        ended_at: Clock time of the end; null while it runs.
    """

    subscription: str
    method: str
    state: Literal["running", "done"]
    outcome: str | None
    durable: bool
    last_seq: int
    started_at: str
    ended_at: str | None


class Hub(Protocol):
    """What the host tells of itself to the built-in activations."""

    @property
    def version(self) -> str:
        """Version of clonk-core."""

    @property
    def started_at(self) -> str:
        """When the host started (RFC 3339, UTC)."""

    @property
    def plugins(self) -> Sequence[PluginStatus]:
        """Every installed plugin."""

    @property
    def audit(self) -> AuditReader:
        """The audit log.

        Raises:
            Unavailable: It is off.
        """

    def methods(self, caller: Caller) -> "Sequence[Method]":
        """Every method this caller may call, by name."""

    def hashes(self) -> Mapping[str, str]:
        """Hash of each namespace by name, and of the whole registry under the empty name."""

    def openrpc(self, caller: Caller) -> JsonValue:
        """The OpenRPC document of every method this caller may call."""

    async def find_run(self, caller: Caller, subscription: str) -> Run:
        """Return a run that this caller may see, running or kept.

        Raises:
            NotFound: There is none, or it is not this caller's.
        """

    async def list_runs(self, caller: Caller, *, limit: int, before: str | None) -> Sequence[RunSummary]:
        """The caller's runs, newest first, those before the subscription `before` in the order."""

    @property
    def keys(self) -> KeyKeeper:
        """Makes, changes and takes back API keys.

        Raises:
            Unavailable: The gateway is not open yet.
        """

    async def authenticate(self, credential: str) -> Caller:
        """Make the connection over which the call that is running came the credential's.

        Raises:
            Unauthenticated: It is not good.
            InvalidRequest: This connection cannot be made anyone's, or not now.
        """

    def quota(self, caller: Caller) -> Quota | None:
        """Return what is left of a caller's rate limit, None without one."""

    async def check(self) -> Mapping[str, str]:
        """State of each database and activation: `ok`, or what is wrong."""


class Counter(Protocol):
    """A number that only goes up."""

    def inc(self, amount: float = 1, **labels: str) -> None:
        """Add to it; every label must be given."""


class Gauge(Protocol):
    """A number that goes up and down."""

    def add(self, amount: float, **labels: str) -> None:
        """Add to it, or take off with a negative amount; every label must be given."""

    def set(self, value: float, **labels: str) -> None:
        """Set it. All tenants share it: where each has its part, use `add`."""


class Histogram(Protocol):
    """How often values were how large."""

    def observe(self, value: float, **labels: str) -> None:
        """Count a value; every label must be given."""


class PluginMetrics(Protocol):
    """Makes a package's metrics. Names get the prefix `clonk_<package>_`; asked for twice it is the same one.

    Names end in their unit (`turn_duration_seconds`). A label must have few values: no caller, session or text. Of one
    metric at most 2000 combinations are kept apart.

    Raises:
        PluginError: A name is against the rules, or declared in another way already; a label is missing.
    """

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """Return a counter; it is shown with `_total` behind its name."""

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        """Return a gauge."""

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = ()
    ) -> Histogram:
        """Return a histogram; without `buckets` its upper bounds suit seconds, 0.5 ms to 30 s."""


class SettingOrigin(Protocol):
    """Where a setting came from. As text it is what people are told: `clonk.yaml:12`, `CLAUDE_CODE_OAUTH_TOKEN`."""

    @property
    def kind(self) -> Literal["default", "file", "environment", "flag"]:
        """Which layer of the configuration."""


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


Handler = Callable[[Any], Awaitable[None]]
