"""In a folder that has files already: nothing of somebody else's is hidden or lost, and refusals come first."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from envbuilder.errors import LockError
from envbuilder.model import Request, Stack

from .conftest import Run

# Each sets up a repository and writes it.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAME = "cu117-torch2.0.1-py3.9-debian11"
LOCK = str(ROOT / "docker/images" / NAME / "envbuilder.lock")


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking the index is exit code 5."""

    def refuse(*_: object) -> None:
        raise LockError("the index was asked")

    monkeypatch.setattr("envbuilder.pipeline.lock_stack", refuse)
    no_registry(monkeypatch)


def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked for the digest of a base."""
    monkeypatch.setattr("envbuilder.cli.protection.find_digest", lambda *_: None)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[tool.poetry.dependencies]\npython = ">=3.9,<3.12"\n', "cu121-torch2.4.1-py3.11-debian12"),
        ('[project]\ndependencies = ["torch<2.4"]\n', "cu121-torch2.3.1-py3.11-debian12"),
    ],
)  # fmt: skip
def test_init_obeys_the_project_next_to_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    names = []

    def refuse(request: object, stack: Stack, *_: object) -> None:
        names.append(stack.name)
        raise LockError("the index was asked")

    monkeypatch.setattr("envbuilder.pipeline.lock_stack", refuse)
    no_registry(monkeypatch)
    (tmp_path / "pyproject.toml").write_text(text)
    assert run("init", "--cuda", "12.1").code == 5
    assert names == [name]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("docker-compose.yml", "would hide docker-compose.yml"),
        (".env.example", "`--overwrite .env.example`"),
        (
            "pyproject.toml",
            "the image has Python 3.10, and pyproject.toml requires >=3.12; nothing was written\n"
            "hint: change requires-python, or request another stack",
        ),
        ("docker", "docker is a file, not a directory"),
        (".github", ".github is a file, not a directory"),
    ],
)
def test_init_refuses_before_it_asks_the_index(
    run: Run, tmp_path: Path, no_index: None, file: str, said: str
) -> None:
    (tmp_path / file).write_text('[project]\nrequires-python = ">=3.12"\n')
    answer = run("init", "--cuda", "11.7")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert names(tmp_path) == {file}


def test_several_clashes_are_reported_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").touch()
    (tmp_path / ".devcontainer.json").touch()
    answer = run("init", "--lock", LOCK)
    assert answer.code == 2
    assert "would hide docker-compose.yml" in answer.err
    assert "would hide .devcontainer.json" in answer.err
    assert len(names(tmp_path)) == 2


def test_the_suggested_way_keeps_both_compose_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").touch()
    assert (
        "`echo COMPOSE_FILE=docker-compose.yml >>.env`"
        in run("init", "--lock", LOCK).err
    )
    (tmp_path / ".env").write_text("COMPOSE_FILE=docker-compose.yml\n")
    answer = run("init", "--lock", LOCK)
    assert answer.code == 0, answer.err
    assert "then `docker compose -p envbuilder -f compose.yaml up train`" in answer.err
    assert run("render", "--check").code == 0
    (tmp_path / ".env").unlink()
    answer = run("init", "--lock", LOCK)
    assert answer.code == 0, "compose.yaml is there: nothing new is hidden"


def test_what_git_would_leave_out_is_noted(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("envbuilder.*\n")
    answer = run("init", "--lock", LOCK, "--target", "workflow")
    assert answer.code == 0
    assert (
        f"note: git ignores docker/images/{NAME}/envbuilder.lock, envbuilder.toml (.gitignore:1: envbuilder.*)"
        in answer.err
    )
    assert "git ignores" not in run("render").err, "only new files are worth a note"


def test_a_python_that_a_person_chose_is_only_noted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.11"\n')
    answer = run("init", "--lock", LOCK, "--target", "workflow")
    assert answer.code == 0
    assert (
        answer.err.count("the image has Python 3.9, and pyproject.toml requires >=3.11")
        == 1
    )


@pytest.mark.parametrize("words", ["render", "render --target compose"])
def test_render_hides_nothing_either(run: Run, tmp_path: Path, words: str) -> None:
    run("init", "--lock", LOCK, "--target", "workflow")
    settings = tmp_path / "envbuilder.toml"
    text = settings.read_text()
    if words == "render":
        text = text.replace('["workflow"]', '["workflow", "compose"]')
        settings.write_text(text)
    (tmp_path / "compose.yml").touch()
    answer = run(*words.split())
    assert answer.code == 2
    assert "compose.yaml would hide compose.yml" in answer.err
    assert not (tmp_path / "compose.yaml").exists()
    assert settings.read_text() == text


def test_a_context_elsewhere_keeps_foreign_files(run: Run, tmp_path: Path) -> None:
    words = ("render", "--lock", LOCK, "--output", "out")
    run(*words)
    own = tmp_path / "out/payload/notes.txt"
    own.write_text("mine\n")
    answer = run(*words)
    assert answer.code == 2
    assert "hint: move them, or name what may be lost: `--overwrite out/payload/notes.txt`" in answer.err  # fmt: skip
    assert own.exists()
    assert run(*words, "--overwrite", "out/payload/notes.txt").code == 0
    assert not own.exists()


def test_many_files_are_named_by_their_folders(run: Run, tmp_path: Path) -> None:
    run("init", "--lock", LOCK, "--target", "workflow")
    for number in range(30):
        (tmp_path / f"docker/payload/mine-{number}").touch()
    answer = run("render")
    assert answer.code == 2
    assert answer.err.count("docker/payload/mine-") == 20
    assert "and 10 more" in answer.err
    assert "`--overwrite docker/payload`" in answer.err
    assert run("render", "--overwrite", "docker/payload").code == 0


def test_an_entrypoint_alone_is_not_of_envbuilder(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "docker/payload/entrypoint"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n")
    for words in ((), ("--overwrite", "docker/payload")):
        answer = run("init", "--lock", LOCK, "--target", "workflow", *words)
        assert answer.code == 2
        assert "docker/payload" in answer.err
    assert own.read_text() == "#!/bin/sh\n"
    assert names(tmp_path) == {"docker"}


def test_targets_of_a_repository_above_are_not_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", "--lock", LOCK, "--target", "slurm")
    settings = tmp_path / "envbuilder.toml"
    settings.write_text(settings.read_text() + '[render.settings]\nhours = "2"\n')
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    answer = run("init", "--lock", LOCK, "--target", "workflow")
    assert answer.code == 0, answer.err
    assert not (below / "slurm").exists()
    assert "hours" not in (below / "envbuilder.toml").read_text()


@pytest.mark.parametrize("words", ["init --cuda 11.7", "render --cuda 11.7"])
def test_a_disk_without_room_is_noticed_before_the_index(
    run: Run,
    tmp_path: Path,
    no_index: None,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    room = SimpleNamespace(f_bavail=100, f_frsize=4096)
    with monkeypatch.context() as patch:
        patch.setattr("os.statvfs", lambda _: room)
        answer = run(*words.split())
    assert answer.code == 2
    assert "0.4 MB are free" in answer.err
    monkeypatch.setattr("os.access", lambda *_: False)
    answer = run(*words.split())
    assert answer.code == 2
    assert "cannot be written; nothing was written" in answer.err
    assert names(tmp_path) == set()


def test_what_is_up_to_date_needs_no_room(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", "--lock", LOCK, "--target", "workflow")
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=1))
    assert run("render").code == 0


def test_force_drops_pins_before_the_index_is_asked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Request] = []

    def refuse(request: Request, *_: object) -> None:
        requests.append(request)
        raise LockError("the index was asked")

    monkeypatch.setattr("envbuilder.pipeline.lock_stack", refuse)
    no_registry(monkeypatch)
    run("init", "--lock", LOCK, "--target", "workflow")
    settings = (tmp_path / "envbuilder.toml").read_text()
    assert run("init", "--cuda", "12.4").code == 4
    assert run("init", "--cuda", "12.4", "--force").code == 5
    assert [(str(request.cuda), request.torch) for request in requests] == [
        ("12.4", None)
    ]
    assert (tmp_path / "envbuilder.toml").read_text() == settings


def test_render_asks_the_index_for_a_lock_that_is_missing(
    run: Run, tmp_path: Path, no_index: None
) -> None:
    run("init", "--lock", LOCK, "--target", "workflow")
    shutil.rmtree(tmp_path / "docker/images")
    assert run("render").code == 5
    assert run("render", "--lock", LOCK, "--target", "slurm").code == 0


def test_a_python_that_no_stack_has_gets_another_hint(
    run: Run, tmp_path: Path, no_index: None
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nrequires-python = ">=4"\n')
    answer = run("init", "--cuda", "11.7")
    assert answer.code == 2
    assert "hint: change requires-python, or request another stack" in answer.err


# --- the lock that `envbuilder lock` has written ---------------------------------------------------------------------


def test_render_uses_the_lock_that_is_there(
    run: Run, tmp_path: Path, no_index: None
) -> None:
    shutil.copy(LOCK, tmp_path)
    answer = run("render")
    assert answer.code == 0, answer.err
    assert answer.err.startswith("lock: envbuilder.lock\n")
    assert (tmp_path / f"build/images/{NAME}/Dockerfile").exists()
    assert run("render", "--target", "slurm").code == 0
    assert run("render", "--cuda", "12.4").code == 5, "another stack needs the index"


def test_a_lock_that_contradicts_the_settings_is_not_used(
    run: Run, tmp_path: Path, no_index: None
) -> None:
    shutil.copy(LOCK, tmp_path)
    (tmp_path / "envbuilder.toml").write_text('cuda = "12.4"\n')
    answer = run("render")
    assert answer.code == 2
    assert "envbuilder.lock does not match the settings" in answer.err
    assert "`envbuilder lock`" in answer.err
    assert run("render", "--lock", "envbuilder.lock").code == 0
