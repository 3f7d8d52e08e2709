"""Whether TLS works and the hub answers: tried only where the container has a network.

`envbuilder accept` gives none. `docker run IMAGE accept` does, and behind a proxy that re-signs TLS a download would be
the first to notice that its CA is missing.
"""

from __future__ import annotations

import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from acceptance.text import describe

ROUTES = Path("/proc/net/route")
HUB = "https://huggingface.co"
SECONDS = 5
CA_HINT = "mount the CA bundle of your network, and name it: `--env SSL_CERT_FILE=FILE --env REQUESTS_CA_BUNDLE=FILE`"
HUB_HINT = "use a mirror with `--env HF_ENDPOINT=URL`, or files on this machine: `train --model DIR --data DIR`"


def has_network() -> bool:
    """Whether there is a route to anywhere: the first line is a heading, and the loopback has none."""
    try:
        return len(ROUTES.read_text(encoding="ascii").splitlines()) > 1
    except OSError:
        return False


def hub_problems() -> list[str]:
    """What keeps this container from its hub, as a warning; nothing if it answers, or if there is no network."""
    if not has_network():
        return []
    address = os.environ.get("HF_ENDPOINT") or HUB
    if not address.startswith(("https://", "http://")):
        return ["HF_ENDPOINT is no address that begins with https://"]
    try:
        with urllib.request.urlopen(address, timeout=SECONDS):
            return []
    except urllib.error.HTTPError:
        return []  # it answers
    except (OSError, ValueError) as error:
        return [explain(error)]


def explain(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"TLS fails, the certificate of the hub is not trusted: {CA_HINT}"
    cause = reason if isinstance(reason, Exception) else error
    return f"the hub does not answer ({describe(cause)}): {HUB_HINT}"
