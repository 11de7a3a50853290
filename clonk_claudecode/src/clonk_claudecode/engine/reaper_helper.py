"""The reaper's helper: a small process that outlives the hub by a moment and ends what the hub has left.

It reads lines from the hub: `add <group> <start time>` and `remove <group>`. When the pipe closes the hub is gone;
then it kills the groups that are still listed and everything that bears the hub's mark. Standard library only.
"""

import os
import signal
import sys

from clonk_claudecode.engine import process_table


def main(argv: list[str]) -> None:
    """Watch until standard input ends.

    Args:
        argv: The hub's token.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever stops the hub's whole group or service must not stop the one that cleans up after it.
        signal.signal(number, signal.SIG_IGN)
    token = argv[0]
    groups: dict[int, str] = {}
    os.write(1, b"ready\n")
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        group, _, started = rest.partition(" ")
        if not group.isdigit():
            continue
        if command == "add":
            groups[int(group)] = started
        elif command == "remove":
            groups.pop(int(group), None)
    for group, started in groups.items():
        # A dead leader's group may still be there, under a number that the system does not give away meanwhile; a
        # living process with this number and another start time is a stranger.
        if process_table.start_time(group) in (started, None):
            process_table.signal_group(group, signal.SIGKILL)
    process_table.kill_marked(f"{token}.")
