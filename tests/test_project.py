"""The project itself: each package stands alone, its wheel holds what it needs, and no file names a machine."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MEMBERS = ("clonk_core", "clonk_claudecode", "clonk_arbor", "clonk_gitsync")
# Home folders and workplaces. /workspace, /var/clonk and /etc/clonk are the specification's.
MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:root|work|home/(?!clonk/)\w+|Users/\w+)/")
LOCKED_HOSTS = {"pypi.org", "files.pythonhosted.org"}


def pyproject(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def tracked_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    listing = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("member", MEMBERS)
def test_each_package_has_its_own_name_version_readme_licence_and_entry_point(member: str) -> None:
    project = pyproject(member)["project"]
    assert project["name"] == member.replace("_", "-")
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert (ROOT / member / project["readme"]).read_text().startswith(f"# {project['name']}\n")
    assert (ROOT / member / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    for module in project["entry-points"]["clonk"].values():
        assert (ROOT / member / "src" / (module.replace(".", "/") + ".py")).is_file(), module


@pytest.mark.parametrize("member", MEMBERS)
def test_importing_a_package_alone_imports_nothing_else(member: str) -> None:
    lines = (ROOT / member / "src" / member / "__init__.py").read_text()
    assert not re.search(r"^\s*(import|from)\s", lines, re.MULTILINE)


def test_the_meta_package_installs_the_four_packages() -> None:
    requirements = pyproject(".")["project"]["dependencies"]
    assert {re.split(r"[<>=\[]", one)[0].replace("-", "_") for one in requirements} == set(MEMBERS)


def test_the_changelog_names_the_version() -> None:
    assert f"## [{pyproject('.')['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_no_tracked_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_the_lock_file_names_the_public_index_alone() -> None:
    hosts = set(re.findall(r'(?:registry|url) = "(?:https?|file)://([^/"]*)', (ROOT / "uv.lock").read_text()))
    assert hosts == LOCKED_HOSTS


@pytest.mark.slow
@pytest.mark.parametrize("member", MEMBERS)
def test_a_wheel_holds_every_source_file_migration_and_type_marker(member: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(ROOT / member, tmp_path)) as wheel:
        names = set(wheel.namelist())
        metadata = message_from_bytes(wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))))
        entry_points = wheel.read(next(name for name in names if name.endswith("/entry_points.txt"))).decode()
    source = ROOT / member / "src"
    wanted = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert wanted <= names
    assert f"{member}/py.typed" in names
    assert metadata["Name"] == member.replace("_", "-")
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11, <3.14"
    assert "[clonk]" in entry_points


def build_wheel(folder: Path, target: Path) -> Path:
    """Build one package by itself, without the network: uv is its own build backend."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("needs uv beside the interpreter")
    command = [uv, "build", "--offline", "--no-config", "--quiet", "--wheel", "--python", sys.executable]
    # From a copy, as a checkout may be read-only and a build must not depend on the workspace around the package.
    alone = target / folder.name
    shutil.copytree(folder, alone, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    subprocess.run([*command, "--out-dir", str(target / "dist"), str(alone)], check=True, timeout=120)
    (wheel,) = (target / "dist").glob("*.whl")
    return wheel
