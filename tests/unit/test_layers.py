"""Which files of a layer are read, and how secrets and caches in them are reported."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from envbuilder.acceptance import host_checks
from envbuilder.acceptance.host_checks import Layers
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.model import Check, Status


@pytest.mark.parametrize(
    "path",
    [
        "/root/.netrc", "/home/a/.git-credentials", "/a/.pypirc", "/srv/.env", "/root/id_rsa", "/root/id_ed25519",
        "/root/.bash_history", "/root/.python_history", "/src/.git/HEAD", "/usr/share/.netrc", "/opt/x/file",
        "/root/.cache/pip/x", "/a/.cache/uv/x", "/a/.cache/huggingface/x", "/var/cache/apt/archives/a.deb",
        "/var/cache/apt/pkgcache.bin", "/var/lib/apt/lists/x", "/opt/conda/pkgs/a.conda", "/opt/conda/pkgs/a.tar.bz2",
    ],
)  # fmt: skip
def test_a_file_worth_a_look(path: str) -> None:
    assert host_checks.is_suspect(path)


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/x", "/lib/x", "/lib64/x", "/bin/x", "/sbin/x", "/boot/x", "/proc/x", "/sys/x", "/dev/x",
        "/var/lib/dpkg/status", "/var/cache/debconf/x", "/opt/venv/lib/x", "/opt/conda/lib/x", "/opt/nvidia/x",
        "/var/lib/apt/lists/", "/usr/share/id_rsa.pub", "/usr/lib/my.netrc",
    ],
)  # fmt: skip
def test_a_file_of_the_system(path: str) -> None:
    assert not host_checks.is_suspect(path)


def engine_with(*files: tuple[str, int, bytes]) -> DockerEngine:
    def layer_files(
        image: str, wanted: Callable[[str], bool]
    ) -> Iterator[tuple[str, int, bytes]]:
        assert image == "image"
        yield from (file for file in files if wanted(file[0]))

    return cast("DockerEngine", SimpleNamespace(layer_files=layer_files))


def test_secrets_and_caches_are_distinguished() -> None:
    found = host_checks.read_layers(
        engine_with(
            ("/root/.netrc", 3, b"abc"),
            ("/root/.env", 0, b""),
            ("/app/settings", 9, b"TOKEN=abcdef \xff"),
            ("/app/plain", 9, b"nothing"),
            ("/usr/share/settings", 9, b"TOKEN=abcdef"),
            ("/root/.cache/pip/http/a", 5, b""),
            ("/root/.cache/pip/http/b", 6, b"TOKEN=abcdef"),
            ("/var/lib/apt/lists/x", 7, b""),
        ),
        "image",
    )
    assert found.secrets == ["/root/.netrc", "/app/settings"]
    assert found.caches == {"/root/.cache/pip/http": 11, "/var/lib/apt/lists": 7}


def test_caches_may_have_a_bound() -> None:
    layers = Layers(secrets=[], caches={"/a": 2_000_000, "/b": 6_000_000})

    def check(status: Status, bound: float, **rest: str) -> Check:
        title = "no cache is in a layer"
        return Check(
            id="contract.caches",
            title=title,
            value=8_000_000,
            unit="B",
            status=status,
            bound={"max": bound},
            **rest,
        )

    assert host_checks.judge_caches(layers, {"max": 8_000_000}) == check(
        Status.PASSED, 8_000_000
    )
    remedy = "use cache mounts (`RUN --mount=type=cache,…`); deleting it in a later layer does not help"
    failed = check(Status.FAILED, 7_999_999, detail="6 MB are in /b", remedy=remedy)
    assert host_checks.judge_caches(layers, {"max": 7_999_999}) == failed
    nothing = host_checks.judge_caches(Layers(secrets=[], caches={}), {"max": 0})
    assert (nothing.status, nothing.value) == (Status.PASSED, 0)


def test_exception_in_a_check_becomes_its_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 12.346, 20.0, 21.0])
    monkeypatch.setattr(host_checks.time, "monotonic", lambda: next(clock))

    def broken() -> Check:
        raise ValueError("x" * 600)

    detail = f"ValueError: {'x' * 488}"
    assert host_checks.attempt("the title", "an.id", broken) == Check(
        id="an.id",
        title="the title",
        status=Status.ERROR,
        detail=detail,
        remedy="run it again",
        seconds=2.35,
    )
    good = Check(id="a", title="a", status=Status.PASSED)
    found = host_checks.attempt("the title", "an.id", lambda: good)
    assert (found.id, found.status, found.seconds) == ("a", Status.PASSED, 1.0)
