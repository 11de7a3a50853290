"""What the tests of the secrets share."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clonk_core.storage.secret_key import SecretKey

MakeKeyFile = Callable[..., SecretKey]


@pytest.fixture
def make_key_file() -> MakeKeyFile:
    """Write a new key into a file."""

    def make(path: Path, *, mode: int = 0o600) -> SecretKey:
        key = SecretKey(material=os.urandom(32))
        path.write_bytes(base64.b64encode(key.material) + b"\n")
        path.chmod(mode)
        return key

    return make
