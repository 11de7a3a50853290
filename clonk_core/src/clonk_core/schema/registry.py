"""The schema registry: every method of every activation, by name, with its schemas and hashes."""

import difflib
import inspect
import keyword
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from clonk_core.errors import MethodNotFound, PluginError
from clonk_core.methods import Method
from clonk_core.names import is_method, is_namespace, scope_for
from clonk_core.plugin import Activation, MethodOptions
from clonk_core.schema.contract import digest, method_contract, namespace_hash, registry_hash
from clonk_core.schema.docstrings import read_docstring
from clonk_core.schema.json_schema import params_schema, result_schema
from clonk_core.schema.signature import inspect_method


@attrs.frozen(kw_only=True)
class Namespace:
    """One activation as the registry knows it.

    Attributes:
        name: Dotted name.
        version: Version of the contract it offers.
        package: Distribution that brought it, None for a single file.
        description: Prose of the class's docstring.
        methods: By name, sorted.
        hash: Over its methods' hashes and its version.
    """

    name: str
    version: str
    package: str | None
    description: str
    methods: tuple[Method, ...]
    hash: str


class Registry:
    """All methods of one realm."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._added: dict[str, tuple[str, ...]] = {}
        self._by_name: dict[str, Method] = {}
        self._by_tool: dict[str, Method] = {}
        self._sorted: tuple[Method, ...] = ()

    def add(self, activation: Activation, package: str | None = None) -> tuple[Method, ...]:
        """Add an activation with its children: all of it, or nothing.

        Args:
            activation: Whose methods to offer.
            package: Distribution that brought it.

        Returns:
            Its methods and those of its children.

        Raises:
            SchemaError: A signature has no schema.
            PluginError: A name is against the rules or taken.
        """
        found = list(_namespaces(activation, package))
        tools = {tool: method.name for tool, method in self._by_tool.items()}
        names: set[str] = set(self._namespaces)
        for namespace in found:
            if namespace.name in names:
                owner = self._namespaces[namespace.name].package if namespace.name in self._namespaces else package
                raise PluginError(f"namespace {namespace.name!r} is taken by {owner or 'another activation'}")
            names.add(namespace.name)
            for method in namespace.methods:
                _check_name_is_free(method, tools)
        for namespace in found:
            self._namespaces[namespace.name] = namespace
        self._added[found[0].name] = tuple(namespace.name for namespace in found)
        self._index()
        return tuple(method for namespace in found for method in namespace.methods)

    def remove(self, namespace: str) -> None:
        """Take out an activation with its children; nothing when it is not there."""
        for name in self._added.pop(namespace, ()):
            del self._namespaces[name]
        self._index()

    def get(self, name: str) -> Method:
        """Return a method.

        Raises:
            MethodNotFound: There is none; the nearest names are told.
        """
        method = self._by_name.get(name)
        if method is None:
            raise MethodNotFound(name, self.near(name))
        return method

    def tool(self, name: str) -> Method:
        """Return a method by its name as an MCP tool: dots are `_`. The dotted name serves too.

        Raises:
            MethodNotFound: There is none.
        """
        return self._by_tool.get(name) or self.get(name)

    def near(self, name: str) -> list[str]:
        """Return the names of up to three methods that look like this one, best first."""
        # The search is quadratic in length, and names are short.
        wanted = name[:200].lower()
        near = difflib.get_close_matches(wanted, self._by_name, n=3, cutoff=0.6)
        if near:
            return near
        # `create` for `claudecode.create`: the last part alone.
        last = wanted.rpartition(".")[2]
        return [known for known in self._by_name if known.rpartition(".")[2] == last][:3]

    @property
    def methods(self) -> tuple[Method, ...]:
        """All methods, by name."""
        return self._sorted

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """All namespaces, sorted by name."""
        return MappingProxyType(dict(sorted(self._namespaces.items())))

    def hashes(self) -> dict[str, str]:
        """Return the hash of each namespace by its name, and that of the whole registry under the empty name."""
        hashes = {name: namespace.hash for name, namespace in sorted(self._namespaces.items())}
        return {"": registry_hash(hashes), **hashes}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Method]:
        return iter(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)

    def _index(self) -> None:
        methods = [method for namespace in self._namespaces.values() for method in namespace.methods]
        self._sorted = tuple(sorted(methods, key=lambda method: method.name))
        self._by_name = {method.name: method for method in self._sorted}
        self._by_tool = {tool_name(method.name): method for method in self._sorted}


def tool_name(method: str) -> str:
    """Return the name of a method as an MCP tool: several clients refuse dots."""
    return method.replace(".", "_")


def _check_name_is_free(method: Method, tools: dict[str, str]) -> None:
    """Note a method's tool name and refuse one that another method has: `a.b_c` and `a_b.c` are both `a_b_c`."""
    taken_by = tools.setdefault(tool_name(method.name), method.name)
    if taken_by == method.name:
        return
    tool = tool_name(method.name)
    raise PluginError(f"{method.name} and {taken_by} would be the same tool {tool!r}; rename one of them")


def _namespaces(activation: Activation, package: str | None, parent: str = "") -> Iterator[Namespace]:
    """Describe an activation and then its children."""
    name = getattr(activation, "namespace", None)
    kind = type(activation).__name__
    if not (isinstance(name, str) and is_namespace(name)):
        rule = "lower-case letters, digits and `_`, at most four levels joined by dots"
        raise PluginError(f"{kind}: the namespace {name!r} is against the rule: {rule}")
    if parent and not name.startswith(f"{parent}."):
        raise PluginError(f"{kind}: the namespace {name!r} of a child of {parent!r} must begin with '{parent}.'")
    version: object = activation.version
    if not (isinstance(version, str) and version):
        raise PluginError(f"{kind}: the version {version!r} must be a string such as '1.0.0'")
    methods = tuple(_methods(activation))
    yield Namespace(
        name=name,
        version=version,
        package=package,
        description=read_docstring(vars(type(activation)).get("__doc__"), kind).prose,
        methods=methods,
        hash=namespace_hash(name, version, {method.name: method.hash for method in methods}),
    )
    for child in activation.children:
        yield from _namespaces(child, package, name)


def _methods(activation: Activation) -> Iterator[Method]:
    """Describe the methods that are marked, those of base classes included."""
    kind = type(activation)
    for name in sorted(dir(kind)):
        function = inspect.getattr_static(kind, name)
        if isinstance(function, staticmethod | classmethod) and hasattr(function.__func__, "__clonk_method__"):
            raise PluginError(f"{activation.namespace}.{name}: a method is neither static nor of the class")
        options = getattr(function, "__clonk_method__", None)
        if isinstance(options, MethodOptions):
            yield _method(activation, name, function, options)


def _name_of(attribute: str) -> str:
    """Return what a method is called: a keyword of Python's, such as `import`, is written `import_` in a class."""
    stem = attribute.removesuffix("_")
    return stem if keyword.iskeyword(stem) else attribute


def _method(activation: Activation, attribute: str, function: Any, options: MethodOptions) -> Method:
    namespace = activation.namespace
    own = _name_of(attribute)
    if not is_method(own):
        raise PluginError(f"{namespace}.{own}: a method's name has lower-case letters, digits and `_`")
    name = f"{namespace}.{own}"
    signature = inspect_method(activation, attribute, function, options)
    verbs = (options.scope,) if isinstance(options.scope, str) else (options.scope or (own,))
    scope, *also_scopes = (scope_for(namespace, verb) for verb in verbs)
    return Method(
        name=name,
        namespace=namespace,
        summary=signature.summary,
        description=signature.description,
        parameters=signature.parameters,
        call_parameter=signature.call_parameter,
        result=signature.annotation,
        scope=scope,
        also_scopes=tuple(also_scopes),
        target=options.target,
        narrows=options.narrows,
        streaming=signature.streaming,
        durable=options.durable,
        hands_on=signature.hands_on,
        public=options.public,
        anonymous=options.anonymous,
        read_only=options.read_only,
        destructive=options.destructive,
        idempotent=options.idempotent,
        idempotency_key=options.idempotency_key,
        deadline_s=options.deadline_s,
        errors=options.errors,
        params_schema=params_schema(signature),
        result_schema=result_schema(signature),
        hash=digest(method_contract(name, (scope, *also_scopes), signature, options)),
        admit=None if type(activation).admit is Activation.admit else activation.admit,
        function=getattr(activation, attribute),
    )
