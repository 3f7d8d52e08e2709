"""A repository's files: the lock that answers the request, what is stale, and what may be replaced."""

import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from packaging.version import Version
from presets import read_preset

from envbuilder import config, serialize
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import UsageError
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.model import BASE_BOOTSTRAP, Lock, Request
from envbuilder.render import project
from envbuilder.render.settings_file import settings_text
from envbuilder.resolve import objections, resolve
from envbuilder.resolve.command_line import parse_request

ROOT = Path(__file__).parents[2]
OLD, NEW = "cu117-torch2.0.1-py3.9-debian11", "cu117-torch2.0.1-py3.10-debian12"
CU117 = Request(cuda=Version("11.7"))


def lock_of(name: str) -> Lock:
    path = ROOT / project.IMAGES / name / LOCK_FILE
    return read_preset(path)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(), []),
        (CU117, []),
        (Request(cuda=Version("11.7"), base=BASE_BOOTSTRAP), []),
        (Request(cuda=Version("11.8")), ["is built for CUDA"]),
        (Request(python=Version("3.10")), ["has Python 3.9"]),
        (Request(gpu="H100"), ["has kernels up to sm_86; H100 needs sm_90"]),
        (Request(packages=("rich<14",)), ["its packages are none, not rich<14"]),
        (
            Request(platform="linux/arm64"),
            ["it is for linux/amd64", "has CUDA wheels only for"],
        ),
        (
            Request(base="mine:1", python=Version("3.9")),
            ["its base is envbuilder-base:debian11, not mine:1"],
        ),
    ],
)
def test_lock_satisfies_a_request_or_explains_why_not(
    request_: Request, said: list[str], facts: Catalog
) -> None:
    found = objections(request_, lock_of(OLD).stack, facts)
    assert len(found) == len(said), found
    assert all(part in line for part, line in zip(said, found, strict=True))


def test_locks_are_found_by_request_or_name(facts: Catalog) -> None:
    bootstrapped = project.find_lock(
        ROOT, replace(CU117, base=BASE_BOOTSTRAP), None, facts
    )
    assert bootstrapped is not None
    assert bootstrapped.stack.name == OLD
    named = project.find_lock(ROOT, CU117, NEW, facts)
    assert named is not None
    assert named.stack.name == NEW
    assert project.find_lock(ROOT, Request(cuda=Version("11.8")), None, facts) is None
    # The other one is for want of a registry.
    assert project.find_lock(ROOT, CU117, None, facts) == named
    with pytest.raises(UsageError, match="several locks"):
        project.find_lock(ROOT, Request(cuda=Version("12")), None, facts)


@pytest.mark.parametrize("name", [OLD, NEW])
def test_the_settings_lead_back_to_the_lock(
    name: str, tmp_path: Path, facts: Catalog
) -> None:
    lock = lock_of(name)
    text = settings_text(lock, ["devcontainer"], {"shm-size": "4g"})
    (tmp_path / config.FILE).write_text(text)
    found = config.find(tmp_path)
    assert found is not None
    table = dict(found[1])
    assert table.pop("render") == {
        "targets": ["devcontainer"],
        "settings": {"shm-size": "4g"},
    }
    assert objections(parse_request(table), lock.stack, facts) == []
    assert resolve(parse_request(table), facts).name == name


def test_extra_packages_are_kept_in_the_settings() -> None:
    lock = lock_of(OLD)
    with_extras = replace(
        lock, stack=replace(lock.stack, extras=('peft[a]<0.12; python_version<"4"',))
    )
    assert tomllib.loads(settings_text(with_extras, [], {}))["package"] == list(
        with_extras.stack.extras
    )


def test_differing_files_are_listed_and_updated(tmp_path: Path) -> None:
    files = project.render_files(project.describe(lock_of(OLD)), ["devcontainer"])
    assert f"missing: {project.IMAGES}/{OLD}/Dockerfile" in project.differences(
        files, tmp_path
    )
    project.write(files, tmp_path, {})
    assert project.differences(files, tmp_path) == []
    assert project.write(files, tmp_path, {}) == {}
    (tmp_path / ".devcontainer/check").write_text("exit 0\n")
    (tmp_path / "docker/install/trim.txt").write_text("\n")
    (tmp_path / "docker/payload/train/job.py").unlink()
    (tmp_path / "docker/payload/entrypoint").chmod(0o644)
    assert project.differences(files, tmp_path) == [
        "stale: docker/install/trim.txt", "not executable: docker/payload/entrypoint",
        "missing: docker/payload/train/job.py", "stale: .devcontainer/check",
    ]  # fmt: skip
    assert project.foreign_files(files, tmp_path) == [".devcontainer/check"]
    payload = sum(name.startswith("payload/") for name in files.context.files)
    assert project.write(files, tmp_path, {}) == {
        "docker/install/ (3 files)": "replaced",
        f"docker/payload/ ({payload} files)": "replaced",
        ".devcontainer/check": "replaced",
    }
    (tmp_path / ".devcontainer/check").chmod(0o644)
    assert project.differences(files, tmp_path) == [
        "not executable: .devcontainer/check"
    ]
    assert project.write(files, tmp_path, {}) == {".devcontainer/check": "replaced"}
    assert project.differences(files, tmp_path) == []


def test_two_locks_have_one_payload(tmp_path: Path) -> None:
    first, second = (
        project.render_files(project.describe(lock_of(name)), []) for name in (OLD, NEW)
    )
    assert (
        list(project.write(first, tmp_path, {}))[1:]
        == list(project.write(first, tmp_path / "again", {}))[1:]
    )
    assert project.write(second, tmp_path, {}) == {
        f"{project.IMAGES}/{NEW}/ (9 files)": "wrote"
    }
    assert (
        project.differences(first, tmp_path)
        == project.differences(second, tmp_path)
        == []
    )
    assert list(project.read_locks(tmp_path)) == [NEW, OLD]
    (tmp_path / "docker/payload/train/job.py").write_text("# mine\n")
    told = ["stale: docker/payload/train/job.py"]
    assert (
        project.differences(first, tmp_path)
        == project.differences(second, tmp_path)
        == told
    )


def test_directory_must_have_the_name_of_its_stack(tmp_path: Path) -> None:
    project.write(
        project.render_files(project.describe(lock_of(OLD)), []), tmp_path, {}
    )
    (tmp_path / project.IMAGES / OLD).rename(tmp_path / project.IMAGES / "mine")
    with pytest.raises(UsageError, match=f"mine holds the lock of {OLD}"):
        project.read_locks(tmp_path)


def test_a_foreign_payload_folder_is_not_replaced(tmp_path: Path) -> None:
    files = project.render_files(project.describe(lock_of(OLD)), [])
    (tmp_path / "docker/payload").mkdir(parents=True)
    (tmp_path / "docker/payload/train.py").write_text("# mine\n")
    (tmp_path / "docker/Dockerfile").write_text("FROM scratch\n")
    assert project.foreign_files(files, tmp_path) == ["docker/payload/train.py"]


def test_a_setting_that_no_target_has_is_refused() -> None:
    described = project.describe(lock_of(OLD), settings={"shm_size": "2g"})
    with pytest.raises(UsageError) as caught:
        project.render_files(described, ["devcontainer"])
    assert caught.value.problems == (
        "unknown setting 'shm_size'; did you mean shm-size?",
    )


def test_custom_tag_is_the_image() -> None:
    described = project.describe(lock_of(OLD), tag="team/train:1")
    files = project.render_files(described, ["devcontainer"]).others.files
    assert "image=team/train:1\n" in files[".devcontainer/image"]


def test_a_lock_is_written_as_it_was_read() -> None:
    path = ROOT / project.IMAGES / OLD / LOCK_FILE
    assert serialize.dumps(lock_of(OLD)) == path.read_text()


def test_a_custom_base_is_written_to_the_settings(facts: Catalog) -> None:
    wanted = Request(
        base="mine:1", python=Version("3.9"), torch=Version("2.0"), os="debian 11"
    )
    lock = replace(lock_of(OLD), stack=resolve(wanted, facts))
    settings = tomllib.loads(settings_text(lock, [], {}))
    assert (settings["base"], settings["os"], settings["python"]) == (
        "mine:1",
        "debian 11",
        "3.9",
    )


def test_a_requested_day_is_written_to_the_settings(facts: Catalog) -> None:
    lock = lock_of(NEW)
    assert "as-of" not in tomllib.loads(settings_text(lock, [], {}))
    day = date(2025, 3, 19)
    assert tomllib.loads(settings_text(lock, [], {}, day))["as-of"] == "2025-03-19"
    same, other = (
        Request(cuda=Version("11.7"), as_of=of) for of in (lock.stack.as_of, day)
    )
    assert objections(same, lock.stack, facts) == []
    assert objections(other, lock.stack, facts) == [
        "its packages are as of 2025-03-20, not 2025-03-19"
    ]
