#!/usr/bin/env python3
"""Install locked wheels into /opt/venv while an image is built, leave out what nothing at run time needs.

    wheels.py REQUIREMENTS [MODULE …]

Mounted into the build, never copied into the image. uv installs exactly the hashed wheels of REQUIREMENTS; the way to
the index comes from build secrets (`ca`, `netrc`, `index`, `torch-index`), each optional, none of which reaches a
layer. `torch-index` takes the place of the pages of PyTorch's own index that REQUIREMENTS names. Then the globs of
trim.txt are applied to what was just installed and each RECORD is rewritten to what is really there. Every file gets
the same date, and MODULEs are imported once to leave the byte-code that a training needs.
Runs on the image's own Python, 3.8 or later; standard library only.
"""

import base64
import csv
import fnmatch
import hashlib
import os
import re
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

VENV = Path(os.environ.get("VIRTUAL_ENV", "/opt/venv"))
SECRETS = Path("/run/secrets")
WORTH_STRIPPING = 100000  # bytes
PT_LOAD = 1
EPOCH = 315532800  # 1980-01-01, the oldest date a zip archive can hold
TRIM = Path(__file__).with_name("trim.txt")
FIND_LINKS = "--find-links "
FLAT = "find-links+"  # in front of the address of one page with all files
TAG = re.compile(r"cpu|xpu|cu[0-9]{2,3}|rocm[0-9.]+")
LOCAL_VERSION = re.compile(r"(torch|torchaudio|torchvision)==[^ +]+\+([a-z0-9.]+) ")


def uv_environment():
    """This environment plus what the secrets add."""
    env = dict(os.environ, UV_NO_CONFIG="1", UV_LINK_MODE="copy", UV_HTTP_TIMEOUT="300")
    if (SECRETS / "ca").is_file():
        env["SSL_CERT_FILE"] = str(SECRETS / "ca")
    if (SECRETS / "netrc").is_file():
        env["NETRC"] = str(SECRETS / "netrc")
    if (SECRETS / "index").is_file():
        env["UV_DEFAULT_INDEX"] = (SECRETS / "index").read_text().strip()
    return env


def mirrored(text, address):
    """Requirements without the pages of PyTorch's own index, and the variables that name those of a mirror to uv."""
    kept, projects, tag = [], set(), ""
    for line in text.splitlines(keepends=True):
        if line.startswith(FIND_LINKS):
            projects.add(line.split("/")[-2])
            continue
        kept.append(line)
        local = LOCAL_VERSION.match(line)
        if local:
            projects.add(local[1])
            tag = local[2]
    if not projects:
        return text, {}
    if address.startswith(FLAT):
        # Links of a page can be relative to its folder: one that is named with a slash is asked with it.
        slash = "/" if address.endswith("/") else ""
        pages = [address_for(address[len(FLAT) :], tag) + slash]
    else:
        url = address_for(address, tag)
        pages = [f"{url}/{project}/" for project in sorted(projects)]
    return "".join(kept), {"UV_FIND_LINKS": ",".join(pages)}


def address_for(url, tag):
    """As in `envbuilder/lock/torch_index.py`: `{tag}` is replaced, else `/cu118` appended where it is missing."""
    url = url.rstrip("/")
    if "{tag}" in url:
        return url.replace("{tag}", tag)
    last = url.rpartition("/")[2]
    if TAG.fullmatch(last) or last == "simple" or last.endswith((".html", ".htm")):
        return url
    return f"{url}/{tag}"


def site_packages():
    return next((VENV / "lib").glob("python3.*/site-packages"))


def install(requirements):
    """Create the environment if need be and install; returns the dist-info folders that are new."""
    env = uv_environment()
    if not (VENV / "bin" / "python").exists():
        python = os.path.realpath(sys.executable)
        subprocess.run(
            ["uv", "venv", "--quiet", "--python", python, str(VENV)],
            env=env,
            check=True,
        )
    before = set(site_packages().glob("*.dist-info"))
    command = ["uv", "pip", "install", "--no-deps", "--require-hashes"]
    command += ["--python", str(VENV / "bin" / "python"), "--requirements"]
    mirror = SECRETS / "torch-index"
    address = mirror.read_text().strip() if mirror.is_file() else ""
    if address:
        text, variables = mirrored(requirements.read_text(), address)
        env.update(variables)
        # uv would ask the pages in the file as well.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "requirements.txt")
            path.write_text(text, encoding="utf-8")
            subprocess.run([*command, str(path)], env=env, check=True)
    else:
        subprocess.run([*command, str(requirements)], env=env, check=True)
    return sorted(set(site_packages().glob("*.dist-info")) - before)


def rules():
    """trim.txt as (action, glob) pairs: `remove GLOB`, `strip GLOB` or `keep GLOB`; `#` starts a reason."""
    lines = (line.split("#", 1)[0].split() for line in TRIM.read_text().splitlines())
    return [(words[0], words[1]) for words in lines if words]


def trim(dist_info, actions):
    """Apply the rules to one distribution; returns the bytes saved."""
    record = dist_info / "RECORD"
    with record.open(newline="") as stream:
        rows = list(csv.reader(stream))
    kept, stripped, saved = [], [], 0
    for row in rows:
        path = dist_info.parent / row[0]
        action = next(
            (verb for verb, glob in actions if fnmatch.fnmatchcase(row[0], glob)),
            "keep",
        )
        if action == "remove" and path.is_file():
            saved += path.stat().st_size
            path.unlink()
            continue
        if action == "strip" and path.stat().st_size > WORTH_STRIPPING:
            stripped.append(row)
        kept.append(row)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        saved += sum(
            pool.map(lambda row: strip(dist_info.parent / row[0], row), stripped)
        )
    if saved:
        with record.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(kept)
    return saved + link_twins(dist_info.parent, kept)


def strip(path, row):
    """Drop a library's symbol table and bring its RECORD row up to date; returns the bytes saved.

    strip breaks files that patchelf has rewritten: it moves segments off their page. Such a file stays as it was.
    """
    stripped = path.with_name(path.name + ".stripped")
    subprocess.run(
        ["strip", "--strip-unneeded", "-o", str(stripped), str(path)], check=True
    )
    size = path.stat().st_size
    if not is_loadable(stripped):
        stripped.unlink()
        return 0
    stripped.replace(path)
    row[1:] = ["sha256=" + digest(path), str(path.stat().st_size)]
    return size - path.stat().st_size


def is_loadable(path):
    """Whether the loader would map every segment: its place in the file and in memory agree (elf(5), PT_LOAD)."""
    with path.open("rb") as stream:
        header = stream.read(64)
        start, size, count = (
            struct.unpack_from("<Q", header, 32)[0],
            *struct.unpack_from("<HH", header, 54),
        )
        stream.seek(start)
        table = stream.read(size * count)
    for number in range(count):
        kind, _, offset, address, _, _, _, align = struct.unpack_from(
            "<IIQQQQQQ", table, number * size
        )
        if kind == PT_LOAD and (address - offset) % max(align, 1):
            return False
    return True


def link_twins(root, rows):
    """Files of one distribution with the same content become one file: wheels hold no links and repeat libraries."""
    first, saved = {}, 0
    for name, sha, size in rows:
        if not sha or int(size or 0) < WORTH_STRIPPING:
            continue
        if sha in first:
            (root / name).unlink()
            os.link(str(root / first[sha]), str(root / name))
            saved += int(size)
        first.setdefault(sha, name)
    return saved


def digest(path):
    """The file's sha256 as RECORD writes it: URL-safe base64 without padding (PEP 376, 427)."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return base64.urlsafe_b64encode(sha.digest()).rstrip(b"=").decode()


def settle(dist_info):
    """Date every file of a distribution alike: byte-code names its source's date, and so is the same every time."""
    with (dist_info / "RECORD").open(newline="") as stream:
        for row in csv.reader(stream):
            path = dist_info.parent / row[0]
            if path.is_file():
                os.utime(str(path), (EPOCH, EPOCH))


def warm(modules):
    """Import modules in one go; what breaks here is for the acceptance suite to tell, which says what and why."""
    if modules:
        with tempfile.TemporaryDirectory() as home:
            env = dict(os.environ, HOME=home, PYTHONHASHSEED="0")
            script = "import " + ", ".join(modules)
            subprocess.run(
                [str(VENV / "bin" / "python"), "-W", "ignore", "-c", script],
                env=env,
                check=False,
            )


def main():
    new = install(Path(sys.argv[1]))
    saved = sum(trim(dist_info, rules()) for dist_info in new)
    for dist_info in new:
        settle(dist_info)
    warm(sys.argv[2:])
    print(
        f"{len(new)} packages installed, {saved / 1e6:.0f} MB left out", file=sys.stderr
    )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
