"""What every git of ours is told, whatever a repository or this machine configures: no program of theirs is started."""

from collections.abc import Iterable
from typing import Final

OPTIONS: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.sparseCheckout=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.safecrlf=false",
    "core.sshCommand=false",
    "core.gitProxy=",
    "core.askPass=false",
    "core.pager=cat",
    "core.editor=false",
    "core.commitGraph=false",
    "core.quotePath=false",
    "sequence.editor=false",
    "credential.helper=",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "gpg.program=false",
    "gpg.ssh.program=false",
    "gpg.x509.program=false",
    "log.showSignature=false",
    "merge.verifySignatures=false",
    "diff.external=",
    "diff.ignoreSubmodules=all",
    "diff.submodule=short",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "push.followTags=false",
    "push.default=nothing",
    "remote.pushDefault=",
    "uploadpack.packObjectsHook=",
    "fetch.writeCommitGraph=false",
    "fetch.bundleURI=",
    "transfer.bundleURI=false",
    "transfer.advertiseSID=false",
    "http.followRedirects=false",
    "http.sslVerify=true",
    "http.cookieFile=",
    "http.extraHeader=",
    "protocol.allow=never",
    "protocol.version=2",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "init.templateDir=",
    "init.defaultBranch=main",
    "safe.directory=*",
)
"""Settings, `name=value`, given on the command line: git believes that over every file."""


def as_file(options: Iterable[str]) -> str:
    """Return settings, `name=value`, as the text of a file of settings."""
    lines: list[str] = []
    for name, _, value in (option.partition("=") for option in options):
        section, _, rest = name.partition(".")
        part, _, key = rest.rpartition(".")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'[{section} "{part}"]' if part else f"[{section}]")
        lines.append(f'\t{key} = "{quoted}"')
    return "\n".join(lines) + "\n"


ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "SSH_ASKPASS": "false",
    "GIT_SSH_COMMAND": "false",
    "GIT_EDITOR": "false",
    "GIT_PAGER": "cat",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ALLOW_PROTOCOL": "",
}
"""Variables of every git; PATH and HOME come to them."""
