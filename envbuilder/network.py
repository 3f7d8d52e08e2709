"""What this machine says about reaching an index: CA bundle, proxies, netrc. Read by `cli`, passed down from there.

Only *how* to reach something is taken from the environment. *What* is resolved never is: see `uv_environment`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

from envbuilder.errors import UsageError
from envbuilder.files import is_file, read_text

CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES = ("CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE")
_KEPT = ("PATH", "HOME", "TMPDIR", "NETRC", "UV_CACHE_DIR", "UV_OFFLINE", "XDG_CACHE_HOME", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The way to an index. `index_url` is only ever given by the user, never found lying around."""

    ca: Path | None = None
    netrc: Path | None = None  # for uv, which gives each host what is its own
    login: str = ""  # what a build gets of it: the entry of the index's host
    index_url: str | None = None
    proxies: Mapping[str, str] | None = None


def find_network(
    environ: Mapping[str, str], *, home: Path, ca: Path | None = None, index_url: str | None = None
) -> Network:
    """The network as `environ` and the home folder describe it; explicit values win."""
    named = [environ[name] for name in CA_VARIABLES if environ.get(name)]
    bundles = (Path(name) for name in (*named, *SYSTEM_BUNDLES))  # a company's CA is in its machines' own bundle
    logins = Path(environ["NETRC"]) if environ.get("NETRC") else home / ".netrc"
    proxies = {
        name: value for upper in PROXY_VARIABLES for name in (upper, upper.lower()) if (value := environ.get(name))
    }
    return Network(
        ca=ca or next((path for path in bundles if is_file(path)), None),
        netrc=logins if is_file(logins) else None,
        login=_login(logins, index_url) if is_file(logins) and index_url else "",
        index_url=index_url,
        proxies=proxies,
    )


def _login(logins: Path, index_url: str) -> str:
    """The entry of a netrc for the index's host; "" if it has none.

    A build runs the base image and the packages that somebody chose: they get no credentials of other hosts.
    """
    try:
        host = urlsplit(index_url).hostname or ""
        found = netrc(str(logins)).hosts.get(host)
    except (NetrcParseError, OSError, ValueError):
        return ""
    if found is None:
        return ""
    login, _, password = found
    return f"machine {host} login {_token(login)} password {_token(password)}\n"


def _token(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if escaped != text or not text or any(letter.isspace() for letter in text) else text


def check_bundle(path: Path) -> None:
    """Raise `UsageError` unless a file holds certificates and no private key.

    Settings name it, and a build gives it to the base image: it must not be any file of the user's.
    """
    if not is_file(path):
        raise UsageError(f"the CA bundle {path} is not a file")
    text = read_text(path, errors="replace")
    if not any(f"-----BEGIN {kind}-----" in text for kind in _CERTIFICATES):
        raise UsageError(f"the CA bundle {path} holds no certificate", hint="it must be a file in PEM")
    if "PRIVATE KEY-----" in text:
        raise UsageError(f"the CA bundle {path} holds a private key", hint="name a file with certificates alone")


def uv_environment(environ: Mapping[str, str], network: Network) -> dict[str, str]:
    """The environment uv runs in: no `UV_*` or `PIP_*` that could change which versions it picks."""
    env = {name: environ[name] for name in _KEPT if name in environ}
    env |= network.proxies or {}
    env["UV_HTTP_TIMEOUT"] = "30"  # seconds without a byte; uv asks four times
    if network.ca:
        env["SSL_CERT_FILE"] = str(network.ca)
    if network.index_url:
        env["UV_DEFAULT_INDEX"] = network.index_url
    if network.netrc:
        env["NETRC"] = str(network.netrc)
    return env
