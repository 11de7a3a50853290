"""A host whose disk is full when it starts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clonk_core.errors import StorageFull
from clonk_core.testing.host import open_host


async def test_a_host_on_a_full_disk_says_so_and_starts_when_there_is_room_again(
    small_disk: Path, fill_the_disk: Callable[[Path], None]
) -> None:
    ballast = small_disk / "ballast"
    for _ in ("a new one", "one that was there"):
        fill_the_disk(ballast)
        with pytest.raises(StorageFull):
            async with open_host(small_disk):
                pass
        ballast.unlink()
        async with open_host(small_disk) as host:
            assert (await host.client.call("health.check"))["status"] == "ok"
