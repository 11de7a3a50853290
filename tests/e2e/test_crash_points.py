"""The server or the binary is killed at every event of a turn: afterwards all agree on it, and the session goes on."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess
from tests.e2e.crash_points import EVENTS, Stopped, script, wait_no_process_in

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]
SHARES = 3
NUMBERS = range(1, len(EVENTS) + 1)


def _id(numbers: list[int]) -> str:
    return "-".join(str(number) for number in numbers)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("numbers", [list(NUMBERS)[share::SHARES] for share in range(SHARES)], ids=_id)
async def test_after_a_kill_at_any_event_all_agree_and_the_session_goes_on(
    start_server: StartServer, model: ScriptedModel, workspace: Path, numbers: list[int]
) -> None:
    model.add(script())
    stopped: Stopped | None = None
    for number in [*numbers, None]:
        # The start after one kill is the one before the next.
        async with start_server(workspaces={"roots": [str(workspace)]}) as server:
            async with HttpClient(server.http_url) as client:
                if stopped is not None:
                    await _check(stopped, client, model, "server_restarted")
                if number is None:
                    return
                binary = Stopped(f"binary-{number}", number, workspace / f"binary-{number}")
                async with binary.turn(client, model) as rest:
                    binary.kill_binary()
                    async for _ in rest:
                        pass
                await _check(binary, client, model, "claudecode.process_died")
                stopped = Stopped(f"server-{number}", number, workspace / f"server-{number}")
                async with stopped.turn(client, model):
                    await server.kill()
        await wait_no_process_in(stopped.repo)


async def _check(stopped: Stopped, client: HttpClient, model: ScriptedModel, kind: str) -> None:
    await wait_no_process_in(stopped.repo)
    await stopped.check_run(client, kind)
    await stopped.check_all_agree(client, 2)
    await stopped.check_next_chat(client, model)
    await stopped.check_all_agree(client, 3)
