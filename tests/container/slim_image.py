"""A stand-in for the official `python:3.10-slim-bookworm`: Debian 12 without a compiler, and a real CPython 3.10.

It is like the official image in what matters to a build: Python is in /usr/local with links from `python3` and
`python`, PATH, PYTHON_VERSION and CMD are set, dpkg knows Debian's packages and nothing of Python, apt has its sources
in the deb822 format, and there is no compiler. Where it differs: CPython was compiled on the machine that runs the
test (pyenv), not by Docker, so that the options it was compiled with are others.
"""

import shutil
import subprocess
from pathlib import Path

REFERENCE = "python:3.10-slim-bookworm"
RELEASE = "bookworm"
_LIBRARIES = (
    "ca-certificates",
    "libbz2-1.0",
    "libffi8",
    "liblzma5",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
    "netbase",
    "tzdata",
    "zlib1g",
)
_LEFT_OUT = (
    "lib/python3.10/test",
    "lib/python3.10/idlelib",
    "lib/python3.10/config-*",
    "lib/python3.10/lib-dynload/_tkinter*",
    "lib/python3.10/tkinter",
    "lib/libpython3.10.a",
)
# apt's sources as the official image has them, with the mirror that made this image.
_SOURCES = r"""
set -eu
read -r _ mirror release rest <"$1/etc/apt/sources.list"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$release" "$keyring" \
  >"$1/etc/apt/sources.list.d/debian.sources"
rm "$1/etc/apt/sources.list"
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*
"""
_PYTHON = r"""
set -eu
root=$1 python=$2
shift 2
for part in bin include lib; do mkdir -p "$root/usr/local/$part"; cp -a "$python/$part/." "$root/usr/local/$part/"; done
cd "$root/usr/local"
rm -rf "$@"
rm -rf lib/python3.10/site-packages/*
find . -name __pycache__ -prune -exec rm -rf {} +
find bin ! -name 'python3.10' -delete 2>/dev/null || true
ln -sf python3.10 bin/python3
ln -sf python3 bin/python
chown -R 0:0 .
chroot "$root" ldconfig
chroot "$root" python3 -m ensurepip >/dev/null
ln -sf pip3 bin/pip
"""


def find_python() -> Path | None:
    """The folder of a CPython 3.10 that can be moved to /usr/local: one that pyenv has compiled here."""
    found = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
    return found[-1].parents[1] if found else None


def make_tar(target: Path, python: Path) -> None:
    """Write the root file system."""
    hooks = target.with_name("hooks")
    hooks.mkdir()
    (hooks / "sources").write_text(_SOURCES)
    (hooks / "python").write_text(_PYTHON)
    left_out = " ".join(_LEFT_OUT)
    done = subprocess.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(_LIBRARIES)}",
            f'--customize-hook=sh {hooks}/sources "$1"',
            f'--customize-hook=sh {hooks}/python "$1" {python} {left_out}',
            "--",
            RELEASE,
            str(target),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    shutil.rmtree(hooks)
    assert done.returncode == 0, done.stderr[-2000:]


def changes(version: str) -> list[str]:
    """Dockerfile instructions for the import of the tar, as the official image has them."""
    return [
        "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV LANG=C.UTF-8",
        f"ENV PYTHON_VERSION={version}",
        'CMD ["python3"]',
    ]
