"""`hub`: what this host is made of."""

from typing import Annotated, Final

import attrs

from clonk_core.interfaces.hub import Hub
from clonk_core.methods import Method
from clonk_core.plugin import Activation, Call, JsonValue, MaxLen, NotFound, PluginStatus, method

PROTOCOL_VERSION: Final = "1"
"""Version of the wire contract."""

FEATURES: Final = ("batches", "durable-streams", "openrpc", "positional-params", "resume")


@attrs.frozen(kw_only=True)
class HubInfo:
    """What this host is.

    Attributes:
        name: Always `clonk`.
        version: Version of clonk-core.
        protocol_version: Version of the wire contract.
        features: What this server can do beyond plain calls.
        registry_hash: Changes when, and only when, any method's contract changes.
        started_at: When the host started (RFC 3339, UTC).
    """

    name: str
    version: str
    protocol_version: str
    features: tuple[str, ...]
    registry_hash: str
    started_at: str


@attrs.frozen(kw_only=True)
class MethodSchema:
    """The raw schema of one method.

    Attributes:
        name: Dotted name.
        summary: What it does, in a sentence.
        params: JSON Schema of the arguments as one object; their order is that of positional arguments.
        result: JSON Schema of the result; of one event when it streams.
        scope: What a caller must hold; null when nothing is needed.
        streaming: Whether it answers with a subscription.
        durable: Whether its run goes on without a reader and can be resumed.
        hash: Changes when, and only when, the contract changes.
    """

    name: str
    summary: str
    params: JsonValue
    result: JsonValue
    scope: str | None
    streaming: bool
    durable: bool
    hash: str


@attrs.frozen(kw_only=True)
class SchemaPage:
    """Schemas and the hashes over them.

    Attributes:
        registry_hash: Hash of the whole registry.
        namespaces: Hash of each namespace that appears below.
        methods: The schemas, by name.
    """

    registry_hash: str
    namespaces: dict[str, str]
    methods: tuple[MethodSchema, ...]


class HubActivation(Activation):
    """What this host is made of."""

    namespace = "hub"
    version = "1.0.0"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @method(public=True, read_only=True, idempotent=True)
    async def info(self) -> HubInfo:
        """Return version, protocol version, features and the hash of the registry."""
        return HubInfo(
            name="clonk",
            version=self._hub.version,
            protocol_version=PROTOCOL_VERSION,
            features=FEATURES,
            registry_hash=self._hub.hashes()[""],
            started_at=self._hub.started_at,
        )

    @method(scope="read", read_only=True, idempotent=True)
    async def plugins(self) -> tuple[PluginStatus, ...]:
        """List every installed plugin: package, version, state, and why one could not be loaded."""
        return tuple(self._hub.plugins)

    @method(public=True, read_only=True, idempotent=True, errors=[NotFound])
    async def schema(self, call: Call, method: Annotated[str, MaxLen(200)] | None = None) -> SchemaPage:
        """Return the raw schema of one method, of one namespace, or of all.

        Args:
            method: Name of a method (`claudecode.chat`) or of a namespace (`claudecode`); all when left out.
        """
        chosen = self._choose(call, method)
        hashes = self._hub.hashes()
        return SchemaPage(
            registry_hash=hashes[""],
            namespaces={name: hashes[name] for name in sorted({one.namespace for one in chosen})},
            methods=tuple(_schema(one) for one in chosen),
        )

    def _choose(self, call: Call, name: str | None) -> list[Method]:
        chosen = [one for one in self._hub.methods(call.caller) if name is None or name in (one.name, one.namespace)]
        if not chosen:
            raise NotFound(f"there is no method or namespace {name!r}; `rpc.discover` lists all")
        return chosen


def _schema(one: Method) -> MethodSchema:
    return MethodSchema(
        name=one.name,
        summary=one.summary,
        params=one.params_schema,
        result=one.result_schema,
        scope=None if one.public else one.scope,
        streaming=one.streaming,
        durable=one.durable,
        hash=one.hash,
    )
