"""Attachments of a prompt: as callers give them, as the model's API takes them, as the history shows them."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

import attrs

from clonk_claudecode.prompts.images import ImageType, NotAnImage, read_image
from clonk_core.plugin import InvalidParams, JsonValue, MaxLen, MinLen, Pattern

MAX_ATTACHMENTS: Final = 20
"""With more images than this the model's API takes only small ones."""

MAX_IMAGE_CHARS: Final = 5 * 1024 * 1024
"""Of an image in base64: what the model's API takes."""

MAX_IMAGE_SIDE: Final = 8000
"""Pixels in either direction: what the model's API takes."""

MAX_TOTAL_CHARS: Final = 20 * 1024 * 1024
"""Of all attachments; a request to the model's API has at most 32 MB, with the whole conversation."""

MAX_TEXT_CHARS: Final = 1_000_000

FileName = Annotated[str, MinLen(1), MaxLen(255), Pattern(r"[^\x00-\x1f\x7f/\\]+", "a file's name without its folder")]

TextType = Annotated[
    str, MaxLen(100), Pattern(r"(text|application)/[A-Za-z0-9][A-Za-z0-9.+-]*", "such as `text/plain`")
]


@attrs.frozen(kw_only=True)
class ImageAttachment:
    """An image for Claude to look at.

    Attributes:
        media_type: Its format. What the image really is counts: one that is something else is refused.
        data: Its bytes in base64, at most 5 MiB of it; at most 8000 pixels wide and high.
        name: The file's name, for the history.
    """

    type: Literal["image"] = "image"
    media_type: ImageType
    data: Annotated[str, MinLen(1), MaxLen(MAX_IMAGE_CHARS)]
    name: FileName | None = None


@attrs.frozen(kw_only=True)
class TextAttachment:
    """A text file for Claude to read.

    Attributes:
        name: The file's name.
        text: What is in it, at most 1,000,000 characters.
        media_type: What kind of text it is, for the history.
    """

    type: Literal["text"] = "text"
    name: FileName
    text: Annotated[str, MinLen(1), MaxLen(MAX_TEXT_CHARS)]
    media_type: TextType = "text/plain"


Attachment: TypeAlias = ImageAttachment | TextAttachment


def check_attachments(attachments: Sequence[Attachment]) -> None:
    """See that the model's API takes them. Decodes the images: for a thread.

    Raises:
        InvalidParams: It does not.
    """
    total = sum(len(one.data if isinstance(one, ImageAttachment) else one.text) for one in attachments)
    if total > MAX_TOTAL_CHARS:
        raise InvalidParams(f"all together at most {MAX_TOTAL_CHARS // 2**20} MiB", path="$.attachments")
    for number, one in enumerate(attachments):
        path = f"$.attachments[{number}]"
        if isinstance(one, ImageAttachment):
            _check_image(one, path)
        elif "\0" in one.text:
            raise InvalidParams("a text file has no NUL characters", path=f"{path}.text")


def _check_image(image: ImageAttachment, path: str) -> None:
    try:
        found = read_image(base64.b64decode(image.data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidParams("must be base64, without line breaks", path=f"{path}.data") from error
    except NotAnImage as error:
        raise InvalidParams(str(error), path=f"{path}.data") from error
    if found.media_type != image.media_type:
        raise InvalidParams(f"the image is {found.media_type}", path=f"{path}.media_type")
    if not (0 < found.width <= MAX_IMAGE_SIDE and 0 < found.height <= MAX_IMAGE_SIDE):
        size = f"{found.width} x {found.height} pixels"
        raise InvalidParams(f"the image has {size}; at most {MAX_IMAGE_SIDE} each", path=f"{path}.data")


def content_for_claude(prompt: str, attachments: Sequence[Attachment]) -> str | list[dict[str, Any]]:
    """Return a prompt as the model's API takes it: attachments first, as it is recommended."""
    if not attachments:
        return prompt
    return [*map(_block, attachments), {"type": "text", "text": prompt}]


def content_for_history(prompt: str, attachments: Sequence[Attachment]) -> JsonValue:
    """Return a prompt as the history shows it: images without their bytes, which the transcript holds."""
    if not attachments:
        return prompt
    return [*map(_shown, attachments), {"type": "text", "text": prompt}]


def _block(one: Attachment) -> dict[str, Any]:
    if isinstance(one, ImageAttachment):
        return {"type": "image", "source": {"type": "base64", "media_type": one.media_type, "data": one.data}}
    source = {"type": "text", "media_type": "text/plain", "data": one.text}
    return {"type": "document", "source": source, "title": one.name}


def _shown(one: Attachment) -> dict[str, JsonValue]:
    if isinstance(one, TextAttachment):
        return {"type": "text_file", "name": one.name, "media_type": one.media_type, "text": one.text}
    data = base64.b64decode(one.data)
    return {
        "type": "image_file",
        "name": one.name,
        "media_type": one.media_type,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
