"""Plugins: found, loaded one by one, isolated when they break."""

from collections.abc import AsyncIterator, Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio

from clonk_core.host.discovery import load_plugins
from clonk_core.plugin import Activation, Call, CallError, Host, hookimpl, hookspec, method
from clonk_core.testing.host import TestHost, open_host

GOOD = '''
"""Adds numbers."""
from clonk_core.plugin import Activation, method


class Sums(Activation):
    """Sums."""

    namespace = "sums"

    @method(scope="read")
    async def add(self, a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: One.
            b: The other.
        """
        return a + b
'''


class Echo(Activation):
    """Says it again."""

    namespace = "echo"

    @method(scope="read")
    async def say(self, text: str) -> str:
        """Say it again.

        Args:
            text: What to say.
        """
        return text

    @method(scope="read")
    async def fail(self) -> str:
        """Fail as a bug does."""
        raise ZeroDivisionError("a secret of the inside: /etc/passwd")

    @method(scope="read")
    async def stream_and_fail(self) -> AsyncIterator[str]:
        """Stream once, then fail as a bug does."""
        yield "one"
        raise ZeroDivisionError("a secret of the inside: /etc/passwd")


def _status(host: TestHost, name: str) -> Any:
    return next(status for status in host.app.hub.plugins if status.name == name)


async def _kind(call: Any) -> str:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value.kind


async def test_a_single_file_with_an_activation_is_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "sums.py").write_text(GOOD)
    async with open_host(tmp_path / "data", settings={"plugins": {"dir": str(tmp_path / "plugins")}}) as host:
        assert await host.client.call("sums.add", a=1, b=2) == 3
        assert _status(host, "sums").state == "loaded"
        assert _status(host, "sums").namespaces == ("sums",)


async def test_a_broken_file_is_reported_and_the_others_work(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "sums.py").write_text(GOOD)
    (folder / "broken.py").write_text("raise RuntimeError('no such luck')")
    (folder / "wrong_syntax.py").write_text("def (:")
    (folder / "empty.py").write_text("x = 1")
    (folder / "_private.py").write_text("raise RuntimeError('never imported')")
    async with open_host(tmp_path / "data", settings={"plugins": {"dir": str(folder)}}) as host:
        assert await host.client.call("sums.add", a=1, b=2) == 3
        assert "no such luck" in _status(host, "broken").error
        assert "SyntaxError" in _status(host, "wrong_syntax").error
        assert "Activation" in _status(host, "empty").error
        assert all(status.name != "_private" for status in host.app.hub.plugins)
        listed = {status["name"]: status["state"] for status in await host.client.call("hub.plugins")}
        assert listed["broken"] == "failed"
        report = await host.client.call("health.check")
        assert report["status"] == "degraded"
        assert "no such luck" in report["parts"]["plugin broken"]


async def test_a_disabled_plugin_is_not_imported(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "broken.py").write_text("raise RuntimeError('never imported')")
    settings = {"plugins": {"dir": str(folder), "disabled": ["broken"]}}
    async with open_host(tmp_path / "data", settings=settings) as host:
        assert _status(host, "broken").state == "disabled"


class RaisingHook:
    @hookimpl
    def clonk_activations(self, host: Host) -> Sequence[Activation]:
        raise ValueError("the hook broke")


class AsyncHook:
    @hookimpl
    async def clonk_activations(self, host: Host) -> Sequence[Activation]:
        return [Echo()]


class WrongHook:
    @hookimpl
    def clonk_activations(self, no_such_argument: Host) -> Sequence[Activation]:
        return []


class NoActivation:
    @hookimpl
    def clonk_activations(self) -> Any:
        return ["not an activation"]


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (RaisingHook(), "the hook broke"),
        (AsyncHook(), "async"),
        (WrongHook(), "no_such_argument"),
        (NoActivation(), "no Activation"),
    ],
)
async def test_a_plugin_that_breaks_in_a_hook_is_reported(tmp_path: Path, plugin: object, words: str) -> None:
    async with open_host(tmp_path / "data", activations=[Echo], plugins={"bad": plugin}) as host:
        assert words in _status(host, "bad").error
        assert await host.client.call("echo.say", text="hello") == "hello"


class NoSchema(Activation):
    """Has a type that no schema can say."""

    namespace = "no_schema"

    @method(scope="read")
    async def take(self, thing: complex) -> str:
        """Take a complex number.

        Args:
            thing: The number.
        """
        return str(thing)


class FailsToOpen(Activation):
    """Cannot get ready."""

    namespace = "fails_to_open"

    async def open(self) -> None:
        raise OSError("no such device")


async def test_a_signature_without_schema_stops_its_plugin_alone_and_names_the_place(tmp_path: Path) -> None:
    class Both:
        @hookimpl
        def clonk_activations(self) -> Sequence[Activation]:
            return [Sums(), NoSchema()]

    class Sums(Activation):
        """Sums."""

        namespace = "sums"

        @method(scope="read")
        async def zero(self) -> int:
            """Return nothing but zero."""
            return 0

    async with open_host(tmp_path / "data", activations=[Echo], plugins={"both": Both()}) as host:
        assert "no_schema.take(thing)" in _status(host, "both").error
        # A package is loaded whole or not at all.
        assert await _kind(host.client.call("sums.zero")) == "method_not_found"
        assert await host.client.call("echo.say", text="hello") == "hello"


async def test_an_activation_that_cannot_open_is_left_out(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[FailsToOpen]) as host:
        assert "no such device" in _status(host, "given").error


async def test_a_namespace_that_is_taken_stops_the_second_plugin(tmp_path: Path) -> None:
    class Second:
        @hookimpl
        def clonk_activations(self) -> Sequence[Activation]:
            return [Echo()]

    class First:
        @hookimpl
        def clonk_activations(self) -> Sequence[Activation]:
            return [Echo()]

    async with open_host(tmp_path / "data", plugins={"first": First(), "second": Second()}) as host:
        assert _status(host, "first").state == "loaded"
        assert "echo" in _status(host, "second").error
        assert await host.client.call("echo.say", text="hello") == "hello"


async def test_a_bug_in_a_method_tells_the_caller_an_incident_and_nothing_else(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Echo]) as host:
        with pytest.raises(CallError) as caught:
            await host.client.call("echo.fail")
        assert caught.value.kind == "internal"
        incident = caught.value.data["incident"]
        assert "secret" not in str(caught.value)
        assert "passwd" not in str(caught.value.data)
        assert incident in host.log_text
        assert "ZeroDivisionError" in host.log_text


async def test_a_bug_in_a_stream_ends_it_with_an_incident(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Echo]) as host:
        events = await host.client.events("echo.stream_and_fail")
        assert events[0] == "one"
        assert events[-1]["type"] == "done"
        assert events[-1]["outcome"] == "failed"
        assert events[-1]["error"]["data"]["kind"] == "internal"
        assert "passwd" not in str(events)


class Unsteady(Activation):
    """Its service breaks the first time."""

    namespace = "unsteady"
    attempts: ClassVar[int] = 0

    def __init__(self) -> None:
        self.works = trio.Event()
        self.tries = 0

    async def serve(self, started: Callable[[], None]) -> None:
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("not yet")
        started()
        self.works.set()
        await trio.sleep_forever()


async def test_a_service_that_raises_is_started_again_and_harms_nobody(tmp_path: Path) -> None:
    unsteady = Unsteady()
    async with open_host(tmp_path / "data", activations=[lambda: unsteady, Echo]) as host:
        assert await host.client.call("echo.say", text="hello") == "hello"
        with trio.fail_after(10):
            await unsteady.works.wait()
        assert unsteady.tries == 2
        assert _status(host, "given").services == {"unsteady": "running"}
        assert "not yet" in host.log_text


@attrs.frozen(kw_only=True)
class Greeted:
    """Somebody was greeted.

    Attributes:
        who: Who.
    """

    name: ClassVar[str] = "greeter.greeted"

    who: str


async def test_events_reach_handlers_by_class_and_by_name_and_a_failing_one_harms_nobody(tmp_path: Path) -> None:
    heard: list[object] = []

    class Greeter(Activation):
        """Greets."""

        namespace = "greeter"

        def __init__(self, host: Host) -> None:
            self.host = host

        @method(scope="read")
        async def greet(self, who: str) -> str:
            """Greet somebody.

            Args:
                who: Whom.
            """
            await self.host.emit(Greeted(who=who))
            return f"hello, {who}"

    class Speaker:
        @hookimpl
        def clonk_activations(self, host: Host) -> Sequence[Activation]:
            return [Greeter(host)]

    class Listener:
        @hookimpl
        def clonk_subscriptions(self) -> dict[Any, Any]:
            async def by_class(event: Greeted) -> None:
                heard.append(event)

            async def by_name(event: object) -> None:
                heard.append(event)
                raise ValueError("a bad ear")

            return {Greeted: by_class, "greeter.greeted": by_name}

    async with open_host(tmp_path / "data", plugins={"speaker": Speaker(), "listener": Listener()}) as host:
        assert await host.client.call("greeter.greet", who="Ada") == "hello, Ada"
        assert {str(one) for one in heard} == {str(Greeted(who="Ada")), str({"who": "Ada"})}
        assert "a bad ear" in host.log_text


async def test_activations_call_each_other_through_the_host_for_the_same_caller(tmp_path: Path) -> None:
    class Relay(Activation):
        """Relays."""

        namespace = "relay"

        def __init__(self, host: Host) -> None:
            self.host = host

        @method(scope="read")
        async def say(self, call: Call, text: str) -> str:
            """Say it through the other.

            Args:
                text: What.
            """
            said = await self.host.call("echo.say", text=text)
            return f"{said} for {self.host.caller.id}"

        @method(scope="read")
        async def wrong(self) -> str:
            """Call the other with what it does not take."""
            return str(await self.host.call("echo.say", text=5))

        @method(scope="read")
        async def count(self) -> int:
            """Count the events of the other's stream."""
            async with self.host.stream("echo.stream_and_fail") as events:
                return len([event async for event in events])

    class Plugin:
        @hookimpl
        def clonk_activations(self, host: Host) -> Sequence[Activation]:
            return [Relay(host), Echo()]

    async with open_host(tmp_path / "data", plugins={"relay": Plugin()}) as host:
        assert await host.client.call("relay.say", text="hello") == "hello for local"
        assert await _kind(host.client.call("relay.wrong")) == "invalid_params"
        assert await host.client.call("relay.count") == 2


async def test_two_hosts_in_one_process_do_not_notice_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "counter.py").write_text('''
"""Counts, in a global on purpose."""
from clonk_core.plugin import Activation, method

count = 0


class Counter(Activation):
    """Counts."""

    namespace = "counter"

    @method(scope="count")
    async def up(self) -> int:
        """Count one up."""
        global count
        count += 1
        return count
''')
    settings = {"plugins": {"dir": str(folder)}}
    async with open_host(tmp_path / "one", settings=settings) as one:
        async with open_host(tmp_path / "other", settings=settings, activations=[Echo]) as other:
            assert await one.client.call("counter.up") == 1
            assert await one.client.call("counter.up") == 2
            assert await other.client.call("counter.up") == 1
            assert await _kind(one.client.call("echo.say", text="hello")) == "method_not_found"
        assert await one.client.call("counter.up") == 3


def _entry_point(name: str, value: str, requires: Sequence[str], folder: Path) -> metadata.EntryPoint:
    """Install a package's metadata into a folder and return its entry point, as the import system finds it."""
    info = folder / f"clonk_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: clonk-{name}\nVersion: 1.0\n{needs}")
    (info / "entry_points.txt").write_text(f"[clonk]\n{name} = {value}\n")
    (found,) = metadata.Distribution.at(info).entry_points
    return found


def test_a_package_for_another_core_is_refused_by_its_requirement(tmp_path: Path) -> None:
    point = _entry_point("future", "no_such_module", ["clonk-core>=99"], tmp_path)
    (plugin,) = load_plugins(entry_points=[point]).all
    assert plugin.status.state == "failed"
    assert "clonk-core>=99" in str(plugin.status.error)


def test_a_package_that_cannot_be_imported_is_reported_with_its_version(tmp_path: Path) -> None:
    point = _entry_point("gone", "no_such_module", ["clonk-core>=0.1"], tmp_path)
    (plugin,) = load_plugins(entry_points=[point]).all
    assert plugin.status.state == "failed"
    assert plugin.status.package == "clonk-gone"
    assert plugin.status.version == "1.0"
    assert "no_such_module" in str(plugin.status.error)


def test_tracing_prints_each_hook_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLONK_TRACE_HOOKS", "1")

    class Commands:
        @hookimpl
        def clonk_commands(self) -> Sequence[Any]:
            return ["this one"]

    plugins = load_plugins(entry_points=[], extra={"commands": Commands()})
    assert plugins.call(plugins.all[0], "clonk_commands") == ["this one"]
    printed = capsys.readouterr().err
    assert "hook clonk_commands() -> commands" in printed
    assert "this one" in printed


class Colours(Activation):
    """Asks other packages for colours."""

    namespace = "colours"

    def __init__(self, host: Host) -> None:
        self._host = host

    @method(scope="read")
    async def all(self) -> dict[str, tuple[str, ...]]:
        """Return the colours of each package."""
        return {name: tuple(found) for name, found in self._host.ask("paint_colours", dark=True)}


class _ColourHooks:
    @staticmethod
    @hookspec
    def paint_colours(host: Host, dark: bool) -> Any:
        """Return names of colours."""


class _Paint:
    @hookimpl
    def clonk_hookspecs(self) -> object:
        return _ColourHooks

    @hookimpl
    def clonk_activations(self, host: Host) -> Any:
        return [Colours(host)]


class _Reds:
    @hookimpl
    def paint_colours(self, host: Host) -> Any:
        return ["red", f"tenant:{host.tenant}"]


class _Blues:
    @hookimpl
    def paint_colours(self, dark: bool) -> Any:
        return ["navy" if dark else "blue"]


class _BrokenColours:
    @hookimpl
    def paint_colours(self) -> Any:
        raise RuntimeError("out of paint")


class _WrongColours:
    @hookimpl
    def paint_colours(self, shade: str) -> Any:
        return ["none"]


async def test_a_package_asks_others_by_a_hook_of_its_own_and_one_that_fails_is_left_out(tmp_path: Path) -> None:
    plugins = {"reds": _Reds(), "broken": _BrokenColours(), "paint": _Paint(), "blues": _Blues()}
    async with open_host(tmp_path / "data", plugins=plugins) as host:
        assert await host.client.call("colours.all") == {"reds": ["red", "tenant:default"], "blues": ["navy"]}
        assert "out of paint" in host.log_text
        assert _status(host, "broken").state == "loaded"


@pytest.mark.parametrize("first", ["wrong", "paint"])
async def test_a_plugin_that_implements_another_ones_hook_wrongly_is_left_out(tmp_path: Path, first: str) -> None:
    both = {"wrong": _WrongColours(), "paint": _Paint()}
    plugins = dict(sorted(both.items(), key=lambda one: one[0] != first))
    async with open_host(tmp_path / "data", plugins=plugins) as host:
        assert await host.client.call("colours.all") == {}
        assert _status(host, "wrong").state == "failed"
        assert "shade" in _status(host, "wrong").error


async def test_a_package_cannot_bring_hooks_in_another_ones_name(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", plugins={"brush": _Paint(), "reds": _Reds()}) as host:
        assert _status(host, "brush").state == "failed"
        assert "brush_" in _status(host, "brush").error


async def test_a_hook_that_nobody_asks_does_no_harm(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", plugins={"reds": _Reds()}) as host:
        assert _status(host, "reds").state == "loaded"
