"""The public API as an author sees it: three small packages that use all of it, and each other."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar

import attrs
import pytest
import trio

from clonk_core.plugin import (
    Activation,
    Call,
    CallError,
    Conflict,
    ConstraintViolation,
    Done,
    Ge,
    Host,
    JsonValue,
    MaxLen,
    NotFound,
    Transaction,
    hookimpl,
    method,
    new_id,
)
from clonk_core.testing.host import TestHost, open_host

Title = Annotated[str, MaxLen(40)]


# ── shelf: keeps books in a database of its own, tells of them, and knows a child ────────────────────────────────────


class TitleTaken(Conflict):
    """There is a book of that title."""

    kind = "shelf.title_taken"


@attrs.frozen(kw_only=True)
class Book:
    """A book.

    Attributes:
        id: Its id.
        title: Its title.
        added_by: Who put it there.
    """

    id: str
    title: str
    added_by: str


@attrs.frozen(kw_only=True)
class BookAdded:
    """A book was added.

    Attributes:
        book: The book.
    """

    name: ClassVar[str] = "shelf.book_added"

    book: Book


@attrs.frozen(kw_only=True)
class ShelfSettings:
    """Settings of the shelf.

    Attributes:
        most_books: How many fit.
    """

    most_books: Annotated[int, Ge(1)] = 3


def _insert(transaction: Transaction, book: Book) -> int:
    transaction.execute(
        "insert into books (id, title, added_by) values (:id, :title, :added_by)",
        {"id": book.id, "title": book.title, "added_by": book.added_by},
    )
    ((count,),) = transaction.all("select count(*) from books")
    return int(count)


def _all(transaction: Transaction) -> list[Book]:
    rows = transaction.execute("select id, title, added_by from books order by title")
    return [Book(id=id_, title=title, added_by=added_by) for id_, title, added_by in rows]


class Labels(Activation):
    """Labels on the shelf."""

    namespace = "shelf.labels"

    def __init__(self, host: Host) -> None:
        self._host = host
        self.life: list[str] = []

    async def open(self) -> None:
        """Note it."""
        self.life.append("opened")

    async def close(self) -> None:
        """Note it."""
        self.life.append("closed")

    @method(scope="read", read_only=True)
    async def of(self, title: Title) -> str:
        """Return what the label of a book says.

        Args:
            title: The book's.
        """
        return f"{self._host.tenant}/{title}"


class Shelf(Activation):
    """Books."""

    namespace = "shelf"
    version = "1.0.0"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._database = host.database("shelf", migrations="shelf_migrations")
        self.labels = Labels(host)
        self.children = (self.labels,)

    @method(errors=[TitleTaken, Conflict])
    async def add(self, call: Call, title: Title) -> Book:
        """Add a book.

        Args:
            title: Its title.
        """
        book = Book(id=new_id("book"), title=title, added_by=call.caller.id)
        try:
            count = await self._database.run(_insert, book)
        except ConstraintViolation as error:
            raise TitleTaken(f"there is a book called {title!r}", title=title) from error
        if count > self._host.settings.most_books:
            raise Conflict("the shelf is full")
        (self._host.data_dir / "last").write_text(title)
        self._host.log.info("book added", title=title)
        await self._host.emit(BookAdded(book=book))
        return book

    @method(scope="read", read_only=True)
    async def list(self) -> tuple[Book, ...]:
        """Return all books, by title."""
        return tuple(await self._database.read(_all))

    @method(scope="read", durable=True)
    async def read_aloud(self, call: Call, title: Title) -> AsyncIterator[str | Done]:
        """Read a book, word by word.

        Args:
            title: Its title.
        """
        if title not in [book.title for book in await self._database.read(_all)]:
            raise NotFound(f"there is no book called {title!r}")
        stopped = trio.Event()
        call.on_stop(lambda reason: stopped.set())  # before the first event: the run has not begun
        return self._words(call, title, stopped)

    async def _words(self, call: Call, title: str, stopped: trio.Event) -> AsyncIterator[str | Done]:
        words = title.split()
        for number, word in enumerate(words, start=1):
            yield word
            await call.progress(number, len(words), "reading")
        if title.startswith("Endless"):
            await stopped.wait()
            yield "bookmark"
            yield Done(outcome="cancelled")


class ShelfPackage:
    """Hooks of the shelf."""

    def __init__(self) -> None:
        self.made: list[Shelf] = []

    @hookimpl
    def clonk_settings(self) -> type[Any]:
        return ShelfSettings

    @hookimpl
    def clonk_activations(self, host: Host) -> Sequence[Activation]:
        self.made.append(Shelf(host))
        return [self.made[-1]]


# ── clerk: calls the shelf, never by import ──────────────────────────────────────────────────────────────────────────


class Clerk(Activation):
    """Does things with books."""

    namespace = "clerk"

    def __init__(self, host: Host) -> None:
        self._host = host

    @method()
    async def donate(self, titles: list[str]) -> int:
        """Add many books and return how many there are.

        Args:
            titles: Their titles.
        """
        if not self._host.has("shelf.add"):
            raise NotFound("there is no shelf")
        for title in titles:
            await self._host.call("shelf.add", title=title)
        books = await self._host.call("shelf.list")
        return len(books)

    @method(scope="read")
    async def whisper(self, title: str) -> AsyncIterator[str]:
        """Read a book more quietly.

        Args:
            title: Its title.
        """
        async with self._host.stream("shelf.read_aloud", title=title) as events:
            async for event in events:
                if isinstance(event, str):
                    yield event.lower()

    @method(scope="read")
    async def misuse(self, method_name: str, stream: bool) -> None:
        """Call a plain method as a stream, or the other way round.

        Args:
            method_name: Which.
            stream: How.
        """
        if stream:
            async with self._host.stream(method_name, title="Misused"):
                pass
        else:
            await self._host.call(method_name, title="Misused")

    @method(scope="read")
    async def roots(self) -> tuple[str, ...]:
        """Return where work may be done."""
        assert self._host.workspaces_dir in self._host.workspace_roots
        return tuple(str(root) for root in self._host.workspace_roots)


class ClerkPackage:
    """Hooks of the clerk."""

    @hookimpl
    def clonk_activations(self, host: Host) -> Sequence[Activation]:
        return [Clerk(host)]


# ── herald: hears of books, and works in the background ──────────────────────────────────────────────────────────────


class HeraldPackage:
    """Hooks of the herald: its subscriptions have a database of their own."""

    def __init__(self) -> None:
        self.heard: list[JsonValue] = []

    @hookimpl
    def clonk_activations(self, host: Host) -> Sequence[Activation]:
        return [Herald(host)]

    @hookimpl
    def clonk_subscriptions(self, host: Host) -> Mapping[type[Any] | str, Any]:
        database = host.database("herald", migrations="shelf_migrations")

        async def hear(event: Any) -> None:
            book = Book(**event["book"])
            await database.write_grouped(_insert, book)
            self.heard.append((book.title, host.caller.id))

        return {"shelf.book_added": hear}


class Herald(Activation):
    """Works in the background."""

    namespace = "herald"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._found: JsonValue = None

    async def serve(self, started: Callable[[], None]) -> None:
        """Add a book of its own, then wait for the end."""
        await self._host.call("shelf.add", title="Almanac")
        self._found = self._host.caller.id
        started()
        await trio.sleep_forever()

    @method(scope="read")
    async def who(self) -> JsonValue:
        """Return as whom the service calls."""
        return self._found


# ── tests ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of numbered SQL files that can be imported."""
    folder = tmp_path / "packages" / "shelf_migrations"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "0001_books.sql").write_text(
        "create table books (id text primary key, title text not null unique, added_by text not null);"
    )
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    sys.modules.pop("shelf_migrations", None)


@pytest.fixture
def plugins() -> dict[str, Any]:
    """The three packages."""
    return {"clerk": ClerkPackage(), "herald": HeraldPackage(), "shelf": ShelfPackage()}


@pytest.fixture
async def host(tmp_path: Path, plugins: dict[str, object]) -> AsyncIterator[TestHost]:
    """A host of all three."""
    settings = {"shelf": {"most_books": 5}, "workspaces": {"roots": [str(tmp_path)]}}
    async with open_host(tmp_path / "data", plugins=plugins, settings=settings) as opened:
        yield opened


async def _refused(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


async def test_what_is_added_is_in_the_packages_own_database_and_folder(host: TestHost, tmp_path: Path) -> None:
    book = await host.client.call("shelf.add", title="Emma")
    assert book["added_by"] == "local"
    assert book["id"].startswith("book_")
    assert [one["title"] for one in await host.client.call("shelf.list")] == ["Almanac", "Emma"]
    assert (tmp_path / "data" / "shelf.db").is_file()
    assert (tmp_path / "data" / "shelf" / "last").read_text() == "Emma"
    assert '"book added"' in host.log_text


async def test_a_declared_error_and_the_packages_settings_reach_the_caller(host: TestHost) -> None:
    await host.client.call("shelf.add", title="Emma")
    taken = await _refused(host.client.call("shelf.add", title="Emma"))
    assert (taken.kind, taken.data) == ("shelf.title_taken", {"title": "Emma"})
    for title in ("Ulysses", "Walden", "Dracula"):
        await host.client.call("shelf.add", title=title)
    assert (await _refused(host.client.call("shelf.add", title="Too many"))).kind == "conflict"
    page = await host.client.call("hub.schema", method="shelf")
    assert {one["name"] for one in page["methods"]} == {"shelf.add", "shelf.list", "shelf.read_aloud"}


async def test_a_child_has_methods_and_a_life_of_its_own(tmp_path: Path, plugins: dict[str, Any]) -> None:
    async with open_host(tmp_path / "data", plugins=plugins) as host:
        assert await host.client.call("shelf.labels.of", title="Emma") == "default/Emma"
        labels = plugins["shelf"].made[0].labels
        assert labels.life == ["opened"]
    assert labels.life == ["opened", "closed"]


async def test_packages_call_each_other_for_the_caller(host: TestHost) -> None:
    assert await host.client.call("clerk.donate", titles=["Emma", "Walden"]) == 3
    books = await host.client.call("shelf.list")
    assert {one["title"]: one["added_by"] for one in books}["Emma"] == "local"
    # Whatever the other refuses is refused to the caller.
    assert (await _refused(host.client.call("clerk.donate", titles=["Emma"]))).kind == "shelf.title_taken"


async def test_one_stream_is_made_of_another(host: TestHost) -> None:
    await host.client.call("shelf.add", title="War and Peace")
    events = await host.client.events("clerk.whisper", title="War and Peace")
    assert events[:-1] == ["war", "and", "peace"]
    missing = await host.client.events("clerk.whisper", title="Gone")
    assert missing[-1]["error"]["data"]["kind"] == "not_found"


async def test_a_method_called_the_wrong_way_is_not_begun(host: TestHost) -> None:
    for name, stream in (("shelf.add", True), ("shelf.read_aloud", False)):
        refused = await _refused(host.client.call("clerk.misuse", method_name=name, stream=stream))
        assert refused.kind == "internal"
    assert [one["title"] for one in await host.client.call("shelf.list")] == ["Almanac"]
    assert await host.client.call("rpc.subscriptions") == []


async def test_progress_comes_between_the_events(host: TestHost) -> None:
    await host.client.call("shelf.add", title="Two words")
    events = await host.client.events("shelf.read_aloud", title="Two words")
    assert events == [
        "Two",
        {"type": "progress", "done": 1, "total": 2, "message": "reading"},
        "words",
        {"type": "progress", "done": 2, "total": 2, "message": "reading"},
        {"type": "done", "outcome": "complete", "error": None},
    ]


async def test_a_stop_handler_set_before_the_run_begins_gives_time_for_last_words(host: TestHost) -> None:
    await host.client.call("shelf.add", title="Endless")
    async with host.client.stream("shelf.read_aloud", title="Endless") as stream:
        assert (await stream.next())[1] == "Endless"
        await host.client.call("rpc.cancel", subscription=stream.subscription)
        rest = [event async for _seq, event in stream]
    assert rest[1:] == ["bookmark", {"type": "done", "outcome": "cancelled", "error": None}]


async def test_what_is_refused_before_a_stream_begins_is_the_calls_own_error(host: TestHost) -> None:
    assert (await _refused(host.client.events("shelf.read_aloud", title="Gone"))).kind == "not_found"


async def test_events_reach_a_package_that_has_no_import_of_the_other(host: TestHost, plugins: dict[str, Any]) -> None:
    await host.client.call("shelf.add", title="Emma")
    # The service calls as itself, and whoever adds a book is who the handler works for.
    assert plugins["herald"].heard == [("Almanac", "service:herald"), ("Emma", "local")]
    assert await host.client.call("herald.who") == "service:herald"
    statuses = {status.name: status for status in host.app.hub.plugins}
    assert statuses["herald"].services == {"herald": "running"}


async def test_workspace_roots_are_those_of_the_configuration_and_the_hosts_own(host: TestHost, tmp_path: Path) -> None:
    own = (tmp_path / "data" / "workspaces").resolve()
    assert await host.client.call("clerk.roots") == [str(own), str(tmp_path.resolve())]


async def test_a_new_migration_is_applied_to_what_is_there(
    tmp_path: Path, plugins: dict[str, Any], migrations: Path
) -> None:
    async with open_host(tmp_path / "data", plugins=plugins) as host:
        await host.client.call("shelf.add", title="Emma")
    (migrations / "0002_shout.sql").write_text("update books set title = upper(title);")
    async with open_host(tmp_path / "data", plugins={"shelf": ShelfPackage()}) as host:
        assert "EMMA" in [one["title"] for one in await host.client.call("shelf.list")]
    (migrations / "0001_books.sql").write_text("create table other (id text);")
    async with open_host(tmp_path / "data", plugins={"shelf": ShelfPackage()}) as host:
        (status,) = [one for one in host.app.hub.plugins if one.name == "shelf"]
        assert "0001_books.sql" in str(status.error)


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    from clonk_core import plugin

    assert isinstance(plugin, ModuleType)
    without = [name for name in plugin.__all__ if not getattr(plugin, name).__doc__]
    # Aliases of types cannot say anything.
    assert set(without) <= {"JsonValue", "Outcome", "StopReason"}
