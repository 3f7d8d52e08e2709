"""What is committed under docker/images/ is what would be written today; `make presets` writes it."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from envbuilder import catalog, render, resolver
from envbuilder import lock as locks
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, BaseSource, Lock, Request

FOLDER = Path(__file__).parents[2] / "docker" / "images"
PRESETS = sorted(path for path in FOLDER.iterdir() if path.is_dir())


def lock_of(preset: Path) -> Lock:
    return locks.parse_lock((preset / locks.FILE).read_text(), source=str(preset / locks.FILE))


def test_there_are_presets() -> None:
    assert {lock_of(preset).stack.base.source for preset in PRESETS} == set(BaseSource)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_a_preset_is_what_would_be_rendered(preset: Path) -> None:
    assert list(render.differences(render.render(lock_of(preset)), preset)) == []


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_a_preset_is_what_the_resolver_says(preset: Path) -> None:
    locked = lock_of(preset).stack
    base = BASE_BOOTSTRAP if locked.base.source is BaseSource.BOOTSTRAP else BASE_AUTO
    request = Request(cuda=locked.cuda, torch=locked.torch, base=base, flavour=locked.flavour)
    assert resolver.resolve(request, catalog.load()) == locked


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_a_preset_names_no_address(preset: Path) -> None:
    for path in preset.rglob("*"):
        if path.is_file() and not {"payload", "install"} & set(path.relative_to(preset).parts):
            assert "://" not in path.read_text(), path


def test_rendering_is_repeatable_and_byte_identical() -> None:
    lock = lock_of(PRESETS[0])
    assert render.render(lock).files == render.render(lock).files


def test_a_template_cannot_use_a_name_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "Dockerfile.j2").write_text("FROM {{ bsae }}\n")
    monkeypatch.setattr("envbuilder.resources.folder", lambda name: tmp_path)
    with pytest.raises(UndefinedError):
        render.render(lock_of(PRESETS[0]))
