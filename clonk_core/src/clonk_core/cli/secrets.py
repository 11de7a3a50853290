"""`clonk secrets`: keep credentials encrypted in the data directory, beside a running server or without one."""

import getpass
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import attrs
import trio
from cyclopts import Parameter

from clonk_core.cli.audited import audit_writer
from clonk_core.cli.exit_codes import OK, CommandError, UsageError
from clonk_core.cli.flags import ConfigFile, Json
from clonk_core.cli.main import complain
from clonk_core.cli.output import print_columns, print_json

if TYPE_CHECKING:
    from clonk_core.interfaces.keeping import AuditWriter
    from clonk_core.storage.secrets import SecretStore

DataDir: TypeAlias = Annotated[Path | None, Parameter(name="--data-dir", negative=())]

DEFAULT_TENANT: Final = "default"
"""As in `app.py`, which takes most of a second to import; help must not wait for it."""


def set_(
    name: str,
    /,
    *value: Annotated[str, Parameter(show=False)],
    file: Path | None = None,
    tenant: str = DEFAULT_TENANT,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> int:
    """Keep a secret, encrypted, in the place of the one that had its name.

    The value is read from standard input, on a terminal without showing it, and never from the command line, which
    others can see. A line end at its end is dropped.

    Args:
        name: A letter, then letters, digits, `_` and `-`; at most 64.
        value: Refused.
        file: Read the value from this file instead.
        tenant: Whose it is.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    _check(name)
    if value:
        raise UsageError("a value on the command line can be seen by others; give it on standard input, or with --file")
    text = _read_value(name, file)
    _check(name, text)
    trio.run(partial(_set, name, text, tenant, config, data_dir))
    print(f"{name} is set")
    return OK


def list_(
    *, tenant: str = DEFAULT_TENANT, json: Json = False, config: ConfigFile = None, data_dir: DataDir = None
) -> int:
    """List the secrets: name, id of the key it is encrypted under, when it was first and last set. Never a value.

    Args:
        tenant: Whose.
        json: Print JSON, one secret a line.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    trio.run(partial(_list, tenant, config, data_dir, json=json))
    return OK


def delete(name: str, /, *, tenant: str = DEFAULT_TENANT, config: ConfigFile = None, data_dir: DataDir = None) -> int:
    """Delete a secret. Exit code 1 when there is none of that name.

    Args:
        name: Which.
        tenant: Whose it is.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    _check(name)
    trio.run(partial(_delete, name, tenant, config, data_dir))
    print(f"{name} is deleted")
    return OK


def rotate(*, old_key_file: Path | None = None, config: ConfigFile = None, data_dir: DataDir = None) -> int:
    """Encrypt every secret anew under another key: one that is made now, or the one that is configured.

    Without `secrets.key_file` and `secrets.key_command`, a new key takes the place of `secret.key` in the data
    directory. With one of them, put the new key there first and name the old one with `--old-key-file`. A running
    server goes on and needs no restart. All tenants' secrets are concerned; when one cannot be decrypted, none is
    changed.

    Args:
        old_key_file: File with a key that secrets are under now.
        config: The configuration file; without it the usual places are searched.
        data_dir: Folder of the databases.
    """
    count, key_id = trio.run(partial(_rotate, old_key_file, config, data_dir))
    print(f"{count} {'secret is' if count == 1 else 'secrets are'} encrypted anew, under the key {key_id}")
    return OK


async def note_change(
    writer: "AuditWriter | None", action: str, *, tenant: str, target: str | None = None, **detail: str | int
) -> None:
    """Write into the audit log what was changed, when there is one.

    Args:
        writer: The audit log; None for none.
        action: `secrets set`, `secrets delete`, `secrets rotate`.
        tenant: Whose secret.
        target: Its name.
        detail: What else is to be known; never a value.
    """
    if writer is None:
        return
    from clonk_core.gateway_messages import AuditEntry
    from clonk_core.messages import LOCAL_CALLER

    caller = attrs.evolve(LOCAL_CALLER, tenant=tenant)
    await writer.write(
        AuditEntry(kind="secret", caller=caller, action=action, target=target, peer="command line", detail=detail)
    )


@attrs.frozen(kw_only=True)
class _Opened:
    """The secrets of a data directory."""

    store: "SecretStore"
    audit: "AuditWriter | None"


@asynccontextmanager
async def _opened(config: Path | None, data_dir: Path | None) -> AsyncIterator[_Opened]:
    """Open the secrets, and finish a rotation that was cut off."""
    from clonk_core.app import draw, secret_keys
    from clonk_core.errors import ClonkError
    from clonk_core.storage.data_dir import make_folder
    from clonk_core.storage.open_secrets import open_secrets

    flags = {} if data_dir is None else {"storage.data_dir": str(data_dir)}
    loaded = draw(config, os.environ, flags).loaded
    loaded.require_startable(listening=False)
    folder = loaded.settings.storage.data_dir.expanduser().absolute()
    make_folder(folder)
    async with open_secrets(folder, secret_keys(loaded.settings, folder)) as (store, database):
        try:
            await store.finish_rotation()
        except ClonkError as error:
            # What cannot be decrypted can still be deleted.
            complain(f"warning: a rotation that was cut off cannot be finished: {error}")
        yield _Opened(store=store, audit=audit_writer(database, loaded.settings.audit))


async def _set(name: str, value: str, tenant: str, config: Path | None, data_dir: Path | None) -> None:
    async with _opened(config, data_dir) as opened:
        await opened.store.set(tenant, name, value)
        await note_change(opened.audit, "secrets set", tenant=tenant, target=name)


async def _list(tenant: str, config: Path | None, data_dir: Path | None, *, json: bool) -> None:
    async with _opened(config, data_dir) as opened:
        found = await opened.store.list(tenant)
    if json:
        for entry in found:
            print_json(attrs.asdict(entry), compact=True)
    else:
        print_columns([(entry.name, entry.key_id, entry.created_at, entry.updated_at) for entry in found])


async def _delete(name: str, tenant: str, config: Path | None, data_dir: Path | None) -> None:
    async with _opened(config, data_dir) as opened:
        if not await opened.store.delete(tenant, name):
            raise CommandError(f"there is no secret {name!r}; `clonk secrets list` shows all")
        await note_change(opened.audit, "secrets delete", tenant=tenant, target=name)


async def _rotate(old_key_file: Path | None, config: Path | None, data_dir: Path | None) -> tuple[int, str]:
    from clonk_core.storage.secret_key import read_key_file

    old = [] if old_key_file is None else [read_key_file(old_key_file, f"--old-key-file ({old_key_file})")]
    async with _opened(config, data_dir) as opened:
        count, key_id = await opened.store.rotate(old)
        await note_change(opened.audit, "secrets rotate", tenant=DEFAULT_TENANT, count=count, key_id=key_id)
    return count, key_id


def _check(name: str, value: str | None = None) -> None:
    from clonk_core.storage.secrets import check

    try:
        check(name, value)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _read_value(name: str, file: Path | None) -> str:
    """Read the value: from the file, from the terminal without showing it, or from standard input."""
    from clonk_core.storage.secrets import MAX_VALUE_BYTES

    most = MAX_VALUE_BYTES + 3  # one byte too many is enough to tell, after the line end
    if file is not None:
        try:
            with file.open("rb") as opened:
                content = opened.read(most)
        except OSError as error:
            raise UsageError(f"{file} cannot be read ({error.strerror})") from error
    elif sys.stdin.isatty():
        return getpass.getpass(f"{name}: ")
    else:
        content = sys.stdin.buffer.read(most)
    try:
        return content.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        # Without a cause, which would hold the value.
        raise UsageError(f"the value of {name} is no text (UTF-8)") from None
