"""What `clonk chat` asks of a turn beside its prompt: options, and the files that go along."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clonk_claudecode.prompts.images import NotAnImage, read_image


class UnusableFile(Exception):
    """A file cannot be sent; the text says why."""


def turn_params(*, attach: Sequence[Path], json_schema: Path | None, **options: Any) -> dict[str, Any]:
    """Return parameters of `claudecode.chat`.

    Args:
        attach: Images and text files.
        json_schema: File with the schema of the answer.
        options: Parameters as they are; those that are None or False are left out.

    Raises:
        UnusableFile: One cannot be read, or is neither text nor an image.
    """
    params = {name: value for name, value in options.items() if value is not None and value is not False}
    if attach:
        params["attachments"] = [_attachment(path) for path in attach]
    if json_schema is not None:
        try:
            params["output_schema"] = json.loads(_read(json_schema))
        except (ValueError, RecursionError) as error:
            raise UnusableFile(f"{json_schema} is no JSON: {error}") from error
    return params


def _attachment(path: Path) -> dict[str, str]:
    content = _read(path)
    try:
        media_type = read_image(content).media_type
    except NotAnImage:
        try:
            return {"type": "text", "name": path.name, "text": content.decode()}
        except UnicodeDecodeError as error:
            raise UnusableFile(f"{path} is neither a text in UTF-8 nor a PNG, JPEG, GIF or WebP image") from error
    data = base64.b64encode(content).decode()
    return {"type": "image", "name": path.name, "media_type": media_type, "data": data}


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read: {error.strerror}") from error
