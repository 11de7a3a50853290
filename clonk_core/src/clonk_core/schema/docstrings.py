"""Google-style docstrings read apart: summary, prose, and a text for each argument or attribute."""

import inspect
from collections.abc import Mapping

import attrs
import docstring_parser

from clonk_core.errors import SchemaError


@attrs.frozen(kw_only=True)
class Docstring:
    """What a docstring says.

    Attributes:
        summary: First paragraph, on one line.
        prose: All paragraphs before the first section.
        members: Text for each name under `Args:` or `Attributes:`.
    """

    summary: str = ""
    prose: str = ""
    members: Mapping[str, str] = attrs.field(factory=dict)


def read_docstring(text: str | None, place: str) -> Docstring:
    """Read a docstring; an empty `Docstring` for none.

    Raises:
        SchemaError: A section of it cannot be read.
    """
    if not text or not text.strip():
        return Docstring()
    try:
        parsed = docstring_parser.parse(inspect.cleandoc(text), style=docstring_parser.DocstringStyle.GOOGLE)
    except docstring_parser.ParseError as error:
        raise SchemaError(place, f"the docstring cannot be read: {error}") from error
    gap = "\n\n" if parsed.blank_after_short_description else "\n"
    prose = gap.join(part for part in (parsed.short_description, parsed.long_description) if part).strip()
    members: dict[str, str] = {}
    for entry in parsed.params:
        # One text may stand for several: `read_only, destructive: Hints.`
        for name in entry.arg_name.split(","):
            members[name.strip()] = " ".join((entry.description or "").split())
    return Docstring(summary=" ".join(prose.split("\n\n", 1)[0].split()), prose=prose, members=members)
