"""The generated pages of the documentation are what the code says now."""

from pathlib import Path

from clonk_core.cli.docs import pages

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


async def test_the_generated_pages_are_current() -> None:
    for name, text in (await pages()).items():
        written = (REFERENCE / name).read_text(encoding="utf-8")
        assert written == text, f"docs/reference/{name} is not current: run `clonk docs write docs/reference`"
