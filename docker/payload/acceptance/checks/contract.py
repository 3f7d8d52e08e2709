"""Is it safe and easy to run: not as root, for any user, with room to work, in UTF-8, and with no secret in it?"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from acceptance.checks.hub_access import hub_problems
from acceptance.checks.inspection import Answer, Failure, Skipped
from acceptance.text import last_line

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection


def check_user(inspection: Inspection) -> Answer:
    """The job does not run as root."""
    return inspection.require_if_locked(
        "contract.user",
        os.getuid(),
        detail="runs as root",
        remedy="run it as the image's own user, or with `--user $(id -u):$(id -g)`",
    )


# --- room to work --------------------------------------------------------------------------------------------------


def temporary_folder() -> str:
    """Where temporary files are meant to go, whether they can or not."""
    return os.environ.get("TMPDIR", "/tmp")


def check_places(inspection: Inspection) -> Answer:
    """HOME, the temporary directory and the cache are writable, and new files belong to whoever runs it."""
    home = os.path.expanduser("~")
    places = {
        "HOME": home,
        "TMPDIR": temporary_folder(),
        "the cache": os.environ.get("HF_HOME", home),
    }
    problems = []
    for name, place in sorted(places.items()):
        problem = writing_problem(place)
        if problem:
            problems.append(f"{name} ({place}) {problem}")
    return inspection.require(
        "contract.places",
        len(problems),
        detail="; ".join(problems),
        remedy="mount a directory that this user may write, or leave HOME unset: the entrypoint makes one",
    )


def writing_problem(place: str) -> str:
    """What is wrong with a new file in a directory; empty if nothing is."""
    try:
        os.makedirs(place, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place) as stream:
            owner = os.fstat(stream.fileno()).st_uid
    except OSError as error:
        return f"is not writable: {error.strerror}"
    if owner != os.getuid():
        return "gives new files to another user"
    return ""


def check_space(inspection: Inspection) -> Answer:
    """There is room for temporary files."""
    folder = temporary_folder()
    disk = os.statvfs(folder)
    free = disk.f_frsize * disk.f_bavail
    return inspection.require(
        "contract.space",
        free,
        detail=f"{folder} has only {free >> 20} MB left",
        remedy="free some space, or set TMPDIR to a directory with room",
        unit="B",
    )


# --- text and TLS --------------------------------------------------------------------------------------------------

SAMPLE = "语é"


def check_locale(inspection: Inspection) -> Answer:
    """Python reads and writes every language."""
    script = f"print({SAMPLE!a}); open('/dev/null', 'w').write({SAMPLE!a})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode == 0 and SAMPLE.encode() in done.stdout:
        return Answer(value="UTF-8", bound="UTF-8")
    error = last_line(done.stderr.decode(errors="replace"))
    raise Failure(
        f"text is not encoded as UTF-8: {error or repr(done.stdout)}",
        value="not UTF-8",
        bound="UTF-8",
        remedy="unset LC_ALL, PYTHONIOENCODING and PYTHONUTF8, or set LC_ALL=C.UTF-8",
    )


def check_certificates(inspection: Inspection) -> Answer:
    """The CAs that TLS trusts can be read: a bundle, or a directory of them."""
    try:
        count = trusted_certificates()
    except OSError as error:
        raise Failure(
            f"the CAs cannot be read: {error}",
            value=0,
            remedy="install ca-certificates",
        ) from error
    place = (
        os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().openssl_capath
    )
    return inspection.require(
        "contract.certificates",
        count,
        detail=f"only {count} CAs are trusted ({place})",
        remedy="fix SSL_CERT_FILE, or install ca-certificates",
        findings=hub_problems(),
    )


def trusted_certificates() -> int:
    """How many CAs Python trusts. Raises `OSError`, of which `ssl.SSLError` is one."""
    count: int = ssl.create_default_context().cert_store_stats()["x509_ca"]
    folder = ssl.get_default_verify_paths().openssl_capath
    if os.environ.get("SSL_CERT_FILE") or not os.path.isdir(folder):
        return count
    return count + certificate_files(folder)


def certificate_files(folder: str) -> int:
    """OpenSSL reads a directory only when it needs a certificate, so its files are counted by their names."""
    count = 0
    for name in os.listdir(os.environ.get("SSL_CERT_DIR") or folder):
        path = os.path.join(folder, name)
        if name.endswith(".0") and os.path.exists(path):
            count += 1
    return count


# --- nothing else in the image -------------------------------------------------------------------------------------


def check_nvcc(inspection: Inspection) -> Answer:
    """A runtime image has no CUDA compiler."""
    if inspection.flavour == "devel":
        raise Skipped("this is a devel image; features.nvcc checks its compiler")
    candidates = (shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc")
    compilers = [path for path in candidates if path and os.path.exists(path)]
    return inspection.require_if_locked(
        "contract.nvcc",
        len(compilers),
        detail=f"the image has a CUDA compiler: {', '.join(compilers)}",
        remedy="start from a slim base image: torch's wheels bring CUDA",
    )


SHADOWED = ("torch", "transformers", "datasets")


def check_python_path(inspection: Inspection) -> Answer:
    """The modules that load are those of the environment: nothing shadows them."""
    for name in SHADOWED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    problems = []
    for variable in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"):
        if os.environ.get(variable):
            problems.append(f"{variable} is set")
    problems += shadowing_modules()
    return inspection.require(
        "contract.python_path",
        len(problems),
        detail="; ".join(problems),
        remedy="remove sitecustomize, PYTHONPATH or the directory that comes first",
    )


def shadowing_modules() -> Iterator[str]:
    """A line for each module that a new Python loads from elsewhere."""
    names = ", ".join(SHADOWED)
    script = f"import {names}\nfor module in ({names}): print(module.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        yield last_line(done.stderr) or "Python died"
    site_packages = sysconfig.get_paths()["purelib"]
    for path in done.stdout.split():
        if not path.startswith(site_packages):
            yield f"{path} is loaded instead"


# --- secrets -------------------------------------------------------------------------------------------------------

# The same as envbuilder looks for in labels, history and layers (envbuilder/acceptance/judge.py).
SECRET = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{32,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|https?://[^/\s:@]+:[^/\s@]+@"
)
SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIALS?)$")
# Files that are secrets by their names …
SECRET_FILES = frozenset(
    {
        ".netrc",
        ".git-credentials",
        ".pypirc",
        ".env",
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        ".bash_history",
        ".python_history",
        ".zsh_history",
    }
)
# … and files that often hold one.
CONFIGURATION_FILES = frozenset(
    {
        "pip.conf",
        "uv.toml",
        ".condarc",
        ".npmrc",
        "config.json",
        "token",
        ".bashrc",
        ".profile",
    }
)
BUILD_SECRETS = "/run/secrets"
PLACES = (
    "/root",
    "/home",
    "/opt/envbuilder",
    "/etc/pip.conf",
    "/etc/uv",
    "/workspace",
    "/app",
    "/src",
    BUILD_SECRETS,
)
MAX_CHARACTERS = 100_000  # of a file that is searched


def check_secrets(inspection: Inspection) -> Answer:
    """No token, key, credential, history or repository is in the environment or in a file."""
    findings = []
    for name, value in sorted(os.environ.items()):
        if is_secret(name, value):
            findings.append(f"the variable {name}")
    for place in PLACES:
        findings += secrets_below(Path(place))
    return inspection.require(
        "contract.secrets",
        len(findings),
        detail=f"the image contains {', '.join(findings[:5])}",
        remedy="pass it at run time or as a build secret, and rotate it: it has been exposed",
    )


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable is one, by its name or by its value."""
    if not value:
        return False
    return bool(SECRET_VARIABLE.search(name.upper()) or SECRET.search(value))


def secrets_below(place: Path) -> Iterator[str]:
    """A line for each file with a secret, and for each repository."""
    for file in files_below(place):
        if holds_secret(file):
            yield f"the file {file}"
    for folder, folders, _ in os.walk(place):
        if ".git" in folders:
            yield f"the repository {folder}"


def files_below(place: Path) -> Iterator[Path]:
    """The files of a directory, or the file itself."""
    if place.is_file():
        yield place
    for folder, _, names in os.walk(place):
        for name in names:
            yield Path(folder, name)


def holds_secret(file: Path) -> bool:
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size == 0:
            return False
        if file.name in SECRET_FILES:
            return True
        if BUILD_SECRETS in map(str, file.parents):
            return os.access(file, os.R_OK)
        return file.name in CONFIGURATION_FILES and contains_secret(file)
    except OSError:
        return False


def contains_secret(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read(MAX_CHARACTERS)
    return bool(SECRET.search(text))
