"""The section `gitsync` of `clonk.yaml`."""

from typing import Annotated, Final

import attrs

from clonk_core.plugin import Ge, Gt, Le, MaxLen, Pattern

Text = Annotated[str, MaxLen(500)]
SecretName = Annotated[str, Pattern("[A-Za-z][A-Za-z0-9_-]{0,63}", "a letter, then letters, digits, `_` and `-`")]

PROTECTED: Final = ("main", "master", "release/*")


@attrs.frozen(kw_only=True)
class CredentialSettings:
    """What opens the remotes of one host. Exactly one of `token` and `ssh_key` is named.

    Attributes:
        host: Name of the host, with `:port` where the remote has one; `*.example.com` for all below a domain.
        username: User that a token belongs to.
        token: Name of the stored secret (`clonk secrets set NAME`) that holds an HTTPS token or password.
        ssh_key: Name of the stored secret that holds a private SSH key without a passphrase.
    """

    host: Annotated[str, MaxLen(255)]
    username: Annotated[str, MaxLen(200), Pattern(r"[A-Za-z0-9._@+-]+", "a plain user name")] = "x-access-token"
    token: SecretName | None = None
    ssh_key: SecretName | None = None

    def __attrs_post_init__(self) -> None:
        if (self.token is None) == (self.ssh_key is None):
            raise ValueError("name exactly one of token and ssh_key")


@attrs.frozen(kw_only=True)
class GitSyncSettings:
    """Git synchronisation.

    Attributes:
        allowed_remotes: Patterns of the remotes that may be used: `https://github.com/org/*`,
            `git@github.com:org/*`. `*` stands for any characters. When null, any https and ssh remote that a caller
            with the scope registers. Local folders, `file://` and plain `http://` are allowed only where a pattern that
            begins with `/`, `file://` or `http://` names them.
        rewrites: Beginnings of remotes and what is put in their place before they are checked and used, the longest
            first: `{"https://github.com/": "git@github.com:"}`.
        protected_branches: Patterns of branches that are never pushed to, whatever their capitals. A remote's own
            default branch and a workspace's base are protected besides.
        branch_prefix: What the names of Clonk's own branches begin with. Only these may be pushed by force.
        strip_remotes: Remove remotes, rewritten URLs and credential helpers from the settings of a workspace, when it
            is registered and at each operation, so that they are out of Claude's reach. Clonk itself never uses them.
        credentials: What opens the remotes, by host; the first that fits.
        known_hosts: Lines of a `known_hosts` file: the only keys of SSH servers that are believed.
        author_name: Who the commits are by.
        author_email: Their address.
        signing_key: Name of the stored secret that holds a private SSH key without a passphrase, by which every commit
            is signed; null for none. A commit that cannot be signed is not made.
        max_file_bytes: Larger files are left out of commits.
        max_diff_bytes: A diff is cut here, and says so.
        network_timeout_s: Seconds for one exchange with a remote.
        concurrency: Workspaces that `sync_all` works on at the same time.
    """

    allowed_remotes: tuple[Text, ...] | None = None
    rewrites: dict[str, Text] = attrs.field(factory=dict)
    protected_branches: tuple[Text, ...] = PROTECTED
    branch_prefix: Annotated[str, Pattern("[A-Za-z0-9_-]+/", "one word and a slash")] = "claude/"
    strip_remotes: bool = False
    credentials: tuple[CredentialSettings, ...] = ()
    known_hosts: tuple[Annotated[str, MaxLen(8192)], ...] = ()
    author_name: Annotated[str, MaxLen(200), Pattern(r"[^<>\n\x00]+", "no angle brackets")] = "Clonk"
    author_email: Annotated[str, MaxLen(200), Pattern(r"[^<>\s\x00]+", "no angle brackets or spaces")] = (
        "clonk@localhost"
    )
    signing_key: SecretName | None = None
    max_file_bytes: Annotated[int, Ge(1)] = 100 * 1024**2
    max_diff_bytes: Annotated[int, Ge(1024), Le(64 * 1024**2)] = 1024**2
    network_timeout_s: Annotated[float, Gt(0), Le(86_400)] = 600.0
    concurrency: Annotated[int, Ge(1), Le(64)] = 4
