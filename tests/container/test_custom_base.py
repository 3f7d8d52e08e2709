"""A custom base, checked and prepared by the first steps of the Dockerfile: what is unusual is handled or named.

Each base is a stage in front of the Dockerfile, so that no image has to be made and removed.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder.engine.buildx import find_cause
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import Lock
from envbuilder.render.context import place_of, render_context
from envbuilder.render.context_folder import write_context

from .engine import docker, envbuilder

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
BASE = "envbuilder-base:debian11"


def lock_on_custom_base(**changes: object) -> Lock:
    lock = parse_lock(PRESET.read_text(), source=str(PRESET))
    base = replace(
        lock.stack.base,
        reference="odd",
        release="",
        source="registry",
        system_packages=("ca-certificates", "g++", "libjemalloc2"),
    )
    return replace(lock, stack=replace(lock.stack, base=replace(base, **changes)))  # type: ignore[arg-type]


def build(
    folder: Path, odd: str, *checks: str, lock: Lock | None = None, last: str = ""
) -> subprocess.CompletedProcess[str]:
    """The first stage of a lock's Dockerfile on a base of these lines; `checks` must hold in it.

    `last`: a further instruction before them.
    """
    lock = lock or lock_on_custom_base()
    write_context(render_context(lock), folder)
    dockerfile = folder / place_of(lock.stack) / "Dockerfile"
    head, base, rest = dockerfile.read_text().partition("\n# --- base: ")
    stage, _, _ = rest.partition("\n# --- uv: ")
    lines = [head, "", f"FROM {BASE} AS odd", odd, base + stage, last]
    lines += [f"RUN {check}" for check in checks]
    dockerfile.write_text("\n".join(lines) + "\n")
    # What the step says is in the log only if it runs.
    again = ["--no-cache-filter", "base"]
    command = ["docker", "buildx", "build", "--progress", "plain", *again, "--file"]
    return subprocess.run(
        [*command, str(dockerfile), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_user_environment_and_loader_are_prepared(tmp_path: Path) -> None:
    odd = """RUN useradd --create-home --uid 1000 ubuntu && touch /home/ubuntu/kept \\
 && echo /usr/local/cuda/targets/x86_64-linux/lib > /etc/ld.so.conf.d/000_cuda.conf \\
 && mkdir -p /usr/local/cuda/targets/x86_64-linux/lib && cd /usr/local/cuda/targets/x86_64-linux/lib \\
 && touch libcublas.so.11.10 libcudadevrt.a && ln -s libcublas.so.11.10 libcublas.so.11
ENV PYTHONPATH=/srv PYTHONHOME=/nowhere LD_LIBRARY_PATH=/usr/local/cuda/lib64 LD_PRELOAD=/usr/lib/libfoo.so
HEALTHCHECK CMD false
SHELL ["/bin/bash", "-c"]
USER 1000"""
    done = build(
        tmp_path,
        odd,
        '[ "$(id -u):$(id -un 1000):$(id -gn 1000)" = "0:trainer:trainer" ]',
        '[ "$(getent passwd trainer | cut -d: -f6-)" = "/home/trainer:/bin/bash" ]',
        '[ "$(stat -c %U:%G /home/trainer)" = "trainer:trainer" ]',
        "[ ! -e /etc/ld.so.conf.d/000_cuda.conf ]",
        '[ "$(ls /usr/local/cuda/targets/x86_64-linux/lib)" = libcudadevrt.a ]',
        '[ -z "$PYTHONPATH$PYTHONHOME$LD_PRELOAD" ] && [ "${LD_LIBRARY_PATH%%:*}" = /usr/local/nvidia/lib ]',
    )
    assert done.returncode == 0, done.stderr
    assert "user ubuntu has UID 1000: renamed to trainer" in done.stderr


@pytest.mark.exhaustive
def test_a_user_that_is_not_in_passwd_is_no_obstacle(tmp_path: Path) -> None:
    done = build(
        tmp_path,
        "RUN groupadd --gid 1000 staff1000\nUSER 1001",
        '[ "$(id -un 1000):$(id -gn 1000)" = "trainer:staff1000" ]',
    )
    assert done.returncode == 0, done.stderr


def more(*values: str) -> object:
    """A case of a kind that `make test` shows once."""
    return pytest.param(*values, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        ("RUN rm /usr/bin/apt-get", "has no apt-get (Debian GNU/Linux 11 (bullseye))"),
        more("RUN rm /usr/bin/python3", "has no python3 in its PATH, and the lock is for Python 3.9"),
        more("RUN rm /usr/bin/python3 && printf '#!/bin/sh\\necho 3.8' > /usr/bin/python3 && chmod +x /usr/bin/python3",
         "has Python 3.8, and the lock is for 3.9"),
        more("RUN rm -r /usr/lib/python3/dist-packages/pip", "has a python3 without pip"),
        more("ENV UV_INDEX_URL=https://example.invalid/simple", "sets UV_INDEX_URL"),
    ],
)  # fmt: skip
def test_a_base_that_cannot_be_used_says_why(
    tmp_path: Path, odd: str, sentence: str
) -> None:
    done = build(tmp_path, odd)
    assert done.returncode != 0
    step_log = done.stderr.split("\n------\n")[1]
    cause = find_cause(step_log)
    assert cause is not None, step_log
    assert cause[0].startswith(f"the base image {sentence}")


@pytest.mark.exhaustive
def test_an_old_glibc_and_another_machine_are_named(tmp_path: Path) -> None:
    done = build(tmp_path / "a", "", lock=lock_on_custom_base(glibc="2.35"))
    assert "the base image has glibc 2.31 (Debian GNU/Linux 11" in done.stderr
    assert "and the locked wheels need 2.35 or newer" in done.stderr
    program = (ROOT / "docker/system/base.sh").read_text()
    words = ["docker", "run", "--rm", "--interactive", "--network", "none", BASE]
    words += ["sh", "-s", "--", "3.9", "2.31", "aarch64"]
    done = subprocess.run(
        words, input=program, capture_output=True, text=True, check=False
    )
    assert "the base image is for x86_64, and the lock is for aarch64" in done.stderr


REPOSITORY = """RUN set -e; for version in 1.0 2.0; do \\
  mkdir -p /tmp/p/DEBIAN; \\
  printf 'Package: tester\\nVersion: %s\\nArchitecture: all\\nMaintainer: x <x@example.invalid>\\nDescription: x\\n' \\
    $version > /tmp/p/DEBIAN/control; \\
  if [ $version = 1.0 ]; then place=/srv/archive/debian/20260101T000000Z; else place=/srv/now; fi; \\
  mkdir -p $place; dpkg-deb --build /tmp/p $place/tester.deb >/dev/null; \\
  { dpkg-deb --field $place/tester.deb; echo "Filename: ./tester.deb"; \\
    echo "Size: $(stat -c %s $place/tester.deb)"; \\
    echo "SHA256: $(sha256sum $place/tester.deb | cut -d' ' -f1)"; echo; \\
  } > $place/Packages; done; rm -r /tmp/p"""
ONE_LINE = """RUN printf '%s\\n' '# deb [trusted=yes] file:/srv/archive/debian/20260101T000000Z ./' \\
 'deb [trusted=yes] file:/srv/now ./' > /etc/apt/sources.list"""
DEB822 = """RUN rm /etc/apt/sources.list && printf '%s\\n' 'Types: deb' '# file:/srv/archive/debian/20260101T000000Z' \\
 'URIs: file:/srv/now' 'Suites: ./' 'Trusted: yes' > /etc/apt/sources.list.d/debian.sources"""
NO_NOTE = "RUN echo 'deb [trusted=yes] file:/srv/now ./' > /etc/apt/sources.list"
GONE = ONE_LINE + " && rm -r /srv/archive"


@pytest.mark.parametrize(
    ("sources", "version"),
    [(DEB822, "1.0"), more(ONE_LINE, "1.0"), (NO_NOTE, "2.0"), more(GONE, "2.0")],
    ids=["deb822", "one-line", "no-note", "gone"],
)
def test_system_packages_come_from_the_snapshot_of_the_base(
    tmp_path: Path, sources: str, version: str
) -> None:
    lock = lock_on_custom_base()
    lock = replace(lock, stack=replace(lock.stack, apt=("tester",)))
    place = place_of(lock.stack)
    step = f"RUN --mount=type=bind,source={place}/system,target=/system sh /system/packages.sh tester"
    done = build(
        tmp_path,
        f"{REPOSITORY}\n{sources}",
        f'[ "$(cat /opt/envbuilder/system-packages.txt)" = "tester={version}" ]',
        '[ -z "$(ls /var/lib/apt/lists)" ] && [ ! -e /var/log/dpkg.log ]',
        lock=lock,
        last=step,
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_system_package_is_named(tmp_path: Path) -> None:
    lock = lock_on_custom_base()
    lock = replace(lock, stack=replace(lock.stack, apt=("tester", "libmisspelt9")))
    place = place_of(lock.stack)
    step = (
        f"RUN --mount=type=bind,source={place}/system,target=/system "
        "sh /system/packages.sh tester libmisspelt9"
    )
    done = build(tmp_path, f"{REPOSITORY}\n{NO_NOTE}", lock=lock, last=step)
    cause = find_cause(done.stderr.split("\n------\n")[1])
    assert cause is not None
    assert cause[0] == (
        "--apt libmisspelt9: Debian GNU/Linux 11 (bullseye) cannot install a package of this name"
    )


HOSTILE = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH=/srv",
    "LD_LIBRARY_PATH=/usr/local/cuda/lib64",
    "PIP_CONSTRAINT=/nowhere",
)
CUDA_FOLDER = "/usr/local/cuda/targets/x86_64-linux/lib"
HOOKS = (
    'chroot "$1" useradd --create-home --uid 1000 ubuntu',
    f'mkdir -p "$1{CUDA_FOLDER}" && echo x > "$1{CUDA_FOLDER}/libcublas.so.11"',
    f'echo {CUDA_FOLDER} > "$1/etc/ld.so.conf.d/000_cuda.conf"',
)


@pytest.fixture
def bare_debian(tmp_path: Path) -> Iterator[str]:
    """Debian 11 without Python, as nvidia/cuda is Ubuntu without it; with what such images have in addition."""
    name = "bases.invalid/library/debian:11"
    tar = tmp_path / "base.tar"
    words = ["mmdebstrap", "--variant=minbase", "--mode=auto"]
    words += ["--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"]
    words += [f"--customize-hook={hook}" for hook in HOOKS]
    subprocess.run([*words, "bullseye", str(tar)], check=True, capture_output=True)
    changes = [f"ENV {' '.join(HOSTILE)}", "USER 1001", 'ENTRYPOINT ["/bin/echo"]']
    options = [word for change in changes for word in ("--change", change)]
    docker("import", *options, str(tar), name)
    yield name
    docker("rmi", "--force", name, check=False)


@pytest.mark.exhaustive
def test_a_base_without_python_is_built_and_accepted(
    tmp_path: Path, bare_debian: str
) -> None:
    """Minutes, and two gigabytes to download if the wheels are in no cache."""
    tag = "bases.invalid/accepted:1"
    words = ("--base", bare_debian, "--cuda", "11.7", "--apt", "libgl1", "--tag", tag)
    site = tmp_path / "site"
    site.mkdir()
    answer = envbuilder("build", *words, "--json", cwd=site, timeout=3600)
    assert answer.code == 0, answer.err
    try:
        inspected = envbuilder("inspect", tag, "--json", cwd=site).json()
        assert inspected["stack"]["evidence"] == "documented"
        assert "libgl1:amd64=1.3.2-1" in inspected["system_packages"]
        holds = [layer["holds"] for layer in inspected["layers"] if layer["size"]]
        assert holds[:2] == ["base", "system"]
        line = docker("run", "--rm", "--entrypoint", "id", tag, "-un").stdout
        assert line.strip() == "trainer"
    finally:
        docker("rmi", "--force", tag, check=False)
