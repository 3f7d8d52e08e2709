"""A registry's refusal becomes a next step; the words are dockerd's."""

import pytest

from envbuilder.engine.registry import refusal_hint


@pytest.mark.parametrize(
    ("said", "repository", "hint"),
    [
        (
            'Get "https://reg.example:5000/v2/": http: server gave HTTP response to HTTPS client',
            "reg.example:5000/train",
            'it does not use TLS: add `"insecure-registries": ["reg.example:5000"]` to the engine\'s daemon.json and '
            "restart it",
        ),
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "reg.example/team/train",
            "its certificate is not trusted: install its CA as `/etc/docker/certs.d/reg.example/ca.crt`",
        ),
        (
            'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
            "127.0.0.1:1/train",
            "check the registry's name and port (127.0.0.1:1), and that the engine's machine can reach it",
        ),
        (
            "denied: requested access to the resource is denied",
            "team/train",
            "log in: `docker login docker.io`, then run the same command: finished layers are kept",
        ),
        (
            "no basic auth credentials",
            "localhost/train",
            "log in: `docker login localhost`, then run the same command: finished layers are kept",
        ),
        (
            "write: broken pipe",
            "train",
            "run the same command again: finished layers are kept",
        ),
    ],
)
def test_a_refusal_becomes_a_next_step(said: str, repository: str, hint: str) -> None:
    assert refusal_hint(said, repository) == hint
