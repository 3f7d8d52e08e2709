"""What is committed under docker/images/ is what would be written today; `make presets` writes it."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from presets import read_preset

from envbuilder import catalog
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, BaseSource, Lock, Request
from envbuilder.render.context import render_context
from envbuilder.render.context_folder import differences, write_context
from envbuilder.resolve import resolve

FOLDER = Path(__file__).parents[2] / "docker" / "images"
PRESETS = sorted(path for path in FOLDER.iterdir() if path.is_dir())


def lock_of(preset: Path) -> Lock:
    return read_preset(preset / LOCK_FILE)


def test_there_are_presets() -> None:
    assert {lock_of(preset).stack.base.source for preset in PRESETS} == set(BaseSource)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_presets_are_up_to_date(preset: Path) -> None:
    assert list(differences(render_context(lock_of(preset)), FOLDER.parent)) == []


def test_payload_exists_once() -> None:
    """Files that stacks share are next to them, without copies."""
    names = {path.name for path in FOLDER.glob("*/*")}
    assert "layers" in names
    assert not names & {"install", "payload"}


def test_stacks_in_one_folder_share_payload_and_installer(tmp_path: Path) -> None:
    contexts = [render_context(lock_of(preset)) for preset in PRESETS[:2]]
    write_context(contexts[0], tmp_path)
    written = (tmp_path / "payload" / "entrypoint").stat()
    write_context(contexts[1], tmp_path)
    entrypoint = (tmp_path / "payload" / "entrypoint").stat()
    # Nothing to write: left alone. It may be read, which changes the time of access.
    assert (entrypoint.st_ino, entrypoint.st_mtime_ns) == (
        written.st_ino,
        written.st_mtime_ns,
    )
    assert [
        line for context in contexts for line in differences(context, tmp_path)
    ] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "images",
        "install",
        "payload",
    ]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_presets_match_the_resolver(preset: Path) -> None:
    locked = lock_of(preset).stack
    base = BASE_BOOTSTRAP if locked.base.source is BaseSource.BOOTSTRAP else BASE_AUTO
    request = Request(
        cuda=locked.cuda, torch=locked.torch, base=base, flavour=locked.flavour
    )
    assert resolve(request, catalog.load()) == locked


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_a_preset_names_no_address(preset: Path) -> None:
    for path in preset.rglob("*"):
        if path.is_file():
            assert "://" not in path.read_text(), path


def test_rendering_is_repeatable_and_byte_identical() -> None:
    lock = lock_of(PRESETS[0])
    assert render_context(lock).files == render_context(lock).files


def test_templates_cannot_use_undefined_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "Dockerfile.j2").write_text("FROM {{ bsae }}\n")
    monkeypatch.setattr("envbuilder.resources.folder", lambda name: tmp_path)
    with pytest.raises(UndefinedError):
        render_context(lock_of(PRESETS[0]))
