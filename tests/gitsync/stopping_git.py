"""The real git behind a script that can be told to stop before or after a subcommand, for tests that strike there."""

import os
import shutil
import signal
from pathlib import Path
from typing import Final

import trio

SCRIPT: Final = """#!/bin/sh
# Behind the settings comes the subcommand.
is_value= name=
for word in "$@"; do
    if [ -n "$is_value" ]; then is_value=; continue; fi
    if [ "$word" = -c ]; then is_value=1; else name=$word; break; fi
done
echo "$name" >> {folder}/seen
wait_here() {{
    echo $$ > {folder}/reached.part
    mv {folder}/reached.part {folder}/reached
    while [ ! -e {folder}/go_on ]; do sleep 0.02; done
}}
read -r when where 2>/dev/null < {folder}/stop || exec {git} "$@"
[ "$where" = "$name" ] || exec {git} "$@"
if [ "$when" = before ]; then wait_here; exec {git} "$@"; fi
{git} "$@"
code=$?
wait_here
exit $code
"""


class StoppingGit:
    """A folder for PATH with the script in it.

    Args:
        folder: Made here.
    """

    def __init__(self, folder: Path) -> None:
        real = shutil.which("git")
        assert real is not None
        self._folder = folder
        folder.mkdir()
        script = folder / "git"
        script.write_text(SCRIPT.format(folder=folder, git=real))
        script.chmod(0o755)

    @property
    def path(self) -> str:
        """What PATH shall be."""
        return f"{self._folder}:{os.environ['PATH']}"

    def points(self, *names: str) -> list[tuple[str, str]]:
        """Return the points before and after those of the named subcommands that were called; see `seen`."""
        return [(when, name) for name in self.seen() if name in names for when in ("before", "after")]

    def seen(self) -> list[str]:
        """Return the subcommands so far, each once, in their order; and begin anew."""
        names = (self._folder / "seen").read_text().split()
        (self._folder / "seen").unlink()
        return list(dict.fromkeys(names))

    def stop(self, when: str, name: str) -> None:
        """Have the next call of a subcommand wait before it begins, or after it has ended."""
        for file in ("reached", "go_on"):
            (self._folder / file).unlink(missing_ok=True)
        (self._folder / "stop").write_text(f"{when} {name}\n")

    async def wait_reached(self) -> None:
        """Return when it waits there. Further calls of it do not."""
        with trio.fail_after(20):
            while not (self._folder / "reached").exists():
                await trio.sleep(0.005)
        (self._folder / "stop").unlink()

    def go_on(self) -> None:
        """Have what waits go on."""
        (self._folder / "go_on").touch()

    def kill(self) -> None:
        """End what waits: by its id, as whoever started it may be gone."""
        os.kill(int((self._folder / "reached").read_text()), signal.SIGKILL)
