"""Building a minimal base image from Debian packages with mmdebstrap, if no registry has one. The plan is pure."""

import os
from collections.abc import Mapping
from pathlib import Path

from envbuilder.engine.mirrored import APT_CA_VARIABLE, APT_VARIABLE, apt_hooks
from envbuilder.model import Base
from envbuilder.network import Network

# No training job needs these: documentation, translations, and the static and sanitizer libraries of g++.
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/lib/gcc/*/*/lto*",
    "/usr/lib/gcc/*/*/lib*san*",
    "/usr/lib/*/lib*san.so*",
    "/usr/lib/*/libpython*.a",
    "/usr/lib/python3*/config-*/libpython*.a",
)
_KEPT = ("/usr/share/doc/*/copyright",)
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_EMPTIED = (
    "/var/lib/apt/lists/*",
    "/var/cache/apt/*",
    "/var/cache/debconf/*-old",
    "/var/log/*",
    "/var/cache/ldconfig/*",
)
LONGEST = 1800.0
"""Seconds for making a base: it downloads 90 MB, possibly on a slow line."""
_APT = (
    'Apt::Install-Recommends "false"',
    'Acquire::Languages "none"',
    # Give up a stalled server after a minute.
    'Acquire::http::Timeout "30"',
    'Acquire::https::Timeout "30"',
    'Acquire::Retries "1"',
)
LABEL = "dev.envbuilder.base"
"""Label with the packages in a base: one of the same name from an older envbuilder may lack some."""


def contents(base: Base) -> str:
    """The value of `LABEL`."""
    return " ".join(base.system_packages)


def changes(base: Base) -> list[str]:
    """Dockerfile instructions for the import of the tar."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return [f"ENV PATH={path}", 'CMD ["bash"]', f'LABEL {LABEL}="{contents(base)}"']


def environment(
    environ: Mapping[str, str], folder: Path, network: Network | None = None
) -> dict[str, str]:
    """The environment of mmdebstrap: its unfinished file system is in `folder`, so that a later run can remove it.

    Without root it works as another user, who cannot enter that folder.
    """
    env = dict(environ)
    if network and network.apt_mirror:
        env[APT_VARIABLE] = network.apt_mirror
        env[APT_CA_VARIABLE] = str(network.ca or "")
    if os.geteuid() != 0:
        return env
    folder.chmod(0o711)  # apt downloads as a user of its own
    return {**env, "TMPDIR": str(folder)}


def bootstrap_argv(
    base: Base, target: Path, network: Network | None = None
) -> list[str]:
    """The mmdebstrap command that writes the base as a tar.

    It uses the mirror of this machine's apt, or the one in `environment`, whose address is not in the command.
    """
    argv = ["mmdebstrap", "--variant=minbase", "--mode=auto", f"--keyring={_KEYRING}"]
    for line in _APT:
        argv.append(f"--aptopt={line}")
    for glob in _LEFT_OUT:
        argv.append(f"--dpkgopt=path-exclude={glob}")
    for glob in _KEPT:
        argv.append(f"--dpkgopt=path-include={glob}")
    if network and network.apt_mirror:
        argv += apt_hooks()
    packages = ",".join(base.system_packages)
    emptied = " ".join(_EMPTIED)
    argv.append(f"--include={packages}")
    argv.append(f"--customize-hook=chroot \"$1\" sh -c 'rm -rf {emptied}'")
    return [*argv, "--", base.release, str(target)]
