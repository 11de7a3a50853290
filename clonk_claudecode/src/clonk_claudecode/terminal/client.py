"""The terminal client behind `clonk chat`: opens a session, sends prompts, shows the turns, obeys `/commands`."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clonk_claudecode.terminal.asking import open_asker
from clonk_claudecode.terminal.command import ANSWERED_ERROR, INTERRUPTED, NO_SERVER, OK
from clonk_claudecode.terminal.interruptible import Interrupts, run_interruptible
from clonk_claudecode.terminal.link import new_client, refusal_text
from clonk_claudecode.terminal.permissions import how_to_answer
from clonk_claudecode.terminal.prompt_line import confirm, read_prompt, set_up_editing
from clonk_claudecode.terminal.screen import TurnView, message_texts, printable, tokens_text
from clonk_core.client.base import ClientError, EventStream, RemoteError

if TYPE_CHECKING:
    from clonk_claudecode.terminal.link import Client

COMMANDS: Final = {
    "/help": "show this",
    "/history": "show the last messages; `/history 100` shows the last hundred",
    "/session": "show the session's settings and state",
    "/follow": "watch an answer that somebody else has asked for",
    "/interrupt": "stop what the session is doing",
    "/quit": "leave; so does Ctrl-D",
}

BUSY: Final = "claudecode.session_busy"

HISTORY_SHOWN: Final = 20
HISTORY_PAGE: Final = 1000


@attrs.frozen(kw_only=True)
class NewSession:
    """How to create the session when it does not exist.

    Attributes:
        create: Whether to do it without asking.
        working_dir, model, permission_mode: As `claudecode.create` takes them; None for the server's defaults.
    """

    create: bool = False
    working_dir: str | None = None
    model: str | None = None
    permission_mode: str | None = None

    @property
    def params(self) -> dict[str, str]:
        """What was given, as parameters of `claudecode.create`."""
        return {name: value for name, value in attrs.asdict(self).items() if name != "create" and value is not None}


class ChatClient:
    """Talks to one session.

    Each exchange has a connection of its own, so that nothing waits on the network while a person thinks.
    """

    def __init__(self, name: str, *, url: str, new: NewSession, asked: Mapping[str, Any] | None = None) -> None:
        """Talk to a session.

        Args:
            name: Its name.
            url: Where the server is.
            new: How to create it.
            asked: Parameters of `claudecode.chat` that go with each prompt; attachments only with the first one.
        """
        self._name = name
        self._asked = dict(asked or {})
        self._url = url
        self._new = new
        self._is_talking = False
        self._out = Console(highlight=False)
        self._err = Console(stderr=True, highlight=False)
        # On a terminal everything is one picture; into a pipe goes Claude's text alone.
        self._notes = self._out if self._out.is_terminal else self._err

    # ── once ─────────────────────────────────────────────────────────────────

    def say(self, prompt: str) -> int:
        """Send one prompt, show the answer and return the exit code."""
        return self._guarded(lambda: self._once(prompt))

    def _once(self, prompt: str) -> int:
        if self._open() is None:
            if not self._new.create:
                self._complain(f"there is no session {self._name!r}; create it with --create")
                return ANSWERED_ERROR
            self._create()
        return self._send(prompt)

    # ── interactively ────────────────────────────────────────────────────────

    def talk(self) -> int:
        """Read prompts and commands until the user leaves, and return the exit code."""
        self._is_talking = True
        set_up_editing(list(COMMANDS))
        code = self._guarded(self._begin)
        if code != OK:
            return code
        while True:
            try:
                line = read_prompt()
            except (EOFError, KeyboardInterrupt):
                self._out.print()
                return OK
            if line.strip() == "/quit":
                return OK
            if line.strip():
                self._guarded(partial(self._obey if line.startswith("/") else self._ask, line))

    def _begin(self) -> int:
        """Find or create the session and say hello; watch the answer that runs, if one does."""
        session = self._open()
        if session is None:
            if not self._new.create and not self._agrees(f"There is no session {self._name}. Create it?"):
                return ANSWERED_ERROR
            self._create()
            session = self._open() or {}
        self._out.print(Text.assemble((self._name, "bold"), "  ", (_session_line(session), "dim")), soft_wrap=True)
        self._out.print(Text("/help shows what can be typed; Ctrl-C stops an answer, Ctrl-D leaves", style="dim"))
        if session.get("subscription"):
            self._say("It is answering another prompt; Ctrl-C stops watching.")
            self._follow(session["subscription"])
        return OK

    def _ask(self, prompt: str) -> int:
        try:
            return self._send(prompt)
        except RemoteError as error:
            subscription = error.data.get("subscription")
            if error.kind != BUSY or not isinstance(subscription, str):
                raise
            if self._agrees("It is answering another prompt. Watch that?"):
                self._follow(subscription)
                self._say("Your prompt was not sent; the arrow keys bring it back.")
            return OK

    def _obey(self, line: str) -> int:
        command, _, argument = line.strip().partition(" ")
        match command:
            case "/help":
                self._help()
            case "/history":
                return self._history(argument.strip())
            case "/session":
                self._session()
            case "/follow":
                subscription = self._call("claudecode.get", name=self._name)["subscription"]
                if subscription is None:
                    self._say("It is not answering anything.")
                else:
                    self._follow(subscription)
            case "/interrupt":
                stopped = self._call("claudecode.interrupt", name=self._name)["interrupted"]
                self._say("Stopped." if stopped else "Nothing was running.")
            case _:
                self._complain(f"there is no command {command}; /help shows them. A blank before it makes it a prompt")
                return ANSWERED_ERROR
        return OK

    def _help(self) -> None:
        table = Table.grid(padding=(0, 2))
        for command, what in COMMANDS.items():
            table.add_row(Text(command, style="bold"), Text(what))
        self._out.print(table)
        self._say("Everything else is sent to Claude. A line that ends with \\ goes on in the next one.")

    def _session(self) -> None:
        table = Table.grid(padding=(0, 2))
        for key, value in self._call("claudecode.get", name=self._name).items():
            if value is not None:
                table.add_row(Text(key, style="dim"), Text(printable(str(value))))
        self._out.print(table)

    def _history(self, argument: str) -> int:
        if argument and not (argument.isascii() and argument.isdigit()):
            self._complain("say how many: /history 100")
            return ANSWERED_ERROR
        wanted = int(argument) if argument else HISTORY_SHOWN
        after = max(0, self._call("claudecode.get", name=self._name)["message_count"] - wanted)
        while page := self._call("claudecode.history", name=self._name, limit=HISTORY_PAGE, after=after):
            for message in page:
                self._show_message(message)
            after = page[-1]["seq"]
        return OK

    def _show_message(self, message: Mapping[str, Any]) -> None:
        for kind, text in message_texts(message["content"]):
            if kind == "tool_use":
                self._out.print(Text("● " + printable(text), style="cyan"), soft_wrap=True)
            elif kind == "tool_result":
                first = printable(text).split("\n", 1)
                self._out.print(Text("  │ " + first[0] + (" …" if len(first) > 1 else ""), style="dim"), soft_wrap=True)
            else:
                mark = "> " if message["role"] == "user" else ""
                self._out.print(Text(mark + printable(text), style="bold" if mark else ""), soft_wrap=True)
        if message.get("partial"):
            self._say("(cut off there when the server ended)")

    # ── turns ────────────────────────────────────────────────────────────────

    def _send(self, prompt: str) -> int:
        """Send a prompt and show the answer. The first Ctrl-C stops the answer, the next one leaves it running."""
        asked = {"name": self._name, "prompt": prompt, **self._asked}
        code = self._turn(lambda client: client.stream("claudecode.chat", **asked), own=True)
        self._asked.pop("attachments", None)
        return code

    def _follow(self, subscription: str) -> int:
        """Show a run of somebody else's from its beginning; Ctrl-C stops watching, not the run."""
        try:
            return self._turn(lambda client: client.resume(subscription, after=0), own=False)
        except KeyboardInterrupt:
            self._say("Not watching any more; it goes on. /interrupt stops it.")
            return OK

    def _turn(self, open_stream: Callable[["Client"], AbstractAsyncContextManager[EventStream]], *, own: bool) -> int:
        """Show a run to its end and return the exit code that its outcome deserves."""
        view = TurnView(self._out, self._notes)
        began = time.monotonic()
        stopped = False

        async def work(interrupts: Interrupts) -> None:
            async with new_client(self._url) as client:

                async def stop() -> None:
                    nonlocal stopped
                    stopped = True
                    view.note("stopping; Ctrl-C again leaves it running")
                    try:
                        await client.call("claudecode.interrupt", name=self._name)
                    except ClientError as error:
                        view.note(f"could not be stopped: {error}", style="red")

                async def permit(answer: Mapping[str, Any]) -> object:
                    return await client.call("claudecode.permit", **answer)

                async with open_stream(client) as events, open_asker(view, permit) as asker:
                    if own:
                        interrupts.handler = stop
                    async for event in events:
                        view.event(event.event)
                        if self._is_talking:
                            asker.event(event.event)
                        elif event.event["type"] == "permission_request":
                            view.note(how_to_answer(event.event), style="yellow")

        try:
            run_interruptible(work)
        finally:
            view.end_line()
        done = view.done or {}
        spent = [tokens_text(done.get("usage")), f"{time.monotonic() - began:.1f} s"]
        self._say(" · ".join(part for part in spent if part))
        if stopped:
            return INTERRUPTED
        return OK if done.get("outcome") == "complete" else ANSWERED_ERROR

    # ── calls ────────────────────────────────────────────────────────────────

    def _open(self) -> dict[str, Any] | None:
        """Return the session, None when there is none."""
        try:
            session: dict[str, Any] = self._call("claudecode.get", name=self._name)
        except RemoteError as error:
            if error.kind != "not_found":
                raise
            return None
        changed = [name for name, value in self._new.params.items() if session.get(name) != value]
        if "model" in changed:
            changed.remove("model")
            self._asked["model"] = self._new.model
        if changed:
            self._say(f"The session exists and keeps its own {', '.join(changed)}.")
        return session

    def _create(self) -> None:
        try:
            self._call("claudecode.create", name=self._name, **self._new.params)
        except RemoteError as error:
            # A conflict that is gone when one looks: somebody else has just created it.
            if error.kind != "conflict" or self._open() is None:
                raise

    def _call(self, method: str, **params: Any) -> Any:
        async def work(_: Interrupts) -> Any:
            async with new_client(self._url) as client:
                return await client.call(method, **params)

        return run_interruptible(work)

    def _guarded(self, action: Callable[[], int]) -> int:
        """Do something and return its exit code, or that of the error it ended with."""
        try:
            return action()
        except RemoteError as error:
            self._complain(refusal_text(error))
            return ANSWERED_ERROR
        except ClientError as error:
            self._complain(f"{error}; `clonk serve` starts a server, --url names another one")
            return NO_SERVER
        except KeyboardInterrupt:
            self._say("^C")
            return INTERRUPTED

    def _agrees(self, question: str) -> bool:
        try:
            return confirm(question)
        except EOFError:
            self._out.print()
            return False

    def _say(self, text: str) -> None:
        self._notes.print(Text(printable(text), style="dim"), soft_wrap=True)

    def _complain(self, text: str) -> None:
        self._err.print(Text(printable(text), style="red"), soft_wrap=True)


def _session_line(session: Mapping[str, Any]) -> str:
    count = session.get("message_count", 0)
    messages = "1 message" if count == 1 else f"{count} messages"
    return " · ".join([str(session.get("model", "")), str(session.get("working_dir", "")), messages])
