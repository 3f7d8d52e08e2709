"""`BASE` and `.env`: which of a repository's locks is built, and that nothing of the user's in `.env` is lost."""

from pathlib import Path

import pytest

from envbuilder.errors import UsageError
from envbuilder.render import base_variable, project

ROOT = Path(__file__).parents[2]
LOCKS = project.read_locks(ROOT)
MAIN = LOCKS["cu117-torch2.0.1-py3.10-debian12"]
FALLBACK = LOCKS["cu117-torch2.0.1-py3.9-debian11"]
DEVEL = LOCKS["cu132-torch2.15.0-py3.13-debian13-devel"]
RUNTIME = LOCKS["cu132-torch2.15.0-py3.13-debian13"]
OURS = """# set by `envbuilder build`: python:3.10-slim-bookworm was not used
BASE=py3.9-debian11
"""


def test_fallback_is_the_same_torch_on_a_base_made_here() -> None:
    assert base_variable.fallback_of(MAIN, LOCKS) == FALLBACK
    assert base_variable.fallback_of(FALLBACK, LOCKS) == FALLBACK
    assert base_variable.fallback_of(MAIN, {}) is None
    assert DEVEL not in base_variable.on_other_bases(RUNTIME, LOCKS)


def test_base_selects_a_lock_of_the_repository() -> None:
    assert base_variable.find_lock("py3.9-debian11", MAIN, LOCKS) == FALLBACK
    assert base_variable.find_lock("py3.10-debian12", MAIN, LOCKS) == MAIN
    assert base_variable.find_lock("bootstrap", MAIN, LOCKS) == FALLBACK
    with pytest.raises(UsageError, match="BASE is 'x/y'") as caught:
        base_variable.find_lock("x/y", MAIN, LOCKS)
    assert "py3.10-debian12, py3.9-debian11; or unset it" in caught.value.hint


def test_a_fallback_is_not_the_lock_of_the_repository() -> None:
    assert base_variable.without_fallbacks([FALLBACK, MAIN]) == [MAIN]
    assert base_variable.without_fallbacks([FALLBACK, DEVEL]) == [FALLBACK, DEVEL]


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("", {}, ""),
        (OURS, {}, ""),
        ("BASE=py3.9-debian11\n", {}, "py3.9-debian11"),
        ("export BASE='py3.9-debian11' # mine\r\n", {}, "py3.9-debian11"),
        ("# BASE=a\nDATABASE=b\n", {}, ""),
        (OURS, {"BASE": "py3.10-debian12"}, "py3.10-debian12"),
        ("BASE=a\n", {"BASE": ""}, "a"),
    ],
)
def test_a_persons_choice_is_read_and_ours_is_not(
    tmp_path: Path, text: str, environ: dict[str, str], value: str
) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    assert base_variable.chosen(environ, tmp_path) == value


def test_recording_a_base_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert base_variable.record(MAIN, MAIN, tmp_path) == ""
    assert not path.exists()

    path.write_text("HF_TOKEN=secret")
    path.chmod(0o600)
    said = base_variable.record(MAIN, FALLBACK, tmp_path)
    assert said.startswith("set BASE=py3.9-debian11 in .env")
    assert path.read_text() == "HF_TOKEN=secret\n" + OURS
    assert path.stat().st_mode & 0o777 == 0o600
    assert base_variable.record(MAIN, FALLBACK, tmp_path) == ""

    path.write_text(path.read_text() + "RUN=b\n")
    assert base_variable.record(MAIN, MAIN, tmp_path).startswith("removed BASE from")
    assert path.read_text() == "HF_TOKEN=secret\nRUN=b\n"


def test_a_base_that_a_person_has_set_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("BASE=py3.9-debian11\n")
    assert base_variable.record(MAIN, FALLBACK, tmp_path) == ""
    assert path.read_text() == "BASE=py3.9-debian11\n"


def test_env_file_that_leads_elsewhere_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "other").write_text("A=b\n")
    (tmp_path / "here/.env").symlink_to(tmp_path / "other")
    with pytest.raises(UsageError, match="leads out of"):
        base_variable.record(MAIN, FALLBACK, tmp_path / "here")
    assert (tmp_path / "other").read_text() == "A=b\n"
