"""`clonk keys`: API keys of the data directory, with or beside a running server, which notices within seconds.

Whoever can write the data directory could read and change everything in it anyway, so no key is asked for.
"""

import getpass
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from clonk_core.cli.audited import audit_writer
from clonk_core.cli.durations import seconds
from clonk_core.cli.exit_codes import OK, CommandError, UsageError
from clonk_core.cli.flags import ConfigFile, DataDir, Json
from clonk_core.cli.output import print_columns, print_json

if TYPE_CHECKING:
    from clonk_core.gateway.office import KeyOffice
    from clonk_core.gateway_messages import ApiKeyInfo

Scopes = Annotated[tuple[str, ...], Parameter(name="--scope", negative=())]
Networks = Annotated[tuple[str, ...], Parameter(name="--allow-from", negative=(), show_default=False)]

_FLAGS: Final = {"id": "KEY_ID", "scopes": "--scope", "allowed_networks": "--allow-from", "expires_at": "--expires-in"}
"""What is called otherwise on the command line than in a key."""


async def create(
    key_id: str,
    /,
    *,
    scope: Scopes,
    description: str = "",
    tenant: str | None = None,
    rate_limit: str | None = None,
    burst: int | None = None,
    bytes_limit: str | None = None,
    max_runs: int | None = None,
    allow_from: Networks = (),
    expires_in: str | None = None,
    json: Json = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> int:
    """Make an API key and print it, this once.

    For example: clonk keys create ci --scope 'claudecode:chat@ci-*' --rate-limit 100/min --expires-in 90d

    Args:
        key_id: Its name; never used again, also not after it was revoked.
        scope: What it may do, such as `claudecode:chat`, `arbor:*`, `*` or, narrowed to some names,
            `claudecode:chat@ci-*`. Give it several times for several.
        description: What it is for.
        tenant: Whose data it reaches.
        rate_limit: Most calls in a span of time, such as 100/min.
        burst: Most calls at once.
        bytes_limit: Most bytes that are taken in a span of time, such as 50MiB/min.
        max_runs: Most streams at the same time.
        allow_from: Network it may be used from, such as 10.0.0.0/8. Give it several times for several.
        expires_in: How long it is good, such as 12h or 90d; for ever when left out.
        json: Print JSON.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    from clonk_core.gateway_messages import KeyRequest
    from clonk_core.messages import LOCAL_CALLER

    expires_at = None if expires_in is None else datetime.now(UTC) + timedelta(seconds=seconds(expires_in))
    async with _office(config, data_dir) as office:
        info, secret = await office.create(
            LOCAL_CALLER,
            KeyRequest(
                id=key_id,
                scopes=scope,
                tenant=tenant,
                description=description or f"made by {getpass.getuser()} with `clonk keys`",
                rate_limit=rate_limit,
                burst=burst,
                bytes_limit=bytes_limit,
                max_runs=max_runs,
                allowed_networks=allow_from,
                expires_at=expires_at,
            ),
        )
    _tell_secret(info, secret, json=json)
    return OK


async def list_(*, json: Json = False, config: ConfigFile = None, data_dir: DataDir = None) -> int:
    """List the keys: those of the configuration, and those that are good no more, too.

    Args:
        json: Print JSON, one key a line.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    from clonk_core.messages import LOCAL_CALLER

    async with _office(config, data_dir) as office:
        keys = office.list(LOCAL_CALLER)
    if json:
        for key in keys:
            print_json(_plain(key), compact=True)
    else:
        print_columns(
            [(key.id, key.state, " ".join(key.scopes), key.rate_limit or "", key.description) for key in keys]
        )
    return OK


async def show(key_id: str, /, *, config: ConfigFile = None, data_dir: DataDir = None) -> int:
    """Print what is known of one key; its secret is kept nowhere.

    Args:
        key_id: Its name.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    from clonk_core.messages import LOCAL_CALLER

    async with _office(config, data_dir) as office:
        print_json(_plain(office.get(LOCAL_CALLER, key_id)), compact=False)
    return OK


async def revoke(key_id: str, /, *, made_too: bool = False, config: ConfigFile = None, data_dir: DataDir = None) -> int:
    """Take a key back for good. A running server ends what it has open within seconds.

    Args:
        key_id: Its name.
        made_too: Take back the keys as well that were made with it over the wire, and those that were made with them.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    from clonk_core.messages import LOCAL_CALLER

    async with _office(config, data_dir) as office:
        await office.revoke(LOCAL_CALLER, key_id, made_too=made_too)
    print(f"The key {key_id} is revoked.")
    return OK


async def rotate(
    key_id: str,
    /,
    *,
    keep_old_for: str = "1h",
    json: Json = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> int:
    """Give a key a new secret and print it, this once.

    Args:
        key_id: Its name.
        keep_old_for: How long the old secret stays good, such as 10min or 7d; 0s for not at all.
        json: Print JSON.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    from clonk_core.gateway_messages import MAX_OVERLAP_S
    from clonk_core.messages import LOCAL_CALLER

    overlap_s = seconds(keep_old_for)
    if overlap_s > MAX_OVERLAP_S:
        raise UsageError("--keep-old-for is at most 30d")
    async with _office(config, data_dir) as office:
        info, secret = await office.rotate(LOCAL_CALLER, key_id, overlap_s)
    _tell_secret(info, secret, json=json)
    return OK


async def hash_() -> int:
    """Read a key from standard input and print its `secret_hash` for clonk.yaml.

    For example: openssl rand -base64 32 | tee my.key | clonk keys hash
    """
    from clonk_core.gateway.keys import hash_of

    key = (getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        raise UsageError("no key on standard input")
    print(f"sha256:{hash_of(key)}")
    return OK


@asynccontextmanager
async def _office(config: "ConfigFile", data_dir: str | None) -> "AsyncIterator[KeyOffice]":
    """Give the keys of the data directory; errors of theirs are told as one line."""
    import os

    from clonk_core.config.load import load_core
    from clonk_core.errors import CallError, InvalidParams
    from clonk_core.gateway.fixed_keys import fixed_keys
    from clonk_core.gateway.key_store import KeyStore
    from clonk_core.gateway.keys import KeyRing
    from clonk_core.gateway.office import KeyOffice
    from clonk_core.storage.core_tables import open_core_database
    from clonk_core.storage.data_dir import make_folder

    flags = {} if data_dir is None else {"storage.data_dir": data_dir}
    settings = load_core(config, os.environ, flags)
    make_folder(settings.storage.data_dir)
    try:
        async with open_core_database(settings.storage.data_dir) as database:
            ring = KeyRing(fixed_keys(settings.auth.api_keys), time.time)
            audit = audit_writer(database, settings.audit)
            office = KeyOffice(KeyStore(database), ring, audit, time.time, peer="command line")
            await office.refresh()
            yield office
    except InvalidParams as error:
        name = error.path.removeprefix("$.")
        raise UsageError(f"{_FLAGS.get(name, '--' + name.replace('_', '-'))}: {error.detail}") from error
    except CallError as error:
        raise CommandError(str(error)) from error


def _tell_secret(info: "ApiKeyInfo", secret: str, *, json: bool) -> None:
    if json:
        print_json({"key": secret, "info": _plain(info)}, compact=True)
        return
    print(secret)
    if sys.stdout.isatty():
        print("\nIt is shown this once and kept nowhere. Use it with: export CLONK_API_KEY=<the key>", file=sys.stderr)


def _plain(info: "ApiKeyInfo") -> object:
    import orjson

    from clonk_core.wire.converter import Converter

    return orjson.loads(Converter().encode(info))
