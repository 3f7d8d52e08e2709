"""`envbuilder lock` with the real uv against the recorded index: the committed locks, faults of an index, clashes.

Nothing here reaches a network. After a lock is changed on purpose, or a new one is added: `make record-index`.
"""

import json
import socket
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from index_server import RECORDED, Faults, IndexServer, serve
from json_documents import problems
from marks import few

from cli.conftest import Answer, Run
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import BaseSource, Lock

ROOT = Path(__file__).parents[2]
FILES = sorted(
    [
        *ROOT.glob("docker/images/*/envbuilder.lock"),
        *ROOT.glob("tests/golden/*/envbuilder.lock"),
    ]
)
OLDEST = (
    ROOT / "docker" / "images" / "cu117-torch2.0.1-py3.9-debian11" / "envbuilder.lock"
)
OTHERS = [path for path in FILES if path != OLDEST]


def read(path: Path) -> Lock:
    return parse_lock(path.read_text(), source=str(path))


NEWEST = max(
    (path for path in FILES if "images" in path.parts),
    key=lambda path: (read(path).stack.as_of, path),
)


def request_of(lock: Lock) -> list[str]:
    """The options that lead to a committed lock."""
    stack = lock.stack
    words = [
        "--torch",
        str(stack.torch),
        "--flavour",
        stack.flavour,
        "--platform",
        stack.platform,
    ]
    words += ["--cuda", stack.cuda_line] if stack.cuda else []
    return words + (
        ["--base", "bootstrap"] if stack.base.source is BaseSource.BOOTSTRAP else []
    )


@pytest.fixture(autouse=True)
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """uv has an empty cache and reaches only this machine: whatever else it asks ends at a port that is closed."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening, so that the port stays free
        point_proxies_to(f"http://127.0.0.1:{bound.getsockname()[1]}", monkeypatch)
        yield


def point_proxies_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, url)
        monkeypatch.setenv(name.lower(), url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def index() -> Iterator[IndexServer]:
    with serve() as server:
        yield server


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where `lock` writes."""
    return tmp_path / "envbuilder.lock"


Relock = Callable[..., str]


@pytest.fixture
def relock(run: Run, output: Path) -> Relock:
    """The request of a committed lock again, from an index: the text that comes out."""

    def call(path: Path, index: IndexServer, *words: str) -> str:
        answer = run("lock", *request_of(read(path)), *words, "--index-url", index.url)
        assert answer.code == 0, answer.err
        return output.read_text()

    return call


# --- the committed locks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", few([OLDEST, *OTHERS], fast=0), ids=lambda path: path.parent.name
)
def test_committed_lock_is_reproduced_byte_for_byte(
    path: Path, index: IndexServer, relock: Relock
) -> None:
    assert relock(path, index) == path.read_text()


@pytest.mark.slow
def test_only_the_index_is_contacted(
    index: IndexServer, run: Run, relock: Relock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as proxy:
        point_proxies_to(proxy.url.removesuffix("/simple/"), monkeypatch)
        assert relock(OLDEST, index) == OLDEST.read_text()
        assert proxy.paths == []
        # The same proxy sees whatever is asked of another host.
        run(
            "lock",
            *request_of(read(OLDEST)),
            "--index-url",
            "http://index.invalid/simple/",
        )
        assert "http://index.invalid/simple/torch/" in proxy.paths


@pytest.mark.slow
@pytest.mark.parametrize("days", few([1, 0, 14]))
@pytest.mark.parametrize(
    "path", few([OLDEST, NEWEST]), ids=lambda path: path.parent.name
)
def test_uploads_after_the_day_change_nothing(
    path: Path, days: int, relock: Relock
) -> None:
    stack = read(path).stack
    faults = Faults(last_day=stack.as_of + timedelta(days=days))
    with serve(faults) as index:
        assert relock(path, index) == path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", few([OLDEST, NEWEST]), ids=lambda path: path.parent.name
)
def test_a_later_day_would_change_the_lock(
    path: Path, index: IndexServer, relock: Relock
) -> None:
    lock = read(path)
    later = lock.stack.as_of + timedelta(days=14)
    text = relock(path, index, "--as-of", later.isoformat())
    assert parse_lock(text, source="later").wheels != lock.wheels


# --- faults of an index --------------------------------------------------------------------------------------------


def file_of(path: Path, name: str) -> str:
    (wheel,) = [wheel for wheel in read(path).wheels if wheel.name == name]
    return wheel.file


def youngest(path: Path) -> tuple[str, date]:
    """The package of a lock whose wheel was uploaded last, and the day."""
    uploads = []
    for wheel in read(path).wheels:
        page = json.loads((RECORDED / f"{wheel.name}.json").read_text())
        for file in page["files"]:
            if file["filename"] == wheel.file:
                uploads.append((file["upload-time"], wheel.name))
    uploaded, name = max(uploads)
    return name, datetime.fromisoformat(uploaded).date()


LATE, LATE_DAY = youngest(NEWEST)
PACKAGING, NUMPY = file_of(NEWEST, "packaging"), file_of(NEWEST, "numpy")
DRIFT = {
    "removed": (Faults(removed={PACKAGING}), "packaging"),
    "yanked": (Faults(yanked={PACKAGING: "broken"}), "packaging"),
    "replaced": (Faults(changed={PACKAGING: "0" * 64}), "packaging"),
    "retagged": (Faults(renamed={NUMPY: NUMPY.replace("-cp3", "-cp2")}), "numpy"),
    "late": (Faults(last_day=LATE_DAY - timedelta(days=1)), LATE),
}
"""Faults of an index, and a package that they change."""


@pytest.mark.slow
@pytest.mark.parametrize(("faults", "package"), DRIFT.values(), ids=DRIFT.keys())
def test_a_file_that_changed_on_the_index_changes_the_lock(
    faults: Faults, package: str, relock: Relock
) -> None:
    with serve(faults) as index:
        text = relock(NEWEST, index)
    before = {wheel.name: wheel for wheel in read(NEWEST).wheels}
    after = {wheel.name: wheel for wheel in parse_lock(text, source="after").wheels}
    assert after[package] != before[package]


def check(run: Run, index: IndexServer, *words: str) -> Answer:
    return run(
        "lock", "--check", "--output", str(NEWEST), "--index-url", index.url, *words
    )


@pytest.mark.slow
@pytest.mark.parametrize(("faults", "package"), DRIFT.values(), ids=DRIFT.keys())
def test_check_reports_the_package_that_changed(
    faults: Faults, package: str, run: Run
) -> None:
    with serve(faults) as index:
        answer = check(run, index)
    assert answer.code == 5
    assert any(
        line.strip().startswith(package) for line in answer.err.splitlines()[1:]
    ), answer.err


@pytest.mark.slow
def test_check_finds_no_fault_in_the_recorded_index(
    index: IndexServer, run: Run
) -> None:
    answer = check(run, index)
    assert (answer.code, answer.out) == (0, "")
    assert problems("lock", json.loads(check(run, index, "--json").out)) == []


@pytest.mark.slow
def test_the_document_of_a_lock_fits_its_schema(
    index: IndexServer, run: Run, output: Path
) -> None:
    answer = lock_cuda_117(run, index, "--json", "--output", str(output))
    assert problems("lock", json.loads(answer.out)) == []


@pytest.mark.slow
def test_missing_pinned_wheel_prevents_a_lock(run: Run, output: Path) -> None:
    with serve(Faults(removed={file_of(NEWEST, "torch")})) as index:
        answer = run("lock", *request_of(read(NEWEST)), "--index-url", index.url)
    assert answer.code == 5
    assert "there is no complete set of wheels for torch" in answer.err
    assert not output.exists()


@pytest.mark.slow
def test_an_index_that_cannot_be_reached_is_exit_6(run: Run, output: Path) -> None:
    answer = run(
        "lock", "--cuda", "11.7", "--index-url", "https://index.invalid/simple"
    )
    assert answer.code == 6
    assert "the package index cannot be reached" in answer.err
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "cause"),
    few(
        [
            (
                Faults(statuses={"/simple/numpy/": 403}),
                "the server refuses access (403)",
            ),
            (
                Faults(statuses={"/simple/numpy/": 401}),
                "the server asks for credentials (401)",
            ),
            (Faults(flips={"/simple/numpy/": 3}), "a download arrived damaged"),
            (Faults(short={"/simple/numpy/": 100}), "a download arrived damaged"),
        ]
    ),
    ids="403 401 flipped short".split(),
)
def test_index_errors_are_explained(
    run: Run, output: Path, faults: Faults, cause: str
) -> None:
    output.write_text("the old one")
    with serve(faults) as index:
        answer = run("lock", "--cuda", "11.7", "--index-url", index.url)
    assert answer.code == 6
    assert f"the package index cannot be reached: {cause}" in answer.err
    assert output.read_text() == "the old one"


# --- what surrounds a request, and what is added to it -------------------------------------------------------------


@pytest.mark.slow
def test_ambient_settings_change_nothing(
    index: IndexServer, relock: Relock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, missing = "https://index.invalid/simple", str(tmp_path / "missing.txt")
    hostile = {
        "PIP_INDEX_URL": elsewhere, "PIP_CONSTRAINT": missing, "PIP_PRE": "1", "UV_INDEX_URL": elsewhere,
        "UV_EXTRA_INDEX_URL": elsewhere, "UV_EXCLUDE_NEWER": "2021-01-01", "UV_PRERELEASE": "allow",
        "UV_RESOLUTION": "lowest", "UV_CONSTRAINT": missing, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
    }  # fmt: skip
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "uv.toml").write_text('exclude-newer = "2021-01-01T00:00:00Z"\n')
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {elsewhere}\n")
    assert relock(OLDEST, index) == OLDEST.read_text()


def lock_cuda_117(run: Run, index: IndexServer, *words: str) -> Answer:
    return run(
        "lock",
        "--cuda",
        "11.7",
        "--base",
        "bootstrap",
        *words,
        "--index-url",
        index.url,
    )


@pytest.mark.slow
def test_an_extra_package_is_resolved_with_the_stack(
    index: IndexServer, run: Run
) -> None:
    answer = lock_cuda_117(
        run, index, "--package", "peft", "--format", "requirements", "-o", "-"
    )
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert any(line.startswith("peft==") for line in lines)
    assert any(line.startswith("torch==2.0.1 ") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch>=2.6", "numpy>=2", "transformers>=4.50"])
def test_a_clash_names_its_culprit(
    package: str, index: IndexServer, run: Run, output: Path
) -> None:
    answer = lock_cuda_117(run, index, "--package", "tqdm", "--package", package)
    assert answer.code == 4
    assert answer.err.startswith(
        f"error: {package} cannot be installed with torch 2.0.1 for CUDA 11.7"
    )
    assert not output.exists()


@pytest.mark.slow
def test_a_refusal_leaves_the_earlier_lock(
    index: IndexServer, run: Run, output: Path
) -> None:
    output.write_text("the one that worked\n")
    assert lock_cuda_117(run, index, "--package", "numpy>=2").code == 4
    assert output.read_text() == "the one that worked\n"
