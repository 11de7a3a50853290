"""The section `gitsync` of `clonk.yaml`."""

from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

import attrs

from clonk_core.plugin import Ge, Gt, Le, MaxLen, Pattern

Text = Annotated[str, MaxLen(500)]
SecretName = Annotated[str, Pattern("[A-Za-z][A-Za-z0-9_-]{0,63}", "a letter, then letters, digits, `_` and `-`")]

PROTECTED: Final = ("main", "master", "release/*")


@attrs.frozen(kw_only=True)
class CredentialSettings:
    """What opens the remotes of one host. Exactly one of `token`, `ssh_key` and `forge` is given.

    Attributes:
        host: Name of the host, with `:port` where the remote has one; `*.example.com` for all below a domain.
        username: User that a token belongs to.
        token: Name of the stored secret (`clonk secrets set NAME`) that holds an HTTPS token or password.
        ssh_key: Name of the stored secret that holds a private SSH key without a passphrase.
        forge: Whether what `gitsync.forges` names for the host opens its https remotes, too: the only way for a GitHub
            App.
    """

    host: Annotated[str, MaxLen(255)]
    username: Annotated[str, MaxLen(200), Pattern(r"[A-Za-z0-9._@+-]+", "a plain user name")] = "x-access-token"
    token: SecretName | None = None
    ssh_key: SecretName | None = None
    forge: bool = False

    def __attrs_post_init__(self) -> None:
        if [self.token is not None, self.ssh_key is not None, self.forge].count(True) != 1:
            raise ValueError("give exactly one of token, ssh_key and forge")


@attrs.frozen(kw_only=True)
class GitHubAppSettings:
    """A GitHub App, installed for the repositories that are worked on.

    Its tokens are made when they are needed, for one repository each, and live an hour. It needs the permissions
    "Contents" and "Pull requests", both to read and write.

    Attributes:
        app_id: Its id or client id.
        private_key: Name of the stored secret that holds its private key, in PEM.
        installation_id: Its installation; looked up for each repository when null.
    """

    app_id: Annotated[int, Ge(1)] | Annotated[str, Pattern("[A-Za-z0-9._-]{1,100}", "the App's id or client id")]
    private_key: SecretName
    installation_id: Annotated[int, Ge(1)] | None = None


@attrs.frozen(kw_only=True)
class ForgeSettings:
    """A server with pull requests. Exactly one of `token` and `app` is named.

    Attributes:
        host: Name of the host as remotes have it after `rewrites`, with `:port` where an http or https remote has one.
        kind: `github` (also Enterprise), `gitlab`, `gitea` (also Forgejo), or what another package adds.
        api_url: Address of its API. When null, by kind: `https://api.github.com` for github.com and
            `https://HOST/api/v3` for other servers of GitHub's, `https://HOST/api/v4` for GitLab, `https://HOST/api/v1`
            for Gitea. The token is sent to this address alone. Plain http is for this machine only.
        token: Name of the stored secret (`clonk secrets set NAME`) that holds a token for the API.
        app: A GitHub App, whose tokens are used instead.
    """

    host: Annotated[str, MaxLen(255), Pattern(r"[A-Za-z0-9._\[\]:-]+", "a host, with :port where need be")]
    kind: Annotated[str, Pattern("[A-Za-z][A-Za-z0-9_-]{0,63}", "such as github, gitlab or gitea")]
    api_url: Annotated[str, MaxLen(500)] | None = None
    token: SecretName | None = None
    app: GitHubAppSettings | None = None

    def __attrs_post_init__(self) -> None:
        if (self.token is None) == (self.app is None):
            raise ValueError("name exactly one of token and app")
        if self.app is not None and self.kind != "github":
            raise ValueError("app is for the kind github")
        problem = None if self.api_url is None else problem_with_api_url(self.api_url)
        if problem is not None:
            raise ValueError(f"api_url: {problem}")


def problem_with_api_url(url: str) -> str | None:
    """Tell what is wrong with the address of an API, or None."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "is no address"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "must not contain spaces or other than plain letters"
    if parts.scheme == "http" and not is_loopback(host or ""):
        return "must be https, so that nobody reads the token on the way; http is for this machine only"
    if parts.scheme not in {"http", "https"} or not host:
        return "must be an https address"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return "must have no credentials, query or fragment"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        forges: Servers with pull requests, by the host of remotes; the first that fits.
        known_hosts: Lines of a `known_hosts` file: the only keys of SSH servers that are believed.
        author_name: Who the commits are by.
        author_email: Their address.
        signing_key: Name of the stored secret that holds a private SSH key without a passphrase, by which every commit
            is signed; null for none. A commit that cannot be signed is not made.
        max_file_bytes: Larger files are left out of commits.
        large_files: Take large files of Git LFS in as pointers, upload and fetch their contents, where git-lfs is
            installed. A remote's store tells where contents are sent to and fetched from; switch it off where callers
            may register remotes that you do not trust, or name the remotes in `allowed_remotes`.
        status_process: Keep a process while the status of small workspaces is asked for, so that it is told as quickly
            as by git itself. It takes 35 MB of memory, of which 20 are its own. When off, git is started each time.
        max_diff_bytes: A diff is cut here, and says so.
        network_timeout_s: Seconds for one exchange with a remote.
        concurrency: Workspaces that `sync_all` works on at the same time, and that are pushed by themselves.
        push_retry_s: Seconds until a push that went off by itself (`auto_push`) and did not reach its remote is tried
            again; twice as many after each attempt, an hour at most.
        push_attempts: How often such a push is tried; then it is left to the next commit or sync.
    """

    allowed_remotes: tuple[Text, ...] | None = None
    rewrites: dict[str, Text] = attrs.field(factory=dict)
    protected_branches: tuple[Text, ...] = PROTECTED
    branch_prefix: Annotated[str, Pattern("[A-Za-z0-9_-]+/", "one word and a slash")] = "claude/"
    strip_remotes: bool = False
    credentials: tuple[CredentialSettings, ...] = ()
    forges: tuple[ForgeSettings, ...] = ()
    known_hosts: tuple[Annotated[str, MaxLen(8192)], ...] = ()
    author_name: Annotated[str, MaxLen(200), Pattern(r"[^<>\n\x00]+", "no angle brackets")] = "Clonk"
    author_email: Annotated[str, MaxLen(200), Pattern(r"[^<>\s\x00]+", "no angle brackets or spaces")] = (
        "clonk@localhost"
    )
    signing_key: SecretName | None = None
    max_file_bytes: Annotated[int, Ge(1)] = 100 * 1024**2
    large_files: bool = True
    status_process: bool = True
    max_diff_bytes: Annotated[int, Ge(1024), Le(64 * 1024**2)] = 1024**2
    network_timeout_s: Annotated[float, Gt(0), Le(86_400)] = 600.0
    concurrency: Annotated[int, Ge(1), Le(64)] = 4
    push_retry_s: Annotated[float, Gt(0), Le(3600)] = 30.0
    push_attempts: Annotated[int, Ge(1), Le(1000)] = 24
