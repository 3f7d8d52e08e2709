"""Every failed download is reported with its cause: uv and pip against a faulty index, others recorded."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import wheelhouse
from index_server import Faults, serve
from marks import few

from envbuilder.engine.buildx import find_cause
from envbuilder.network import find_network_cause

WHEEL = wheelhouse.make_wheel()
HALF = len(WHEEL) // 2


@dataclass(frozen=True)
class Client:
    """Downloads the one wheel of an index; gives what it says."""

    folder: Path
    program: str

    def download(self, url: str) -> str:
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "UV_CACHE_DIR": str(self.folder / "cache"),
            "UV_DEFAULT_INDEX": url, "UV_HTTP_TIMEOUT": "1", "UV_HTTP_RETRIES": "0", "PIP_INDEX_URL": url,
            "PIP_DEFAULT_TIMEOUT": "1", "PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }  # fmt: skip
        requirements = self.folder / "requirements.txt"
        requirements.write_text(wheelhouse.requirement(WHEEL))
        words = [
            "--require-hashes",
            "--requirement",
            str(requirements),
            "--target",
            str(self.folder / "target"),
        ]
        install = ["uv"] if self.program == "uv" else []
        argv = [sys.executable, "-m", *install, "pip", "install", "--no-deps", *words]
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, check=False
        )
        return "" if done.returncode == 0 else done.stderr


@pytest.fixture(params=few(["uv", "pip"]))
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    wheelhouse.record(tmp_path / "index", WHEEL)
    return Client(tmp_path, request.param)


@pytest.fixture
def download(client: Client) -> Callable[[Faults], str]:
    def call(faults: Faults) -> str:
        with serve(
            faults, folder=client.folder / "index", wheels={wheelhouse.NAME: WHEEL}
        ) as server:
            return client.download(server.url)

    return call


def test_without_a_fault_it_is_installed(download: Callable[[Faults], str]) -> None:
    assert download(Faults()) == ""


@pytest.mark.parametrize(
    ("faults", "cause"),
    few(
        [
            (Faults(cuts={wheelhouse.PATH: HALF}), "the connection was lost"),
            (Faults(short={wheelhouse.PATH: HALF}), "arrived damaged"),
            (Faults(flips={wheelhouse.PATH: HALF}), "arrived damaged"),
            (Faults(stalls={wheelhouse.PATH}), "the connection timed out"),
            (Faults(statuses={wheelhouse.PATH: 503}), "(5xx)"),
            (Faults(statuses={wheelhouse.PATH: 429}), "(429)"),
            (Faults(statuses={wheelhouse.PATH: 404}), "(404)"),
            (Faults(statuses={wheelhouse.PATH: 403}), "(403)"),
        ]
    ),
    ids="cut short flip stall 503 429 404 403".split(),
)
def test_the_cause_of_a_failed_download_is_named(
    client: Client, download: Callable[[Faults], str], faults: Faults, cause: str
) -> None:
    said = download(faults)
    found = find_cause(said)
    assert found, said
    if client.program == "pip" and cause in (
        "arrived damaged",
        "the connection was lost",
    ):
        cause = "a downloaded wheel does not match its hash in the lock"  # pip looks only at the hash
    assert cause in found[0], said
    assert "full log" not in found[1]


@pytest.mark.parametrize(
    ("faults", "cause"),
    few(
        [
            (Faults(cuts={wheelhouse.PAGE: 100}), "the connection was lost"),
            (Faults(short={wheelhouse.PAGE: 100}), "arrived damaged"),
            (Faults(flips={wheelhouse.PAGE: 3}), "arrived damaged"),
            (Faults(stalls={wheelhouse.PAGE}), "the connection timed out"),
            (Faults(statuses={wheelhouse.PAGE: 500}), "(5xx)"),
            (Faults(statuses={wheelhouse.PAGE: 429}), "(429)"),
            (Faults(statuses={wheelhouse.PAGE: 401}), "(401)"),
            (Faults(statuses={wheelhouse.PAGE: 403}), "(403)"),
        ]
    ),
    ids="cut short flip stall 500 429 401 403".split(),
)
def test_the_cause_of_a_failed_page_is_named(
    tmp_path: Path, faults: Faults, cause: str
) -> None:
    """By uv: pip says only that it found no such version."""
    wheelhouse.record(tmp_path / "index", WHEEL)
    with serve(faults, folder=tmp_path / "index") as server:
        said = Client(tmp_path, "uv").download(server.url)
    found = find_network_cause(said)
    assert found, said
    assert cause in found[0], said


@pytest.mark.parametrize(
    "url",
    few(["http://127.0.0.1:1/simple/", "https://index.invalid/simple/"]),
    ids=["refused", "dns"],
)
def test_a_server_that_cannot_be_reached_is_named(client: Client, url: str) -> None:
    said = client.download(url)
    found = find_network_cause(said)
    assert found, said
    assert "the network is down" in found[0], said


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "Err:1 http://mirror/debian bookworm InRelease\n  Temporary failure resolving 'mirror'",
            "cannot be resolved",
        ),
        (
            "E: Failed to fetch http://mirror/x.deb  404  Not Found [IP: 192.0.2.1 80]",
            "(404)",
        ),
        (
            "E: Failed to fetch http://mirror/x.deb  503  Service Unavailable [IP: 192.0.2.1 80]",
            "(5xx)",
        ),
        (
            "E: Failed to fetch http://mirror/x.deb  403  Forbidden [IP: 192.0.2.1 80]",
            "(403)",
        ),
        (
            "E: Failed to fetch http://mirror/x.deb  Hash Sum mismatch",
            "arrived damaged",
        ),
        (
            "E: Failed to fetch http://mirror/x.deb  File has unexpected size (5 != 7). Mirror sync",
            "arrived damaged",
        ),
        (
            "W: GPG error: the public key is not available: NO_PUBKEY 1234",
            "arrived damaged",
        ),
        (
            "Err:3 http://mirror x\n  Connection timed out [IP: 192.0.2.1 80]",
            "the connection timed out",
        ),
        (
            "  Error reading from server. Remote end closed connection [IP: 192.0.2.1 80]",
            "was lost during a download",
        ),
        (
            "  Could not connect to mirror:80 (192.0.2.1). - connect (111: Connection refused)",
            "cannot be reached",
        ),
        (
            "E: Release file for http://mirror/InRelease is not valid yet (invalid for another 3h)",
            "the clock",
        ),
        ("407  Proxy Authentication Required", "the proxy asks for credentials"),
        ("invalid peer certificate: UnknownIssuer", "TLS certificate"),
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "TLS certificate",
        ),
        ("toomanyrequests: You have reached your pull rate limit", "(429)"),
    ],
)
def test_network_errors_of_apt_and_engines_are_explained(said: str, cause: str) -> None:
    found = find_network_cause(said)
    assert found
    assert cause in found[0]


@pytest.mark.parametrize(
    "said",
    [
        "Because demo was not found in the package registry and you require demo==1.0",
        "error: Distribution `torch==2.404` has no wheel; 503 packages",
        "RuntimeError: 401 rows",
        "E: Unable to locate package x",
    ],
)
def test_other_errors_are_not_called_network_errors(said: str) -> None:
    assert find_network_cause(said) is None
