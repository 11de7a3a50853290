"""Every setting of the core: frozen classes with defaults, units, bounds, and the reason where a default needs one.

Metadata of a field:
    secret: never shown, in no message and no `clonk config show`.
    stored_as: name of the secret of `clonk secrets` that a package uses instead, told to whoever writes it into the
        file.
    env: further environment variable that sets it, beside `CLONK_SECTION__KEY`.
    flag: flag of `clonk serve` and `clonk stdio` that sets it.
    default_text: the default in words, where it depends on the machine.
"""

from pathlib import Path
from typing import Annotated, Literal

import attrs
from annotated_types import Ge, Gt, Le

from clonk_core.config.auth_settings import AuthSettings
from clonk_core.config.kinds import MIB, Bytes, Networks, Port, Seconds, Text, check_networks
from clonk_core.config.places import default_data_dir
from clonk_core.plugin import Pattern


@attrs.frozen(kw_only=True)
class TlsSettings:
    """Encryption by Clonk itself; usually a reverse proxy does it.

    Attributes:
        enabled: Whether both ports speak TLS (1.2 and later).
        cert_path: Certificate chain, PEM. Read again on SIGHUP.
        key_path: Private key, PEM, without a passphrase.
    """

    enabled: bool = False
    cert_path: Path | None = None
    key_path: Path | None = None


@attrs.frozen(kw_only=True)
class ServerSettings:
    """Where Clonk listens, and how much it takes.

    Attributes:
        host: Address that both ports bind. Off the loopback, callers must prove who they are (`auth.enabled`) and there
            must be a key.
        websocket_port: Port of the WebSocket transport, paths `/` and `/ws`. 0 takes any free port.
        http_port: Port of HTTP and SSE: `/mcp`, `/health`, `/ready`, `/openrpc.json`. 0 takes any free port.
        tls: Encryption by Clonk itself.
        allowed_hosts: Further names that a request's `Host` header may bear, without port. The loopback's names and
            `host` are always allowed; anything else is refused, so that no web page can reach Clonk by a name of its
            own (DNS rebinding).
        trusted_proxies: Networks, such as `10.0.0.0/8`, of reverse proxies whose `X-Forwarded-For` and
            `X-Forwarded-Proto` are believed. From anyone else these headers mean nothing.
        allowed_origins: Web origins, such as `https://app.example.com`, whose pages may call. Requests without an
            `Origin` header do not come from web pages and are not concerned.
        max_body_bytes: Largest body of one HTTP request, in bytes.
        max_message_bytes: Largest message on WebSocket and stdio, in bytes.
        max_batch_items: Most requests in one JSON-RPC batch.
        call_deadline_s: Longest time a plain call may take, in seconds, where its method names no other. Streams have
            no limit.
        max_strangers: Most connections of a port at the same time that have not said who they are; on the HTTP port,
            those that are idle or have not sent a whole request. When more come, the one that has waited longest is
            closed.
        handshake_timeout_s: Longest time of a TLS handshake, and from there to the end of a WebSocket's, in seconds.
        body_timeout_s: Longest time for the body of an HTTP request to arrive, in seconds. Longer is no client but an
            open connection that costs.
        idle_timeout_s: An HTTP connection on which no request is being answered, or that has not sent the whole head of
            one, is closed after this time, in seconds. Common proxies close after 60 s, and should be the first.
        keep_alive_s: A quiet SSE stream gets a comment, and a quiet WebSocket a ping, every so many seconds. 15 is
            below the idle limit of common proxies (60 s, some 30 s).
        send_timeout_s: Longest time one write may wait for the other side to read, in seconds. Then the connection is
            closed; a durable stream can be resumed.
        shutdown_grace_s: Longest time for running work to end in order at shutdown, in seconds; container runtimes
            kill after 10 s.
    """

    host: Text = attrs.field(default="127.0.0.1", metadata={"flag": "--host"})
    websocket_port: Port = attrs.field(default=4444, metadata={"flag": "--websocket-port"})
    http_port: Port = attrs.field(default=4445, metadata={"flag": "--http-port"})
    tls: TlsSettings = TlsSettings()
    allowed_hosts: tuple[Text, ...] = ()
    trusted_proxies: Networks = ()
    allowed_origins: tuple[Annotated[str, Pattern("https?://[^/]+", "such as https://app.example.com")], ...] = ()
    max_body_bytes: Bytes = 10 * MIB
    max_message_bytes: Bytes = 10 * MIB
    max_batch_items: Annotated[int, Ge(1), Le(10_000)] = 100
    call_deadline_s: Seconds = 30.0
    max_strangers: Annotated[int, Ge(1), Le(1_000_000)] = 2000
    handshake_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    idle_timeout_s: Seconds = 75.0
    keep_alive_s: Seconds = 15.0
    send_timeout_s: Seconds = 30.0
    shutdown_grace_s: Seconds = 10.0

    def __attrs_post_init__(self) -> None:
        check_networks(self.trusted_proxies)
        if self.http_port and self.http_port == self.websocket_port:
            raise ValueError(f"http_port and websocket_port are both {self.http_port}; they must differ")


@attrs.frozen(kw_only=True)
class StorageSettings:
    """Where Clonk keeps what it must not forget.

    Attributes:
        data_dir: Folder of the databases (`clonk.db`, `claudecode.db`, `arbor.db`) and of `workspaces/`; made when it
            is missing.
        database_url: Postgres for several machines, `postgres://user:pass@host/clonk`. A later version: giving it
            stops the start.
    """

    data_dir: Path = attrs.field(
        factory=default_data_dir,
        metadata={
            "flag": "--data-dir",
            "default_text": "`$XDG_DATA_HOME/clonk` or `~/.local/share/clonk`; `/var/clonk` in a container",
        },
    )
    database_url: Annotated[str, Pattern("postgres(ql)?://.+", "postgres://user:pass@host/name")] | None = attrs.field(
        default=None, repr=False, metadata={"secret": True}
    )


@attrs.frozen(kw_only=True)
class WorkspaceMapping:
    """One folder and the repository it belongs to.

    Attributes:
        path: The folder.
        remote: Its remote, `git@github.com:org/repo.git`.
        branch: Branch to work on.
        auto_commit: Commit after each chat.
        auto_push: Push after each commit.
    """

    path: Path
    remote: Text
    branch: Text = "main"
    auto_commit: bool = False
    auto_push: bool = False


@attrs.frozen(kw_only=True)
class WorkspacesSettings:
    """Folders that sessions work in.

    Attributes:
        roots: Folders below which sessions and repositories may live, symbolic links resolved. The data directory's own
            `workspaces/` is always one, and `/workspace` when none is named.
        mappings: Folders with their remotes, which gitsync registers at the start.
        auto_discover: Look for repositories below the roots at the start, and register with gitsync those whose remote
            belongs to one of `allowed_orgs`.
        allowed_orgs: Organizations whose repositories are taken by `auto_discover`: the first part of the remote's
            path, whatever its capitals. None are taken when it is empty.
    """

    roots: tuple[Path, ...] = ()
    mappings: tuple[WorkspaceMapping, ...] = ()
    auto_discover: bool = False
    allowed_orgs: tuple[Text, ...] = ()


@attrs.frozen(kw_only=True)
class LoggingSettings:
    """What is logged, and how. Logs go to standard error and never hold a secret.

    Attributes:
        level: Least important records that are kept.
        format: `pretty` for people, `json` for programs, one record a line; `auto` is `pretty` on a terminal and `json`
            otherwise.
        requests: Which calls get a line: `all`, those that `failed`, or `none`. Each has an entry in the audit log
            besides.
    """

    level: Literal["debug", "info", "warning", "error"] = attrs.field(default="info", metadata={"flag": "--log-level"})
    format: Literal["auto", "json", "pretty"] = attrs.field(default="auto", metadata={"flag": "--log-format"})
    requests: Literal["all", "failed", "none"] = "all"


@attrs.frozen(kw_only=True)
class MetricsSettings:
    """Prometheus metrics on a port of their own.

    Attributes:
        enabled: Whether they are served.
        host: Address that the port binds. Whoever reaches it can read the metrics, which name methods, but no caller,
            session or text. A request's `Host` must bear this name, one of the loopback's, or one of
            `server.allowed_hosts`.
        port: Where. 0 takes any free port.
    """

    enabled: bool = False
    host: Text = "127.0.0.1"
    port: Port = 9090


@attrs.frozen(kw_only=True)
class AuditSettings:
    """Who did what: one row for each call at the door and each tool that Claude used, in `clonk.db`.

    Attributes:
        enabled: Whether it is written. While it cannot be (the disk is full), calls that only read go on, and others
            are refused.
        required: Whether a call that changes something is also written down before it is done (outcome `begun`), so
            that not even the first one is done whose row cannot be kept. It costs another row for each.
        retention_days: How long rows are kept, in days.
        max_params_bytes: Most of a call's arguments, and of a tool's input, that is kept of one row; the rest is told
            by its size and digest.
    """

    enabled: bool = True
    required: bool = False
    retention_days: Annotated[float, Gt(0), Le(36_600)] = 90.0
    max_params_bytes: Annotated[int, Ge(0), Le(65_536)] = 1024

    def __attrs_post_init__(self) -> None:
        if self.required and not self.enabled:
            raise ValueError("required asks for an audit log, and enabled turns it off; change one of them")


@attrs.frozen(kw_only=True)
class SecretsSettings:
    """The key under which `clonk secrets` are kept, encrypted, in `clonk.db`. One of the two, or neither: then a key is
    made at first use, in `secret.key` in the data directory, readable for its owner alone.

    Attributes:
        key_file: File with the key: 32 bytes in base64.
        key_command: Program with its arguments that prints the key, such as that of a key store.
    """

    key_file: Path | None = None
    key_command: tuple[Text, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.key_file is not None and self.key_command:
            raise ValueError("key_file and key_command are both given; the key comes from one place")


@attrs.frozen(kw_only=True)
class StreamsSettings:
    """Runs: what streaming methods answer with.

    Attributes:
        retention_s: How long the events of a durable run are kept after its end, in seconds. A day lets a reader come
            back tomorrow.
        stop_grace_s: Time a run that is asked to stop has to say its last words, in seconds, before it is cut off.
    """

    retention_s: Annotated[float, Ge(0), Le(366 * 86_400)] = 86_400.0
    stop_grace_s: Seconds = 10.0


@attrs.frozen(kw_only=True)
class PluginsSettings:
    """Which plugins are loaded.

    Attributes:
        dir: Folder of single-file plugins (`*.py`), for a quick tool without packaging.
        disabled: Names of plugins to leave out, as `clonk plugins` lists them.
    """

    dir: Path | None = None
    disabled: tuple[Text, ...] = ()


@attrs.frozen(kw_only=True)
class Settings:
    """The core's part of `clonk.yaml`. Packages add sections of their own.

    Attributes:
        version: Version of this file's format.
        server: Where Clonk listens, and how much it takes.
        auth: Who may call.
        storage: Where Clonk keeps what it must not forget.
        workspaces: Folders that sessions work in.
        logging: What is logged, and how.
        metrics: Prometheus metrics.
        audit: Who did what.
        secrets: The key under which secrets are kept.
        streams: Runs: what streaming methods answer with.
        plugins: Which plugins are loaded.
    """

    version: Literal["1"] = "1"
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = attrs.field(factory=AuthSettings)
    storage: StorageSettings = attrs.field(factory=StorageSettings)
    workspaces: WorkspacesSettings = WorkspacesSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()
    audit: AuditSettings = AuditSettings()
    secrets: SecretsSettings = SecretsSettings()
    streams: StreamsSettings = StreamsSettings()
    plugins: PluginsSettings = PluginsSettings()
