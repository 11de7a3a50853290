"""What `clonk doctor` says of gitsync."""

import shutil
import subprocess
from pathlib import Path

import pytest

from clonk_core.plugin import CheckResult, Unavailable
from clonk_gitsync.checks import checks
from clonk_gitsync.settings import CredentialSettings, ForgeSettings, GitHubAppSettings, GitSyncSettings

SSH = CredentialSettings(host="git.example.com", ssh_key="deploy")


async def found(settings: GitSyncSettings, **stored: str) -> dict[str, CheckResult]:
    async def secret(name: str) -> str | None:
        return stored.get(name)

    return {check.name: await check.function() for check in checks(settings, secret=secret)}


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **says: str) -> None:
    """Leave only programs on the path that say a version."""
    folder = folder / "bin"
    folder.mkdir()
    for name, words in says.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\necho '{words}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


async def test_this_machine_has_what_is_needed_and_what_is_not_used_is_not_looked_for() -> None:
    results = await found(GitSyncSettings())
    assert set(results) == {"git version", "git-lfs"}
    assert {one.state for one in results.values()} == {"ok"}


@pytest.mark.parametrize(
    ("says", "state"),
    [
        ("git version 2.37.7", "failed"), ("git version 1.8.3.1", "failed"), ("git version 2.38.0", "ok"),
        ("git version 2.50.1 (Apple Git-155)", "ok"), ("git version 10.0", "ok"), ("nonsense", "failed"),
    ],
)  # fmt: skip
async def test_git_must_be_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, state: str) -> None:
    programs(tmp_path, monkeypatch, git=says)
    results = await found(GitSyncSettings())
    assert results["git version"].state == state
    assert bool(results["git version"].fix) == (state == "failed")
    assert (results["git-lfs"].state, "left out" in results["git-lfs"].message) == ("ok", True)


async def test_an_old_git_lfs_and_a_missing_git_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, git_lfs="git-lfs/2.9.2 (GitHub; linux amd64; go 1.13.5)")
    results = await found(GitSyncSettings())
    assert (results["git-lfs"].state, results["git version"].state) == ("warning", "failed")


async def test_ssh_is_looked_for_where_a_key_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, ssh="")
    known = ("git.example.com ssh-ed25519 AAAA",)
    assert (await found(GitSyncSettings(credentials=(SSH,))))["ssh"].state == "warning"
    assert (await found(GitSyncSettings(credentials=(SSH,), known_hosts=known)))["ssh"].state == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await found(GitSyncSettings(credentials=(SSH,), known_hosts=known)))["ssh"].state == "failed"


async def test_secrets_that_are_named_must_be_there() -> None:
    token = CredentialSettings(host="github.com", token="forge")
    app = GitHubAppSettings(app_id=1, private_key="app")
    settings = GitSyncSettings(
        credentials=(SSH, token),
        forges=(
            ForgeSettings(host="github.com", kind="github", app=app),
            ForgeSettings(host="git.example.com", kind="gitea", token="gitea"),
        ),
    )
    missing = (await found(settings, forge="x", app="x"))["git credentials"]
    assert (missing.state, missing.message) == ("failed", "no secret deploy, gitea")
    assert "clonk secrets set deploy" in missing.fix
    there = (await found(settings, forge="x", deploy="x", app="x", gitea="x"))["git credentials"]
    assert (there.state, there.message) == ("ok", "for git.example.com, github.com")


async def test_a_secret_store_that_cannot_be_read_is_told() -> None:
    async def secret(name: str) -> str | None:
        raise Unavailable("the key is wrong")

    (check,) = [
        one for one in checks(GitSyncSettings(credentials=(SSH,)), secret=secret) if one.name == "git credentials"
    ]
    assert (await check.function()).state == "failed"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen (openssh-client)")
async def test_the_signing_key_is_tried_and_its_public_half_is_told(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    settings = GitSyncSettings(signing_key="signing")
    good = (await found(settings, signing=key.read_text()))["commit signing"]
    assert (good.state, good.message) == ("ok", "with " + " ".join((tmp_path / "key.pub").read_text().split()[:2]))
    for stored in ({}, {"signing": "nonsense"}):
        bad = (await found(settings, **stored))["commit signing"]
        assert bad.state == "failed"
        assert "clonk secrets set signing" in bad.fix
