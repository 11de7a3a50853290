"""Plugins that do what no plugin should: the host and the others go on working."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import attrs
import pytest
import trio

from clonk_core.host import loading
from clonk_core.host.discovery import load_plugins
from clonk_core.interfaces.hub import PluginStatus
from clonk_core.plugin import Activation, CallError, Host, NotFound, StopReason, hookimpl, method
from clonk_core.plugin import Call as PluginCall
from clonk_core.testing.host import TestHost, open_host
from clonk_core.wire.error_codes import error_object

SUMS = '''
"""Adds numbers."""
from clonk_core.plugin import Activation, Host, hookimpl, method


class Sums(Activation):
    """Sums."""

    namespace = "sums"

    @method(scope="read")
    async def zero(self) -> int:
        """Return nothing but zero."""
        return 0
'''


def _statuses(host: TestHost, name: str) -> list[PluginStatus]:
    return [status for status in host.app.hub.plugins if status.name == name]


async def _kind(call: Any) -> str:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value.kind


def _files(tmp_path: Path, **sources: str) -> dict[str, Any]:
    """Write single-file plugins and return the settings that name their folder."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return {"plugins": {"dir": str(folder)}}


class Offering:
    """A plugin that offers what it is given."""

    def __init__(self, *make: Callable[[], Activation]) -> None:
        self.make = make

    @hookimpl
    def clonk_activations(self) -> Sequence[Activation]:
        return [one() for one in self.make]


# ── sys.exit ─────────────────────────────────────────────────────────────────


class Exits(Activation):
    """Calls sys.exit wherever it can."""

    namespace = "exits"

    async def serve(self, started: Callable[[], None]) -> None:
        sys.exit(1)

    async def close(self) -> None:
        sys.exit(1)

    @method(scope="read")
    async def plain(self) -> str:
        """Exit."""
        sys.exit(3)

    @method(scope="read")
    async def in_a_nursery(self) -> str:
        """Exit in a task."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._exit)
        return ""

    async def _exit(self) -> NoReturn:
        sys.exit(3)

    @method(scope="read", durable=True)
    async def stream(self) -> AsyncIterator[str]:
        """Exit after an event."""
        yield "one"
        sys.exit(3)

    @method(scope="read", durable=True)
    async def when_stopped(self, call: PluginCall) -> AsyncIterator[str]:
        """Exit when told to stop."""

        def leave(reason: StopReason) -> None:
            sys.exit(3)

        call.on_stop(leave)
        yield "one"
        await trio.sleep_forever()

    @method(scope="read")
    async def works(self) -> str:
        """Work."""
        return "yes"


async def test_a_method_that_exits_is_an_incident_and_the_server_lives(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Exits]) as host:
        assert await _kind(host.client.call("exits.plain")) == "internal"
        assert await _kind(host.client.call("exits.in_a_nursery")) == "internal"
        events = await host.client.events("exits.stream")
        assert events[-1]["error"]["data"]["kind"] == "internal"
        async with host.client.stream("exits.when_stopped") as stream:
            assert await stream.next() == (1, "one")
            await host.client.call("rpc.cancel", subscription=stream.subscription)
            assert (await stream.next())[1]["outcome"] == "cancelled"
        assert _statuses(host, "given")[0].services["exits"].startswith("restarting")
        assert await host.client.call("exits.works") == "yes"
    assert "activation failed to close" in host.log_text


class ExitsInAHook:
    @hookimpl
    def clonk_activations(self) -> Sequence[Activation]:
        sys.exit(1)


async def test_a_plugin_that_exits_at_import_or_in_a_hook_is_reported(tmp_path: Path) -> None:
    settings = _files(tmp_path, leaves="import sys\nsys.exit('bye')", sums=SUMS)
    async with open_host(tmp_path / "data", plugins={"hook": ExitsInAHook()}, settings=settings) as host:
        assert [_statuses(host, name)[0].state for name in ("leaves", "hook")] == ["failed", "failed"]
        assert await host.client.call("sums.zero") == 0


# ── groups ───────────────────────────────────────────────────────────────────


class Nurseries(Activation):
    """Works in nurseries of its own."""

    namespace = "nurseries"

    async def _missing(self) -> None:
        raise NotFound("there is no such thing")

    @method(scope="read")
    async def plain(self) -> str:
        """Look for what is not there."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._missing)
        return ""

    @method(scope="read")
    async def stream(self) -> AsyncIterator[str]:
        """Look for what is not there."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._missing)
        yield ""


async def test_an_error_in_an_activations_own_nursery_reaches_the_caller_as_itself(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Nurseries]) as host:
        assert await _kind(host.client.call("nurseries.plain")) == "not_found"
        events = await host.client.events("nurseries.stream")
        assert events[-1]["error"]["data"]["kind"] == "not_found"


# ── names ────────────────────────────────────────────────────────────────────


async def test_a_file_named_as_the_core_or_as_a_section_of_its_configuration_is_refused_alone(tmp_path: Path) -> None:
    own_settings = """
import attrs


@attrs.frozen(kw_only=True)
class Mine:
    mine: int = 1


@hookimpl
def clonk_settings():
    return Mine
"""
    settings = _files(tmp_path, core=SUMS, server=SUMS + own_settings, sums=SUMS)
    async with open_host(tmp_path / "data", settings=settings) as host:
        assert [status.state for status in _statuses(host, "core")] == ["loaded", "failed"]
        assert _statuses(host, "server")[0].state == "failed"
        assert (await host.client.call("auth.whoami"))["caller"] == "local"
        assert await host.client.call("sums.zero") == 0


async def test_one_object_under_two_names_is_loaded_once(tmp_path: Path) -> None:
    plugin = Offering(Nurseries)
    async with open_host(tmp_path / "data", plugins={"one": plugin, "two": plugin}) as host:
        assert _statuses(host, "one")[0].namespaces == ("nurseries",)
        assert "'one'" in str(_statuses(host, "two")[0].error)


FAMILY = (
    SUMS
    + '''

class Base(Activation):
    """A base."""

    def __init__(self, host: Host) -> None:
        self.host = host


class Child(Base):
    """A child."""

    namespace = "parent.child"

    @method(scope="read")
    async def tenant(self) -> str:
        """Return the tenant."""
        return self.host.tenant


class Parent(Base):
    """A parent."""

    namespace = "parent"

    def __init__(self, host: Host) -> None:
        self.children = (Child(host),)


Again = Parent
'''
)


async def test_a_file_offers_its_activations_but_neither_bases_nor_children_by_themselves(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", settings=_files(tmp_path, family=FAMILY)) as host:
        assert set(_statuses(host, "family")[0].namespaces) == {"sums", "parent"}
        assert await host.client.call("parent.child.tenant") == "default"


@pytest.mark.parametrize("name", ["", "a/b", "../up", "1st", "with space", "x" * 65])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    (plugin,) = load_plugins(entry_points=[], extra={name: Offering()}).all
    assert plugin.status.state == "failed"


def test_an_entry_point_that_calls_itself_core_does_not_come_before_the_core() -> None:
    own = metadata.EntryPoint("core", "clonk_core.builtin.hooks", "clonk")
    other = metadata.EntryPoint("core", "json", "clonk")
    first, second = load_plugins(entry_points=[other, own]).all
    assert getattr(first.target, "__name__", None) == "clonk_core.builtin.hooks"
    assert (first.status.state, second.status.state) == ("loaded", "failed")


def test_a_damaged_installation_is_reported(tmp_path: Path) -> None:
    info = tmp_path / "clonk_cut-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[clonk]\ncut = no_such_module\n")
    (point,) = metadata.Distribution.at(info).entry_points
    (plugin,) = load_plugins(entry_points=[point]).all
    assert plugin.status.state == "failed"


@attrs.define
class Unhashable:
    """attrs classes that compare are not hashable."""

    number: int = 1

    @hookimpl
    def clonk_activations(self) -> Sequence[Activation]:
        return [Nurseries()]


async def test_a_plugin_that_cannot_be_kept_in_a_set_harms_no_other(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", plugins={"odd": Unhashable(), "good": Offering(Nurseries)}) as host:
        assert _statuses(host, "odd")[0].state == "failed"
        assert _statuses(host, "good")[0].state == "loaded"


class Namespaced(Activation):
    """Wants the name of another."""

    namespace: ClassVar[str] = "rpc"


async def test_a_namespace_of_the_core_is_taken(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[Namespaced]) as host:
        assert _statuses(host, "given")[0].state == "failed"
        assert await host.client.call("rpc.discover")


# ── settings ─────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class WithoutDefault:
    number: int


@attrs.frozen(kw_only=True)
class WithOddType:
    number: complex = 1j


@attrs.frozen(kw_only=True)
class WithBrokenDefaults:
    number: int = 1

    def __attrs_post_init__(self) -> None:
        raise RuntimeError("never")


class SettingsOf:
    def __init__(self, given: object) -> None:
        self.given = given

    @hookimpl
    def clonk_settings(self) -> Any:
        return self.given


@pytest.mark.parametrize("given", [dict, 5, "text", [1], WithoutDefault, WithOddType, WithBrokenDefaults])
async def test_settings_that_cannot_be_read_stop_their_plugin_alone(tmp_path: Path, given: object) -> None:
    plugins = {"bad": SettingsOf(given), "good": Offering(Nurseries)}
    settings = {"bad": {"number": 3}}
    async with open_host(tmp_path / "data", plugins=plugins, settings=settings) as host:
        assert _statuses(host, "bad")[0].state == "failed"
        assert _statuses(host, "good")[0].state == "loaded"


# ── databases ────────────────────────────────────────────────────────────────


class Claiming:
    """Asks for a database, then breaks or not."""

    def __init__(self, name: str, *, breaks: bool = False) -> None:
        self.name = name
        self.breaks = breaks

    @hookimpl
    def clonk_activations(self, host: Host) -> Sequence[Activation]:
        host.database(self.name, migrations="clonk_core.storage.migrations")
        if self.breaks:
            raise ValueError("too bad")
        return []


@pytest.mark.parametrize("name", ["clonk", "", "../up", "a/b", "Upper"])
async def test_a_database_of_the_core_or_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    async with open_host(tmp_path / "data", plugins={"greedy": Claiming(name)}) as host:
        assert _statuses(host, "greedy")[0].state == "failed"
    assert not (tmp_path / "up.db").exists()


async def test_a_database_belongs_to_the_first_who_works(tmp_path: Path) -> None:
    plugins = {"broken": Claiming("things", breaks=True), "first": Claiming("things"), "second": Claiming("things")}
    async with open_host(tmp_path / "data", plugins=plugins) as host:
        states = [_statuses(host, name)[0].state for name in plugins]
        assert states == ["failed", "loaded", "failed"]
        assert (await host.client.call("health.check"))["parts"]["database things"] == "ok"


# ── getting ready, working, closing ──────────────────────────────────────────


class NeverReady(Activation):
    """Hangs when it is opened."""

    namespace = "never_ready"

    async def open(self) -> None:
        await trio.sleep_forever()


class NeverStarted(Activation):
    """Its service says nothing; closing it hangs."""

    namespace = "never_started"

    async def serve(self, started: Callable[[], None]) -> None:
        await trio.sleep_forever()

    async def close(self) -> None:
        await trio.sleep_forever()


async def test_an_activation_that_hangs_when_it_is_opened_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "OPEN_WITHIN_S", 0.01)
    plugins = {"slow": Offering(Nurseries, NeverReady), "good": Offering(Exits)}
    async with open_host(tmp_path / "data", plugins=plugins) as host:
        assert _statuses(host, "slow")[0].state == "failed"
        # What came with it is gone, too.
        assert await _kind(host.client.call("nurseries.plain")) == "method_not_found"
        assert await host.client.call("exits.works") == "yes"


async def test_a_service_that_never_says_it_started_is_told_and_one_that_hangs_at_the_end_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clonk_core.host.realm.SERVICES_START_WITHIN_S", 0.01)
    monkeypatch.setattr(loading, "CLOSE_WITHIN_S", 0.01)
    async with open_host(tmp_path / "data", activations=[NeverStarted]) as host:
        assert _statuses(host, "given")[0].services == {"never_started": "starting"}
        report = await host.client.call("health.check")
        assert report["parts"]["service never_started"] == "starting"
        assert report["status"] == "degraded"
    assert "did not close in time" in host.log_text


class WithoutEnd(Activation):
    """Has a deadline that no clock can tell."""

    namespace = "without_end"

    @method(deadline_s=float("inf"))
    async def wait(self) -> None:
        """Wait."""


async def test_a_deadline_without_end_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    async with open_host(tmp_path / "data", activations=[WithoutEnd]) as host:
        assert "deadline_s" in str(_statuses(host, "given")[0].error)


class Forgetful(NotFound):
    """It is not here."""

    kind = "forgetful.gone"

    def __init__(self) -> None:
        pass


def test_an_error_without_its_base_or_with_a_kind_of_its_own_in_data_is_told_all_the_same() -> None:
    told = error_object(Forgetful())
    assert (told.code, told.message, told.data) == (404, "It is not here.", {"kind": "forgetful.gone"})
    assert error_object(NotFound("gone", kind="mine", id=1)).data == {"kind": "not_found", "id": 1}
