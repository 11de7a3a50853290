"""Where a remote's repository is at its forge: from URLs to paths. No I/O."""

import re
from urllib.parse import quote, unquote, urlsplit

from clonk_gitsync.policy import Remote
from clonk_gitsync.settings import ForgeSettings


def part(name: str) -> str:
    """Return a name as one part of an address: its slashes are encoded, too."""
    return quote(name, safe="")


def owner_and_name(repository: str) -> tuple[str, str]:
    """Return the two parts of `owner/name`.

    Raises:
        ValueError: It has not two.
    """
    parts = repository.split("/")
    if len(parts) != 2:
        raise ValueError("its path is not owner/name")
    return parts[0], parts[1]


def fits(forge: ForgeSettings, remote: Remote) -> bool:
    """Tell whether a remote is of a forge: of the same host and port; a port of ssh says nothing of the forge."""
    host = re.sub(r":[0-9]+$", "", remote.host) if remote.protocol == "ssh" else remote.host
    return remote.host != "" and forge.host.lower() in {host, remote.host}


def repository_of(remote: Remote, api_url: str) -> str:
    """Return the path of a remote's repository, `owner/name`, without what the whole forge lies below.

    Args:
        remote: The remote.
        api_url: Of its forge: `https://example.com/git/api/v1` is that of a forge at `https://example.com/git`.

    Raises:
        ValueError: It names none.
    """
    url = remote.url
    path = urlsplit(url).path if "://" in url else url.partition(":")[2]
    path = unquote(path).strip("/").removesuffix(".git").strip("/")
    above = urlsplit(api_url).path.partition("/api/")[0].strip("/")
    if above and path.startswith(f"{above}/"):
        path = path.removeprefix(f"{above}/")
    if any(one in {"", ".", ".."} or not one.isprintable() for one in path.split("/")):
        raise ValueError("its path names no repository")
    return path
