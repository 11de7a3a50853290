"""The contract of activations: `await check_activation(Dice, tmp_path, {"dice.roll": {"sides": 6}})`."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from clonk_core.errors import CallError, InvalidParams, NotFound
from clonk_core.messages import LOCAL_CALLER
from clonk_core.methods import Method
from clonk_core.plugin import Activation
from clonk_core.testing.host import TestHost, open_host
from clonk_core.wire.converter import Converter

CANCEL_AT_MOST: Final = 20
"""A stream is cancelled after each of its first events up to this many."""

CALL_WITHIN_S: Final = 30.0


class ContractBroken(AssertionError):
    """An activation does not keep the contract."""


async def check_activation(
    make: Callable[..., Activation],
    data_dir: Path,
    examples: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    packages: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Check an activation against the contract.

    Every method has a description; what it returns fits its schema; wrong arguments are refused with a path; a stream
    survives being cancelled at every event, and ends with exactly one `done`; two hosts are kept apart.

    Args:
        make: The activation's class, or a function that makes one; gets the `Host` when it takes an argument.
        data_dir: An empty folder for the hosts' data.
        examples: Arguments of calls that succeed, by method, in the order in which they can be made. Methods that are
            missing here and need no arguments are called without.
        packages: Installed plugins that it works with.
        settings: The configuration.

    Raises:
        ContractBroken: It does not keep it; the text says where.
    """

    @asynccontextmanager
    async def opened(name: str) -> AsyncIterator[TestHost]:
        async with open_host(data_dir / name, activations=[make], packages=packages, settings=settings) as host:
            _check_loaded(host)
            yield host

    async with opened("one") as host, opened("other") as other:
        methods = _methods(host)
        untouched = await _readings(other, methods, examples or {})
        for method in methods:
            _check_prose(method)
            await _check_wrong_arguments(host, method)
        for method, arguments in _calls(methods, examples or {}):
            await _check_answer(host, method, arguments)
        if await _readings(other, methods, examples or {}) != untouched:
            raise ContractBroken("what was done on one host is seen on another: state is shared between realms")
    async with opened("cancelled") as host:
        for method, arguments in _calls(_methods(host), examples or {}):
            if method.streaming:
                await _check_cancellation(host, method, arguments)
            else:
                await _quietly(host, method, arguments)


def _check_loaded(host: TestHost) -> None:
    for status in host.app.hub.plugins:
        if status.state == "failed":
            raise ContractBroken(f"plugin {status.name} does not load: {status.error}")


def _methods(host: TestHost) -> list[Method]:
    given = next(status for status in host.app.hub.plugins if status.name == "given")
    roots = {namespace.split(".")[0] for namespace in given.namespaces}
    return [one for one in host.app.hub.methods(LOCAL_CALLER) if one.namespace.split(".")[0] in roots]


def _check_prose(method: Method) -> None:
    if not method.summary:
        raise ContractBroken(f"{method.name} has no description")
    for parameter in method.parameters:
        if not parameter.description:
            raise ContractBroken(f"{method.name}({parameter.name}) has no description; add it under `Args:`")


async def _check_wrong_arguments(host: TestHost, method: Method) -> None:
    wrong: list[tuple[str, Any]] = [("an unknown name", {"no_such_parameter_": 1})]
    wrong.append(("too many positional arguments", [None] * (len(method.parameters) + 1)))
    for what, arguments in wrong:
        try:
            with trio.fail_after(CALL_WITHIN_S):
                if isinstance(arguments, dict):
                    await _call(host, method, arguments)
                else:
                    await _call_positional(host, method, arguments)
        except InvalidParams as error:
            if not error.path.startswith("$"):
                raise ContractBroken(f"{method.name} refuses {what} without a path") from error
        except CallError as error:
            raise ContractBroken(f"{method.name} answers {what} with {error.kind}, not invalid_params") from error
        else:
            raise ContractBroken(f"{method.name} accepts {what}")


def _calls(
    methods: Iterable[Method], examples: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Method, Mapping[str, Any]]]:
    by_name = {method.name: method for method in methods}
    unknown = set(examples) - set(by_name)
    if unknown:
        raise ContractBroken(f"there is no method {', '.join(sorted(unknown))} to give examples for")
    calls = [(by_name[name], arguments) for name, arguments in examples.items()]
    rest = [one for one in methods if one.name not in examples and not any(p.required for p in one.parameters)]
    return calls + [(one, {}) for one in rest]


async def _check_answer(host: TestHost, method: Method, arguments: Mapping[str, Any]) -> None:
    converter = Converter()
    try:
        answers = await _call(host, method, arguments)
    except CallError as error:
        raise ContractBroken(f"{method.name} fails with its example: {error.kind}: {error}") from error
    if not method.streaming:
        _check_fits(converter, method, answers)
        return
    if not answers or [_kind(one) for one in answers].count("done") != 1 or _kind(answers[-1]) != "done":
        raise ContractBroken(f"{method.name} does not end with exactly one `done`")
    if answers[-1]["outcome"] == "failed":
        raise ContractBroken(f"{method.name} fails with its example: {answers[-1]['error']}")
    for event in answers:
        if _kind(event) not in ("done", "progress"):
            _check_fits(converter, method, event)


def _check_fits(converter: Converter, method: Method, value: Any) -> None:
    try:
        converter.decode(method.result, value)
    except CallError as error:
        raise ContractBroken(f"{method.name} returns what its schema does not allow: {error}") from error


async def _check_cancellation(host: TestHost, method: Method, arguments: Mapping[str, Any]) -> None:
    for after in range(CANCEL_AT_MOST):
        with trio.fail_after(CALL_WITHIN_S):
            ended = await _cancel_after(host, method, arguments, after)
        if ended:
            return


async def _cancel_after(host: TestHost, method: Method, arguments: Mapping[str, Any], after: int) -> bool:
    """Cancel a stream once it has shown `after` events; True when it ended before."""
    kinds: list[str | None] = []
    async with host.client.stream(method.name, **arguments) as stream:
        if after == 0:
            await _cancel(host, stream.subscription)
        async for _seq, event in stream:
            kinds.append(_kind(event))
            if len(kinds) == after and kinds[-1] != "done":
                await _cancel(host, stream.subscription)
    if kinds.count("done") != 1 or kinds[-1] != "done":
        raise ContractBroken(f"{method.name}, cancelled after {after} events, does not end with exactly one `done`")
    return len(kinds) <= after


async def _cancel(host: TestHost, subscription: str) -> None:
    # A run that is not durable is gone once it has ended, also while its last events are still being read.
    with contextlib.suppress(NotFound):
        await host.client.call("rpc.cancel", subscription=subscription)


def _kind(event: Any) -> str | None:
    """The tag of an event; None when it has none."""
    return event.get("type") if isinstance(event, dict) else None


async def _readings(
    host: TestHost, methods: Iterable[Method], examples: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What the plain, repeatable, read-only methods answer."""
    found = {}
    for method in methods:
        if method.read_only and method.idempotent and not method.streaming:
            found[method.name] = await _quietly(host, method, examples.get(method.name, {}))
    return found


async def _quietly(host: TestHost, method: Method, arguments: Mapping[str, Any]) -> Any:
    try:
        return await _call(host, method, arguments)
    except CallError as error:
        return error.kind


async def _call(host: TestHost, method: Method, arguments: Mapping[str, Any]) -> Any:
    with trio.fail_after(CALL_WITHIN_S):
        if method.streaming:
            return await host.client.events(method.name, **arguments)
        return await host.client.call(method.name, **arguments)


async def _call_positional(host: TestHost, method: Method, arguments: list[Any]) -> Any:
    if method.streaming:
        return await host.client.events(method.name, *arguments)
    return await host.client.call(method.name, *arguments)
