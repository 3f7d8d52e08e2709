"""How this machine reaches an index: CA bundle, proxies, netrc. Read by `cli`, passed down from there.

Only *how* to reach something is taken from the environment. *What* is resolved never is: see `uv_environment`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import unquote, urlsplit

from envbuilder.errors import UsageError
from envbuilder.files import is_file, read_text

CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
)
PYTHON_MIRROR = "UV_PYTHON_INSTALL_MIRROR"
"""Where uv downloads Pythons from, for a base without one; it checks their hashes wherever they come from."""
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
TORCH_INDEX = "torch"
"""The name that uv knows the torch family's index by."""
_USERNAME = f"UV_INDEX_{TORCH_INDEX.upper()}_USERNAME"
_PASSWORD = f"UV_INDEX_{TORCH_INDEX.upper()}_PASSWORD"
_CERTIFICATES = ("CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE")
_KEPT = (
    "PATH",
    "HOME",
    "TMPDIR",
    "NETRC",
    "UV_CACHE_DIR",
    "UV_OFFLINE",
    "XDG_CACHE_HOME",
    "LANG",
    "LC_ALL",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The way to an index. `index_url` is only ever given by the user, never read from pip's or uv's settings."""

    ca: Path | None = None
    netrc: Path | None = None  # for uv, which sends each host only its own entry
    login: str = ""  # for a build: the entry of the index's host
    index_url: str | None = None
    torch_index: str | None = None  # a mirror of PyTorch's index, as the user gave it
    apt_mirror: str | None = None  # of Debian's packages
    registry_mirror: str | None = None  # of Docker Hub's images
    python_mirror: str | None = None  # of the Pythons that uv installs
    proxies: Mapping[str, str] | None = None

    def hide_token(self, text: str) -> str:
        """Text without the query of the index's address, which may be a token, and without the logins of mirrors.

        Passwords uv hides by itself where it knows that they are some.
        """
        address = self.index_url or ""
        query = urlsplit(address).query
        if query:
            text = text.replace(f"?{query}", "?****")
        for mirror in (self.torch_index, self.apt_mirror, self.python_mirror):
            login = _login_in(mirror)
            if login:
                text = text.replace(f"{login}@", "****@")
        return text


def find_network(
    environ: Mapping[str, str],
    *,
    home: Path,
    ca: Path | None = None,
    index_url: str | None = None,
    torch_index: str | None = None,
    apt_mirror: str | None = None,
    registry_mirror: str | None = None,
    python_mirror: str | None = None,
) -> Network:
    """The network that `environ` and the home folder describe; explicit values win."""
    logins = Path(environ["NETRC"]) if environ.get("NETRC") else home / ".netrc"
    has_logins = is_file(logins)
    return Network(
        ca=ca or _find_bundle(environ),
        netrc=logins if has_logins else None,
        login=_logins(logins, index_url, torch_index) if has_logins else "",
        index_url=index_url,
        torch_index=torch_index,
        apt_mirror=apt_mirror,
        registry_mirror=registry_mirror,
        python_mirror=python_mirror or environ.get(PYTHON_MIRROR) or None,
        proxies=_proxies(environ),
    )


def _find_bundle(environ: Mapping[str, str]) -> Path | None:
    """The bundle that a variable names, else the system's: on a company's machines it contains the company's CA."""
    named = [environ[name] for name in CA_VARIABLES if environ.get(name)]
    for name in (*named, *SYSTEM_BUNDLES):
        path = Path(name)
        if is_file(path):
            return path
    return None


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    proxies = {}
    for upper in PROXY_VARIABLES:
        for name in (upper, upper.lower()):
            if environ.get(name):
                proxies[name] = environ[name]
    return proxies


def _logins(logins: Path, *addresses: str | None) -> str:
    """The entries of a netrc for the hosts of these indexes, each once.

    A build runs foreign code, of the base image and of packages: it gets no credentials of other hosts.
    """
    entries = []
    for address in addresses:
        entry = _login(logins, address) if address else ""
        if entry not in entries:
            entries.append(entry)
    return "".join(entries)


def _login_in(address: str | None) -> str:
    """`user:password` of an address; "" if it has none."""
    return urlsplit(address or "").netloc.rpartition("@")[0]


def _login(logins: Path, index_url: str) -> str:
    """The entry of a netrc for the index's host; "" if it has none."""
    try:
        host = urlsplit(index_url).hostname or ""
        entry = netrc(str(logins)).hosts.get(host)
    except (NetrcParseError, OSError, ValueError):
        return ""
    if entry is None:
        return ""
    login, _, password = entry
    return f"machine {host} login {_token(login)} password {_token(password)}\n"


def _token(text: str) -> str:
    """A word of a netrc, in quotes where it needs them."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    has_blank = any(letter.isspace() for letter in text)
    if escaped == text and text and not has_blank:
        return text
    return f'"{escaped}"'


def check_bundle(path: Path) -> None:
    """Raise `UsageError` unless a file contains certificates and no private key.

    A settings file can name it, and a build passes it to the base image: it must not be any file of the user's.
    """
    if not is_file(path):
        raise UsageError(f"the CA bundle {path} is not a file")
    text = read_text(path, errors="replace")
    if not any(f"-----BEGIN {kind}-----" in text for kind in _CERTIFICATES):
        raise UsageError(
            f"the CA bundle {path} contains no certificate",
            hint="it must be a PEM file",
        )
    if "PRIVATE KEY-----" in text:
        raise UsageError(
            f"the CA bundle {path} contains a private key",
            hint="use a file with certificates only",
        )


def uv_environment(environ: Mapping[str, str], network: Network) -> dict[str, str]:
    """The environment that uv runs in, without the `UV_*` and `PIP_*` that could change which versions it picks."""
    env = {name: environ[name] for name in _KEPT if name in environ}
    env |= network.proxies or {}
    env["UV_HTTP_TIMEOUT"] = "30"  # seconds without a byte; uv tries four times
    if network.ca:
        env["SSL_CERT_FILE"] = str(network.ca)
    if network.index_url:
        env["UV_DEFAULT_INDEX"] = network.index_url
    env |= _login_variables(network.torch_index)
    if network.netrc:
        env["NETRC"] = str(network.netrc)
    return env


def _login_variables(address: str | None) -> dict[str, str]:
    """The login of an index that uv knows by name: neither its arguments nor its files hold a password."""
    user, _, password = _login_in(address).partition(":")
    if not user:
        return {}
    return {
        _USERNAME: unquote(user),
        _PASSWORD: unquote(password),
    }


AGAIN = "then run the same command again: finished steps are kept"
# Error messages of programs that download, and what they mean.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"certificate verify failed|UnknownIssuer|invalid peer certificate|SSLCertVerificationError|x509: certificate",
        "a server's TLS certificate is signed by an unknown CA",
        "pass the CA bundle: `--ca-bundle FILE`",
    ),
    (
        r"\b407\b.{0,3}Proxy Authentication|Proxy Authentication Required",
        "the proxy asks for credentials (407)",
        "add them to the proxy's URL: `HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT`",
    ),
    (
        r"\(?401\b.{0,3}(Unauthorized|Client Error)|lack of valid authentication",
        "the server asks for credentials (401)",
        "add them to ~/.netrc, one line per host: `machine HOST login USER password PASSWORD`",
    ),
    (
        r"\b403\b.{0,3}(Forbidden|Client Error)",
        "the server refuses access (403)",
        "check the credentials in ~/.netrc, and whether the mirror or the proxy allows this file",
    ),
    (
        r"\b429\b.{0,3}(Too Many|Client Error)|toomanyrequests|pull rate limit",
        "the server limits the number of requests (429)",
        f"wait a few minutes, {AGAIN}",
    ),
    (
        r"\b404\b.{0,3}(Not Found|Client Error)",
        "a file is not on the server (404): it was removed, or the mirror does not have it",
        "use an index or a mirror that has it, or lock what exists now: `envbuilder lock`",
    ),
    (
        r"HTTP status server error|too many 5[0-9]{2} error responses|"
        r"\b5[0-9]{2}\b.{0,3}(Internal|Bad Gateway|Service Unav|Gateway Time|Server Error)",
        "the server has an internal problem (5xx)",
        f"wait a few minutes, {AGAIN}",
    ),
    (
        r"name resolution|Temporary failure resolving|Could not resolve|dns error|Name or service not known|"
        r"failed to lookup address|no such host",
        "the network is down, or the name of a server cannot be resolved",
        f"check the network, DNS and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"Network is unreachable|No route to host|connection refused|Could not connect to|error sending request|"
        r"NewConnectionError",
        "the network is down, or a server cannot be reached",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"network timeout|operation timed out|read timed out|connection timed out|timed out|i/o timeout",
        "the connection timed out",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"end of file before message length|error reading a body|IncompleteRead|connection (was )?(broken|reset)|"
        r"remote end closed connection|unexpected EOF|connection closed prematurely|error reading from server\. remote",
        "the connection was lost during a download",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"Bad CRC|Failed to extract archive|unexpected BufError|unexpected JSON|BadZipFile|zipfile|Hash Sum mismatch|"
        r"File has unexpected size|NO_PUBKEY|signatures? (was|were|couldn't)|Clearsigned file isn't valid",
        "a download arrived damaged",
        "run the same command again; if it persists, a proxy or the mirror modifies files",
    ),
    (
        r"Release file .* is (not valid yet|expired)",
        "the clock of this machine is wrong, or the mirror is out of date",
        "set the clock, or use another mirror",
    ),
    (
        r"Request failed after",
        "the network is down, or a server does not respond properly",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
)


def find_network_cause(text: str) -> tuple[str, str] | None:
    """What went wrong on the way to a server, and what to do; None if it was nothing of that kind."""
    for pattern, cause, hint in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return cause, hint
    return None
