"""What this machine says about reaching an index: CA bundle, proxies, netrc. Read by `cli`, passed down from there.

Only *how* to reach something is taken from the environment. *What* is resolved never is: see `uv_environment`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envbuilder.files import is_file

CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_KEPT = ("PATH", "HOME", "TMPDIR", "NETRC", "UV_CACHE_DIR", "UV_OFFLINE", "XDG_CACHE_HOME", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The way to an index. `index_url` is only ever given by the user, never found lying around."""

    ca: Path | None = None
    netrc: Path | None = None
    index_url: str | None = None
    proxies: Mapping[str, str] | None = None


def find_network(
    environ: Mapping[str, str], *, home: Path, ca: Path | None = None, index_url: str | None = None
) -> Network:
    """The network as `environ` and the home folder describe it; explicit values win."""
    named = [environ[name] for name in CA_VARIABLES if environ.get(name)]
    bundles = (Path(name) for name in (*named, *SYSTEM_BUNDLES))  # a company's CA is in its machines' own bundle
    netrc = Path(environ["NETRC"]) if environ.get("NETRC") else home / ".netrc"
    proxies = {
        name: value for upper in PROXY_VARIABLES for name in (upper, upper.lower()) if (value := environ.get(name))
    }
    return Network(
        ca=ca or next((path for path in bundles if is_file(path)), None),
        netrc=netrc if is_file(netrc) else None,
        index_url=index_url,
        proxies=proxies,
    )


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
