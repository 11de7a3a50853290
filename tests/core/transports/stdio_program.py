"""A program that serves a door on its standard input and output, and prints where it must not."""

import os
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import Door, ListLog  # type: ignore[import-not-found]

from clonk_core.config.settings import ServerSettings
from clonk_core.transports.stdio import own_stdio, serve_stdio


async def main() -> None:
    settings = ServerSettings(shutdown_grace_s=float(sys.argv[1]), max_message_bytes=10 * 2**20)
    async with own_stdio() as (source, sink):
        print("a stray print")
        os.system("echo a stray child")
        await serve_stdio(Door(), settings, source, sink, log=ListLog())
    print("after")


trio.run(main)
