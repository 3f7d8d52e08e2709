"""The hub is tried where the container has a network, and only there; it is never the image that fails."""

import ssl
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from acceptance import events
from acceptance.checks import hub_access

HEADING = "Iface Destination Gateway\n"


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The routes of a container with a network."""
    routes = tmp_path / "route"
    routes.write_text(f"{HEADING}eth0 00000000 0100A8C0\n", encoding="ascii")
    monkeypatch.setattr(hub_access, "ROUTES", routes)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    return routes


def answer_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def urlopen(address: str, timeout: float) -> Any:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", urlopen)


def test_without_a_network_nothing_is_tried(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, AssertionError("it was tried"))
    network.write_text(HEADING, encoding="ascii")
    assert hub_access.hub_problems() == []
    network.unlink()
    assert hub_access.hub_problems() == []


def test_a_hub_that_refuses_has_answered(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = urllib.error.HTTPError("https://hub", 403, "no", {}, None)  # type: ignore[arg-type]
    answer_with(monkeypatch, error)
    assert hub_access.hub_problems() == []


@pytest.mark.parametrize(
    ("reason", "start", "remedy"),
    [
        (
            ssl.SSLCertVerificationError("self-signed certificate"),
            "TLS fails",
            "--env SSL_CERT_FILE=FILE",
        ),
        (OSError("Name or service not known"), "the hub does not", "HF_ENDPOINT=URL"),
    ],
)
def test_what_keeps_a_container_from_the_hub_is_a_note(
    network: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: Exception,
    start: str,
    remedy: str,
) -> None:
    answer_with(monkeypatch, urllib.error.URLError(reason))  # type: ignore[arg-type]
    (problem,) = hub_access.hub_problems()
    assert problem.startswith(start)
    assert remedy in problem


def test_a_hub_without_tls_or_http_is_not_opened(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc/passwd")
    (problem,) = hub_access.hub_problems()
    assert problem == "HF_ENDPOINT is no address that begins with https://"


def test_a_terminal_shows_the_first_findings() -> None:
    lines = events.note_lines({"findings": ["a", "b", "c", "d", "e"]})
    assert lines == ["note: a", "note: b", "note: c", "and 2 more"]
    assert events.note_lines({}) == []
