"""Images and text files that go along with a prompt."""

import base64
import hashlib
import struct
import zlib
from typing import Any

import pytest

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost


def _png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\xff\0\0" * min(width, 4) for _ in range(min(height, 4))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GIF = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
JPEG = (
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xff\xc0\0\x0b\x08\0\x07\0\x09\x01\x01\x11\0"
    b"\xff\xda\0\x08\x01\x01\0\0?\0\x00\xff\xd9"
)
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0\0\0"


def _image(data: bytes, media_type: str = "image/png", **more: Any) -> dict[str, Any]:
    return {"type": "image", "media_type": media_type, "data": base64.b64encode(data).decode(), **more}


async def _chat(hub: TestHost, *attachments: dict[str, Any]) -> list[Any]:
    return await hub.client.events("claudecode.chat", name="s", prompt="look", attachments=list(attachments))


async def test_images_and_text_files_reach_the_model_and_are_shown_in_the_history(
    hub: TestHost, model: ScriptedModel
) -> None:
    await hub.client.call("claudecode.create", name="s")
    notes = {"type": "text", "name": "notes.md", "text": "# Notes\nof yesterday", "media_type": "text/markdown"}
    events = await _chat(hub, _image(_png(), name="red.png"), notes)
    assert events[-1]["outcome"] == "complete", events[-1]
    said = str(model.requests[-1].body["messages"])
    assert base64.b64encode(_png()).decode() in said
    assert "of yesterday" in said
    (prompt, _) = await hub.client.call("claudecode.history", name="s")
    assert prompt["content"] == [
        {
            "type": "image_file",
            "name": "red.png",
            "media_type": "image/png",
            "size": len(_png()),
            "sha256": hashlib.sha256(_png()).hexdigest(),
        },
        {"type": "text_file", "name": "notes.md", "media_type": "text/markdown", "text": "# Notes\nof yesterday"},
        {"type": "text", "text": "look"},
    ]


WRONG: list[tuple[Any, str]] = [
    (_image(JPEG), "[0].media_type"),
    (_image(GIF), "[0].media_type"),
    (_image(WEBP), "[0].media_type"),
    (_image(b"#!/bin/sh\necho not an image"), "[0].data"),
    (_image(_png()[:-20]), "[0].data"),
    (_image(_png(8001, 1)), "[0].data"),
    (_image(_png(0, 1)), "[0].data"),
    (_image(JPEG[:20], "image/jpeg"), "[0].data"),
    (_image(GIF[:-1], "image/gif"), "[0].data"),
    (_image(WEBP[:-8], "image/webp"), "[0].data"),
    (_image(_png(), "image/bmp"), "[0].media_type"),
    ({"type": "image", "media_type": "image/png", "data": "no base64!"}, "[0].data"),
    ({"type": "image", "media_type": "image/png", "data": "A" * (5 * 2**20 + 4)}, "[0].data"),
    ({"type": "text", "name": "a/b", "text": "x"}, "[0].name"),
    ({"type": "text", "name": "a", "text": ""}, "[0].text"),
    ({"type": "text", "name": "a", "text": "x\0y"}, "[0].text"),
    ({"type": "text", "name": "a", "text": "x" * 1_000_001}, "[0].text"),
    ({"type": "text", "name": "a", "text": "x", "media_type": "image/png"}, "[0].media_type"),
    ({"type": "file", "name": "a"}, "[0].type"),
    (5, "[0]"),
]


async def test_what_is_not_what_it_says_or_too_large_is_refused_with_its_path(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="s")
    for number, (attachment, path) in enumerate(WRONG):
        with pytest.raises(CallError) as caught:
            await _chat(hub, attachment)
        assert (caught.value.kind, caught.value.data["path"]) == ("invalid_params", f"$.attachments{path}"), number


async def test_more_attachments_than_may_go_along_are_refused(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="s")
    one = {"type": "text", "name": "a", "text": "x"}
    with pytest.raises(CallError) as caught:
        await _chat(hub, *[one] * 21)
    assert caught.value.data["path"] == "$.attachments"
    many = [{**one, "text": "x" * 1_000_000}] * 5
    large = [*many, *[{"type": "image", "media_type": "image/png", "data": "A" * (5 * 2**20)}] * 4]
    with pytest.raises(CallError) as caught:
        await _chat(hub, *large)
    assert caught.value.data["path"] == "$.attachments"
