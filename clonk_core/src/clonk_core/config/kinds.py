"""Kinds of values that settings have, with their bounds."""

import ipaddress
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen

from clonk_core.plugin import Pattern

Port = Annotated[int, Ge(0), Le(65535)]
Seconds = Annotated[float, Gt(0), Le(86_400)]
Bytes = Annotated[int, Ge(1024), Le(1024 * 1024 * 1024)]
Text = Annotated[str, MinLen(1)]

Count = Annotated[int, Ge(1), Le(1_000_000)]
RateLimit = Annotated[str, Pattern("[1-9][0-9]{0,8}/(s|min|h|day)", "such as 100/min; s, min, h or day")]
BytesLimit = Annotated[str, Pattern("[1-9][0-9]{0,8}(KiB|MiB|GiB)/(s|min|h|day)", "such as 50MiB/min")]
Networks = tuple[Text, ...]

MIB = 1024 * 1024


def check_networks(networks: Sequence[str]) -> None:
    """Refuse what is no network.

    Raises:
        ValueError: One is none.
    """
    for network in networks:
        ipaddress.ip_network(network)
