"""`envbuilder build` in a repository: its own lock, another base if no registry has that one, and `.env`."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from standin.engine import DIGEST, StandInEngine
from standin.programs import Programs
from standin.suite_output import IMAGE

from envbuilder import pipeline, serialize
from envbuilder.cli import build_command
from envbuilder.engine import bootstrap
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Lock, Request

from .conftest import Run

# Each sets up a repository and writes it.
pytestmark = pytest.mark.slow

IMAGES = Path(__file__).parents[2] / "docker/images"
MAIN, FALLBACK = "cu117-torch2.0.1-py3.10-debian12", "cu117-torch2.0.1-py3.9-debian11"
SLIM = "python:3.10-slim-bookworm"
LOCK = parse_lock((IMAGES / FALLBACK / LOCK_FILE).read_text(), source=FALLBACK)
BASE = replace(
    IMAGE,
    id="sha256:b",
    labels={bootstrap.LABEL: bootstrap.contents(LOCK.stack.base)},
)
Repository = Callable[..., StandInEngine]


@pytest.fixture
def repository(
    tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> Repository:
    """A repository with locks for two bases; gives the engine, whose registry has the first one if `slim`."""
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    monkeypatch.delenv("BASE", raising=False)
    (tmp_path / "envbuilder.toml").write_text(
        'cuda = "11.7"\n[render]\ntargets = ["compose"]\n'
    )

    def make(*names: str, slim: bool) -> StandInEngine:
        for name in names or (MAIN, FALLBACK):
            shutil.copytree(IMAGES / name, tmp_path / "docker/images" / name)
        engine = StandInEngine(
            images={IMAGE.id: IMAGE, LOCK.stack.base.reference: BASE},
            registry={SLIM: replace(IMAGE, digest=DIGEST)} if slim else {},
        )
        monkeypatch.setattr(build_command, "new_engine", lambda: engine)
        return engine

    return make


def test_build_takes_the_repository_s_lock(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    engine = repository(slim=True)
    (tmp_path / ".env").write_text(
        "# set by `envbuilder build`: x was not used\nBASE=py3.9-debian11\nRUN=a\n"
    )
    answer = run("build")
    assert answer.code == 0, answer.err
    assert f"envbuilder:{MAIN}" in engine.images
    assert "removed BASE from .env" in answer.err
    assert "to pin it: `envbuilder lock --upgrade-base`\n" in answer.err
    assert (tmp_path / ".env").read_text() == "RUN=a\n"


def test_without_a_registry_the_fallback_takes_over(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    engine = repository(slim=False)
    answer = run("build")
    assert answer.code == 0, answer.err
    assert f"envbuilder:{FALLBACK}" in engine.images
    assert f"envbuilder:{MAIN}" not in engine.images
    assert (
        f"{SLIM} was not found in the engine's store nor on any reachable registry; "
        f"building {FALLBACK} instead, on a base from Debian packages\n"
    ) in answer.err
    assert "set BASE=py3.9-debian11 in .env" in answer.err
    assert (tmp_path / ".env").read_text().endswith("\nBASE=py3.9-debian11\n")


def test_env_file_that_cannot_be_written_costs_no_image(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    engine = repository(slim=False)
    outside = tmp_path.with_name(f"{tmp_path.name}-env")
    outside.write_text("A=b\n")
    (tmp_path / ".env").symlink_to(outside)
    answer = run("build")
    assert answer.code == 0, answer.err
    assert f"envbuilder:{FALLBACK}" in engine.images
    assert "for Compose set BASE=py3.9-debian11" in answer.err
    assert outside.read_text() == "A=b\n"


def test_a_fallback_that_is_missing_is_locked_and_written(
    run: Run,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = repository(MAIN, slim=False)
    requests: list[Request] = []

    def make_lock(request: Request, session: pipeline.Session) -> Lock:
        requests.append(request)
        return LOCK

    monkeypatch.setattr(pipeline, "make_lock", make_lock)
    with (tmp_path / "envbuilder.toml").open("r+") as stream:
        text = stream.read()
        stream.seek(0)
        stream.write('as-of = "2025-03-20"\n' + text)
    answer = run("build", "--base", "bootstrap", "--dry-run")
    assert (answer.code, requests) == (0, []), answer.err
    assert f"stack       {FALLBACK}\n" in answer.out
    answer = run("build")
    (request,) = requests
    assert (str(request.torch), request.python) == ("2.0.1", None)
    assert str(request.as_of) == "2025-03-20"
    assert answer.code == 0, answer.err
    assert f"wrote docker/images/{FALLBACK}/" in answer.err
    assert (tmp_path / "docker/images" / FALLBACK / "Dockerfile").exists()
    assert f"envbuilder:{FALLBACK}" in engine.images


def test_a_fallback_of_other_packages_is_not_built(
    run: Run, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(slim=False)
    requests: list[Request] = []

    def make_lock(request: Request, session: object, ask: object = None) -> Lock:
        requests.append(request)
        return LOCK if request.base == "bootstrap" else main

    monkeypatch.setattr(pipeline, "make_lock", make_lock)
    path = tmp_path / "docker/images" / MAIN / LOCK_FILE
    main = parse_lock(path.read_text(), source=MAIN)
    main = replace(main, stack=replace(main.stack, apt=("libgl1",)))
    path.write_text(serialize.dumps(main))
    with (tmp_path / "envbuilder.toml").open("r+") as stream:
        text = stream.read()
        stream.seek(0)
        stream.write('apt = ["libgl1"]\n' + text)
    line = f"stale: docker/images/{FALLBACK}: locked for other packages than {MAIN}\n"
    assert line in run("render", "--check").err
    for base in ("bootstrap", "py3.9-debian11"):
        monkeypatch.setenv("BASE", base)
        assert "as of" in run("build", "--dry-run").out
    answer = run("lock", "--json")
    assert answer.code == 0, answer.err
    assert [request.apt for request in requests] == [("libgl1",), ("libgl1",)]
    assert [str(request.python) for request in requests] == ["3.10", "None"]
    assert f"docker/images/{FALLBACK}/{LOCK_FILE}: " in answer.err
    assert json.loads(answer.out)["file"] == f"docker/images/{MAIN}/{LOCK_FILE}"
    assert not (tmp_path / LOCK_FILE).exists()
    assert f"wrote docker/images/{FALLBACK}/\n" in answer.err
    (tmp_path / "docker/images" / FALLBACK / "notes.md").write_text("mine")
    answer = run("lock")
    hint = f"hint: move them elsewhere: docker/images/{FALLBACK}/notes.md"
    assert hint in answer.err
    assert (tmp_path / "docker/images" / FALLBACK / "notes.md").exists()


def test_requirements_do_not_become_a_lock(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "make_lock", lambda *_: LOCK)
    answer = run("lock", "--cuda", "11.7", "--format", "requirements")
    assert answer.code == 0, answer.err
    assert "\ntorch==2.0.1 --hash" in answer.out
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_repository_is_locked_again_for_its_own_stack_only(
    run: Run, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(MAIN, slim=False)
    monkeypatch.setattr(pipeline, "make_lock", lambda *_: LOCK)
    before = (tmp_path / "docker/images" / MAIN / LOCK_FILE).read_text()
    answer = run("lock")
    assert answer.code == 2
    assert f"the lock of this repository is {MAIN}" in answer.err
    assert (tmp_path / "docker/images" / MAIN / LOCK_FILE).read_text() == before
    (tmp_path / "envbuilder.toml").write_text('cuda = "12.1"\n[render]\n')
    for words in ((), ("--check",), ("--upgrade-base",)):
        answer = run("lock", *words)
        assert "no lock in docker/images/ matches envbuilder.toml" in answer.err
        assert "`envbuilder render`" in answer.err


@pytest.mark.parametrize("words", [("--base", "bootstrap"), ()])
def test_base_can_be_forced_by_option_or_variable(
    run: Run, repository: Repository, monkeypatch: pytest.MonkeyPatch, words: tuple[str]
) -> None:
    engine = repository(slim=True)
    if not words:
        monkeypatch.setenv("BASE", "bootstrap")
    answer = run("build", *words)
    assert answer.code == 0, answer.err
    assert f"envbuilder:{FALLBACK}" in engine.images
    assert "was not found" not in answer.err


def test_a_chosen_base_is_never_replaced(
    run: Run, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(slim=False)
    monkeypatch.setenv("BASE", "py3.10-debian12")
    answer = run("build")
    assert answer.code == 6
    assert answer.err.startswith(f"pulling {SLIM}\nerror: {SLIM} was not found")


def test_a_base_of_the_settings_is_never_replaced(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    engine = repository(FALLBACK, slim=False)
    main = parse_lock((IMAGES / MAIN / LOCK_FILE).read_text(), source=MAIN)
    base = replace(main.stack.base, release="")
    main = replace(main, stack=replace(main.stack, base=base))
    folder = tmp_path / "docker/images" / main.stack.name
    folder.mkdir()
    (folder / LOCK_FILE).write_text(serialize.dumps(main))
    (tmp_path / "envbuilder.toml").write_text(
        f'cuda = "11.7"\nbase = "{SLIM}"\n[render]\ntargets = ["compose"]\n'
    )
    answer = run("build")
    assert answer.code == 6
    assert f"error: {SLIM} was not found" in answer.err
    assert "`envbuilder init --base bootstrap --force`" in answer.err
    assert f"envbuilder:{FALLBACK}" not in engine.images


@pytest.mark.parametrize(
    "words", [("--cuda", "12.1"), ("--apt", "libgl1"), ("--package", "peft")]
)
def test_a_request_is_not_answered_with_the_repository_s_lock(
    run: Run, repository: Repository, words: tuple[str, ...]
) -> None:
    repository(slim=True)
    planned = run("build", "--dry-run", *words)
    assert planned.code == 0, planned.err
    assert "locked wheels" not in planned.out
    assert "locked wheels" in run("build", "--dry-run").out


def test_a_lock_that_is_named_is_never_replaced(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    repository(slim=False)
    answer = run("build", "--lock", f"docker/images/{MAIN}/envbuilder.lock")
    assert answer.code == 6
    assert not (tmp_path / ".env").exists()


def test_a_repository_without_a_matching_lock_says_what_to_do(
    run: Run, repository: Repository
) -> None:
    repository("cu121-torch2.4.1-py3.11-debian12", slim=True)
    answer = run("build")
    assert answer.code == 2
    assert "hint: create it: `envbuilder render`" in answer.err
