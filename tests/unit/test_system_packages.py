"""`--apt`: from the command line to the stack, its Dockerfile and its settings."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import catalog, serialize
from envbuilder.acceptance.inspect_image import read_steps, read_system_packages
from envbuilder.errors import NoStackError, UsageError
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import Lock, Request, Stack
from envbuilder.render.context import place_of, render_context
from envbuilder.render.settings_file import settings_text
from envbuilder.resolve import objections, resolve
from envbuilder.resolve.command_line import command, parse_request

ROOT = Path(__file__).parents[2]
CATALOG = catalog.load()
PRESET = ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"


def request(*apt: str, **options: str) -> Request:
    return parse_request({"base": "bootstrap", **options}, (), apt)


def resolved(*apt: str, **options: str) -> Stack:
    return resolve(request(*apt, **options), CATALOG)


def locked(*apt: str) -> Lock:
    lock = parse_lock(PRESET.read_text(), source=str(PRESET))
    return replace(lock, stack=replace(lock.stack, apt=apt))


def test_system_packages_are_sorted_and_belong_to_the_stack() -> None:
    stack = resolved("libglib2.0-0", "libgl1", "libgl1", cuda="11.7")
    assert stack.apt == ("libgl1", "libglib2.0-0")
    assert stack.name == resolved(cuda="11.7").name
    wanted = request("libgl1", cuda="11.7")
    assert objections(wanted, stack, CATALOG) == [
        "its system packages are libgl1, libglib2.0-0, not libgl1"
    ]
    assert objections(request("libglib2.0-0", "libgl1"), stack, CATALOG) == []
    again = command(wanted, "lock")
    assert again == "envbuilder lock --cuda 11.7 --base bootstrap --apt libgl1"


@pytest.mark.parametrize(
    "name", ["libgl1=1.4", "a b", "-y", "LibGL", "", "a;b", "./a.deb", "libgl1:arm64"]
)
def test_only_names_of_packages_are_accepted(name: str) -> None:
    with pytest.raises(UsageError, match="a system package is a Debian name"):
        request(name)


def test_a_lock_with_a_bad_name_is_refused() -> None:
    text = serialize.dumps(locked("libgl1")).replace('"libgl1"', '"libgl1 && id"')
    with pytest.raises(UsageError, match="the name of a Debian package"):
        parse_lock(text, source="x.lock")


def test_a_package_that_a_release_dropped_has_a_successor() -> None:
    assert resolved("libgl1-mesa-glx", os="debian 12").apt == ("libgl1-mesa-glx",)
    with pytest.raises(NoStackError) as caught:
        resolved("libgl1-mesa-glx", "ffmpeg", os="debian 13")
    assert caught.value.message == (
        "--apt libgl1-mesa-glx: debian 13 no longer has it; libgl1 replaced it"
    )
    assert "--apt ffmpeg --apt libgl1`" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nvidia-driver-535", "driver belongs to the host"),
        ("libnvidia-compute-535", "driver belongs to the host"),
        ("cuda-drivers", "driver belongs to the host"),
        ("libcudnn8", "in the stack's wheels already"),
        ("nvidia-cuda-toolkit", "in the stack's wheels already"),
        ("cuda-toolkit-11-8", "in the stack's wheels already"),
    ],
)
def test_drivers_and_cuda_are_no_system_packages(name: str, reason: str) -> None:
    with pytest.raises(NoStackError, match=reason):
        resolved(name)


def test_packages_of_the_system_python_get_a_note() -> None:
    notes = resolved("python3-numpy", "python3-tk", "ffmpeg").notes
    about_python = [note for note in notes if "system's Python" in note]
    assert len(about_python) == 1
    assert about_python[0].startswith("python3-numpy is")


def test_the_dockerfile_installs_them_behind_the_large_layers() -> None:
    plain, lock = locked(), locked("libgl1", "libglib2.0-0")
    files = render_context(lock).files
    place = place_of(lock.stack)
    text = files[f"{place}/Dockerfile"]
    step = text.index("sh /system/packages.sh libgl1 libglib2.0-0\n")
    assert text.index("layers/libraries.txt") < step < text.index("layers/stack.txt")
    program = (ROOT / "docker/system/packages.sh").read_text()
    assert files[f"{place}/system/packages.sh"] == program
    without = render_context(plain).files
    assert f"{place}/system/packages.sh" not in without
    above = text[: text.index("# --- your system packages")]
    mirror = "#   --secret id=apt-mirror,src=FILE  the URL of a mirror of Debian, which ends in /debian\n"
    above = above.replace(mirror, "")
    assert without[f"{place}/Dockerfile"].startswith(above)
    assert 'dev.envbuilder.apt="libgl1 libglib2.0-0"' in text
    assert "dev.envbuilder.apt" not in without[f"{place}/Dockerfile"]
    assert serialize.dumps(plain) == PRESET.read_text()


def test_settings_of_a_new_repository_have_them() -> None:
    assert tomllib.loads(settings_text(locked("libgl1"), [], {}))["apt"] == ["libgl1"]
    assert "apt" not in tomllib.loads(settings_text(locked(), [], {}))


def test_inspect_reads_the_list_that_the_build_left() -> None:
    content = b"libgl1:amd64=1.6.0-1\nlibbsd0:amd64=0.11.7-2+b1\n\x1b[31mred\nx=$(id)\n"
    assert read_system_packages(content) == (
        "libgl1:amd64=1.6.0-1",
        "libbsd0:amd64=0.11.7-2+b1",
    )
    assert read_system_packages(b"") == ()
    history = [
        (1, "RUN /bin/sh -c useradd --create-home trainer # buildkit"),
        (2, "RUN /bin/sh -c sh /system/packages.sh libgl1 # buildkit"),
    ]
    steps = read_steps(history, ours=True)
    assert [step.holds for step in steps] == ["system", "system"]
    prepared = (3, "RUN /bin/sh -c sh /system/base.sh 3.9 2.31 x86_64 g++ # buildkit")
    steps = read_steps([(1, "a layer of the base"), prepared], ours=True)
    assert [step.holds for step in steps] == ["base", "system"]


def test_programs_of_the_system_are_sound() -> None:
    """The three programs are in the context of a custom base with system packages, and in no other."""
    lock = locked("libgl1")
    own = replace(lock.stack.base, release="")
    stack = replace(lock.stack, base=own)
    files = render_context(replace(lock, stack=stack)).files
    folder = f"{place_of(stack)}/system/"
    names = {name.removeprefix(folder) for name in files if name.startswith(folder)}
    assert names == {"base.sh", "packages.sh", "mirror.sh"}
    names = {name for name in render_context(locked()).files if "/system/" in name}
    assert names == set()
