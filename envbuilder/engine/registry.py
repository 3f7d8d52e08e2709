"""What a registry's refusal means for the person who pushes. Pure."""

import re

_HINTS = (  # what the engine says → what to do; {host} is the registry's name
    (
        r"HTTP response to HTTPS client",
        'it speaks no TLS: put `"insecure-registries": ["{host}"]` into the engine\'s daemon.json, and start it again',
    ),
    (
        r"x509|certificate",
        "the engine knows nobody who vouches for it: put its CA into `/etc/docker/certs.d/{host}/ca.crt`",
    ),
    (
        r"connection refused|no such host|timeout|no route to host|server misbehaving",
        "see that {host} is its name and port, and that the engine's machine can reach it",
    ),
    (
        r"denied|unauthorized|no basic auth credentials|authentication required",
        "log in: `docker login {host}`, then run the same command: finished layers are kept",
    ),
    (r"no space left|disk quota", "its disk is full"),
)


def refusal_hint(said: str, repository: str) -> str:
    """The next step after the engine said why it could not push to a repository."""
    host, _, path = repository.partition("/")
    host = host if path and re.search(r"[.:]|^localhost$", host) else "docker.io"
    hint = next((hint for sign, hint in _HINTS if re.search(sign, said, re.IGNORECASE)), "")
    return hint.replace("{host}", host) or "run the same command again: finished layers are kept"
