"""Hints for a push that a registry refused. Pure."""

import re

HUB = "docker.io"
_HINTS = (  # pattern of the engine's error → what to do; {host} is the registry's name
    (
        r"HTTP response to HTTPS client",
        'it does not use TLS: add `"insecure-registries": ["{host}"]` to the engine\'s daemon.json and restart it',
    ),
    (
        r"x509|certificate",
        "its certificate is not trusted: install its CA as `/etc/docker/certs.d/{host}/ca.crt`",
    ),
    (
        r"connection refused|no such host|timeout|no route to host|server misbehaving",
        "check the registry's name and port ({host}), and that the engine's machine can reach it",
    ),
    (
        r"denied|unauthorized|no basic auth credentials|authentication required",
        "log in: `docker login {host}`, then run the same command: finished layers are kept",
    ),
    (r"no space left|disk quota", "its disk is full"),
)


def refusal_hint(message: str, repository: str) -> str:
    """What to do about the engine's error of a push to a repository."""
    host = host_of(repository)
    for pattern, hint in _HINTS:
        match = re.search(pattern, message, re.IGNORECASE)
        if match:
            return hint.replace("{host}", host)
    return "run the same command again: finished layers are kept"


def host_of(repository: str) -> str:
    """The registry in the name of a repository; a name without one is on Docker Hub."""
    host, _, path = repository.partition("/")
    if path and re.search(r"[.:]|^localhost$", host):
        return host
    return HUB
