"""Is it safe and easy to run: not as root, for any user, with room to work, in UTF-8, and with no secret in it?"""

import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile

from acceptance.checks.inspection import Failure, NotRun

_ASK = "run it as the image's own user, or with `--user $(id -u):$(id -g)`"


def check_user(inspection):
    """The job does not run as root."""
    return inspection.hold("contract.user", os.getuid(), "it runs as root", _ASK)


def temporary_folder():
    """Where temporary files are meant to go, whether they can or not."""
    return os.environ.get("TMPDIR", "/tmp")


def check_places(inspection):
    """HOME, the temporary folder and the cache can be written, and what is written belongs to whoever runs it."""
    home = os.path.expanduser("~")
    places = {"HOME": home, "TMPDIR": temporary_folder(), "the cache": os.environ.get("HF_HOME", home)}
    wrong = []
    for name, place in sorted(places.items()):
        try:
            os.makedirs(place, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place) as stream:
                if os.fstat(stream.fileno()).st_uid != os.getuid():
                    wrong.append("what is written to %s (%s) belongs to another" % (name, place))
        except OSError as error:
            wrong.append("%s (%s) cannot be written: %s" % (name, place, error.strerror))
    remedy = "mount a folder that this user may write, or leave HOME unset: the entrypoint makes one"
    return inspection.judge("contract.places", len(wrong), "; ".join(wrong), remedy)


def check_space(inspection):
    """There is room for temporary files."""
    found = os.statvfs(temporary_folder())
    free = found.f_frsize * found.f_bavail
    detail = "%s has %d MB left" % (temporary_folder(), free >> 20)
    remedy = "make room, or set TMPDIR to a folder with room"
    return inspection.judge("contract.space", free, detail, remedy, unit="B")


def check_locale(inspection):
    """Python reads and writes every language."""
    done = subprocess.run(
        [sys.executable, "-c", "print('\\u8bed\\xe9'); open('/dev/null', 'w').write('\\u8bed')"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0 or "语é".encode() not in done.stdout:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [repr(done.stdout)])[-1]
        remedy = "unset LC_ALL, PYTHONIOENCODING and PYTHONUTF8, or set LC_ALL=C.UTF-8"
        raise Failure(value="not UTF-8", bound="UTF-8", detail="text breaks: " + last[:200], remedy=remedy)
    return {"value": "UTF-8", "bound": "UTF-8"}


def check_certificates(inspection):
    """The CAs that TLS trusts can be read: a bundle, or a folder of them."""
    places = ssl.get_default_verify_paths()
    try:
        found = ssl.create_default_context().cert_store_stats()["x509_ca"]
        if not os.environ.get("SSL_CERT_FILE") and os.path.isdir(places.openssl_capath):
            names = os.listdir(os.environ.get("SSL_CERT_DIR") or places.openssl_capath)
            found += sum(
                os.path.exists(os.path.join(places.openssl_capath, name)) for name in names if name[-2:] == ".0"
            )
    except (ssl.SSLError, OSError) as error:
        raise Failure(value=0, detail="the CAs cannot be read: %s" % error, remedy="install ca-certificates") from error
    detail = "only %d CAs are trusted (%s)" % (found, os.environ.get("SSL_CERT_FILE") or places.openssl_capath)
    return inspection.judge("contract.certificates", found, detail, "mend SSL_CERT_FILE, or install ca-certificates")


def check_nvcc(inspection):
    """A runtime image has no CUDA compiler."""
    if inspection.flavour == "devel":
        raise NotRun("this is a devel image: whether its compiler works is another check")
    found = [path for path in (shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc") if path and os.path.exists(path)]
    detail = "there is a CUDA compiler: " + ", ".join(found)
    return inspection.hold("contract.nvcc", len(found), detail, "start from a slim base: torch's wheels bring CUDA")


def check_python_path(inspection):
    """The modules that load are those of the environment: nothing shadows them."""
    for name in ("torch", "transformers", "datasets"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError("No module named %r" % name, name=name)
    wrong = ["%s is set" % name for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP") if os.environ.get(name)]
    script = (
        "import torch, transformers, datasets as d; print(torch.__file__, transformers.__file__, d.__file__, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
    here = sysconfig.get_paths()["purelib"]
    if done.returncode != 0:
        wrong.append((done.stderr.strip().splitlines() or ["Python died"])[-1][:200])
    wrong += ["%s is loaded" % path for path in done.stdout.split() if not path.startswith(here)]
    remedy = "take out sitecustomize, PYTHONPATH or the folder that comes first"
    return inspection.judge("contract.python_path", len(wrong), "; ".join(wrong), remedy)


SECRET = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{32,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|https?://[^/\s:@]+:[^/\s@]+@"
)
_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIALS?)$")
_FILES = (".netrc", ".git-credentials", ".pypirc", ".env", "id_rsa", "id_ed25519", ".bash_history", ".python_history")
_READ = ("pip.conf", "uv.toml", ".condarc", ".npmrc", "config.json", "token", ".bashrc", ".profile")
_ROOTS = ("/root", "/home", "/opt/envbuilder", "/etc/pip.conf", "/etc/uv", "/workspace", "/app", "/src", "/run/secrets")
_MOST = 100000  # bytes of a file to look at


def check_secrets(inspection):
    """No token, key, credential, history or repository is in the environment or in a file."""
    found = ["the variable %s" % name for name, value in sorted(os.environ.items()) if is_secret(name, value)]
    for root in _ROOTS:
        found += ["the file " + path for path in files_below(root) if holds_secret(path)]
        found += ["the repository " + folder for folder, folders, _ in os.walk(root) if ".git" in folders]
    remedy = "pass it when the container starts, or as a build secret; then change it, for this image has been built"
    return inspection.judge("contract.secrets", len(found), "in the image: " + ", ".join(found[:5]), remedy)


def is_secret(name, value):
    return bool(value) and bool(_NAME.search(name.upper()) or SECRET.search(value))


def files_below(root):
    if os.path.isfile(root):
        return [root]
    return [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]


def holds_secret(path):
    name = os.path.basename(path)
    try:
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) == 0:
            return False
        if name in _FILES:
            return True
        if name not in _READ and not path.startswith("/run/secrets"):
            return False
        with open(path, encoding="utf-8", errors="replace") as stream:
            return bool(SECRET.search(stream.read(_MOST))) or path.startswith("/run/secrets")
    except OSError:
        return False
