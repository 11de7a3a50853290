"""The bounds of runs, each with its unit and its reason."""

from typing import Final

import attrs

MAX_BATCH_EVENTS: Final = 512
"""Most events a follower is given at once: measured, the gain of one write for many events is used up by then."""

MAX_BATCH_BYTES: Final = 256 * 1024
"""Most payload bytes a follower is given at once, a single larger event apart: what a follower holds in memory."""


@attrs.frozen(kw_only=True)
class RunLimits:
    """How much of a run is kept, where and for how long.

    Attributes:
        retention_s: How long the events of a durable run are kept after its end, in seconds.
        stop_grace_s: Time a run that is asked to stop has for its last words, in seconds, before it is cancelled.
        ahead_events: Events a durable run may be ahead of the disk. 512 are one full batch: enough to keep the disk
            busy, few enough that little is lost in a crash.
        ahead_bytes: The same in payload bytes, a single larger event apart.
        tail_events: Newest stored events kept in memory while a run goes on, so that its followers need no disk.
        tail_bytes: The same in payload bytes. 256 KiB keeps a live run well below 1 MiB of memory.
        max_run_bytes: Payload bytes kept of one run on disk; beyond, its oldest events are dropped and a reader who
            wants them is told of the gap. 256 MiB are some two million deltas.
        max_total_bytes: Payload bytes kept of all ended runs on disk; beyond, the runs that ended first are dropped
            before their time.
        sweep_every_s: How often runs past their time are looked for, in seconds.
        first_reader_s: A run that is not durable ends when nobody has begun to read it for so long, in seconds.
        retry_first_s: Wait before a run that could not be written is closed again, in seconds; doubled each time.
        retry_longest_s: Longest such wait, in seconds.
    """

    retention_s: float = 86_400.0
    stop_grace_s: float = 10.0
    ahead_events: int = 512
    ahead_bytes: int = 4 * 1024 * 1024
    tail_events: int = 1024
    tail_bytes: int = 256 * 1024
    max_run_bytes: int = 256 * 1024 * 1024
    max_total_bytes: int = 4 * 1024 * 1024 * 1024
    sweep_every_s: float = 60.0
    first_reader_s: float = 30.0
    retry_first_s: float = 1.0
    retry_longest_s: float = 30.0
