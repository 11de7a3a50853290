"""`clonk docs write`: the generated pages of the documentation, all from one place; for Clonk's authors."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import trio

from clonk_core.cli.exit_codes import OK


def write(folder: Path, /) -> int:
    """Write the generated pages of the documentation.

    Args:
        folder: Where to; `docs/reference` in a checkout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in trio.run(pages).items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    return OK


async def pages() -> Mapping[str, str]:
    """Return the text of each generated page by its file name, from what is installed here and nothing else."""
    from clonk_core.app import draw, open_app
    from clonk_core.cli.pages import cli_page, errors_page, hooks_page, methods_page
    from clonk_core.config.reference import reference
    from clonk_core.messages import LOCAL_CALLER
    from clonk_core.observe.logs import Logs

    with tempfile.TemporaryDirectory(prefix="clonk-docs-") as folder:
        data_dir = Path(folder) / "data"
        config = Path(folder) / "clonk.yaml"
        config.write_text(f'version: "1"\nstorage: {{data_dir: "{data_dir}"}}\n', encoding="utf-8")
        blueprint = draw(config, {}, {})
        async with open_app(blueprint, logs=Logs(level="error")) as app:
            methods = app.hub.methods(LOCAL_CALLER)
    return {
        "cli.md": cli_page(),
        "configuration.md": reference({name: type(one) for name, one in blueprint.loaded.sections.items()}),
        "errors.md": errors_page(methods),
        "hooks.md": hooks_page(blueprint.plugins.specs),
        "methods.md": methods_page(methods),
    }
