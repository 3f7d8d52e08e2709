"""Making a minimal base image from Debian's packages with mmdebstrap, where no registry has one. The plan is pure."""

from pathlib import Path

from envbuilder.model import Base

# What no training job reads: documentation, translations, and the static and sanitizer libraries that g++ brings.
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
_EMPTIED = (
    "/var/lib/apt/lists/*",
    "/var/cache/apt/*",
    "/var/cache/debconf/*-old",
    "/var/log/*",
    "/var/cache/ldconfig/*",
)
LABEL = "dev.envbuilder.base"
"""What a base was asked to hold: a base of this name that an older envbuilder made may lack something."""


def contents(base: Base) -> str:
    """The value of `LABEL`."""
    return " ".join(base.system_packages)


def changes(base: Base) -> list[str]:
    """Dockerfile instructions for the import of the tar."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return [f"ENV PATH={path}", 'CMD ["bash"]', f'LABEL {LABEL}="{contents(base)}"']


def bootstrap_argv(base: Base, target: Path) -> list[str]:
    """The mmdebstrap command that writes the base as a tar; it asks the mirror that this machine's apt uses."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    argv = ["mmdebstrap", "--variant=minbase", "--mode=auto", f"--keyring={keyring}"]
    argv += ['--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    argv += [f"--dpkgopt=path-exclude={glob}" for glob in _LEFT_OUT]
    argv += [f"--dpkgopt=path-include={glob}" for glob in _KEPT]
    argv += [f"--include={','.join(base.system_packages)}"]
    argv += ["--customize-hook=chroot \"$1\" sh -c 'rm -rf {}'".format(" ".join(_EMPTIED))]
    return [*argv, "--", base.release, str(target)]
