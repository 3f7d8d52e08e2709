"""Does every package import?"""

from __future__ import annotations

import glob
import json
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Callable, Iterable, Iterator, Sequence, Tuple

from acceptance.checks.identity import distributions, normalize
from acceptance.checks.import_remedies import remedy_for
from acceptance.checks.inspection import Failure
from acceptance.events import parse_event
from acceptance.processes import killed_at_end
from acceptance.text import last_line

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from acceptance.checks.inspection import Answer, Inspection
    from acceptance.limits import Excuse

    Process = subprocess.Popen[str]

IMPORTER = """
import importlib, json, sys, warnings
failed, warned = {}, {}
for distribution, names in json.load(sys.stdin):
    for name in names:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                importlib.import_module(name)
            except BaseException as error:
                failed[name] = f"{type(error).__name__}: {str(error).strip()[:300]}"
        for warning in caught:
            first_line = str(warning.message).strip().split("\\n")[0]
            warned.setdefault(f"{warning.category.__name__}: {first_line[:200]}", name)
    print(json.dumps({"done": distribution}), flush=True)
print(json.dumps({"failed": failed, "warned": warned}), flush=True)
"""

Package = Tuple[
    str, Sequence[str]
]  # a distribution's name, and the modules to import of it

# Not at the top of their distribution. `train` goes without TensorBoard if this breaks, and nobody would know.
ALSO_IMPORTED = {"tensorboard": ["torch.utils.tensorboard"]}
# A bare .so may be any library.
MODULE_SUFFIXES = (".py", *(suffix for suffix in EXTENSION_SUFFIXES if suffix != ".so"))


def check_imports(inspection: Inspection) -> Answer:
    packages = sorted(map(modules, distributions()))
    imported = import_all(packages, inspection.on_progress)
    warnings = []
    if not gpu_devices():
        excuses = inspection.limits.exceptions["imports.failed"]
        warnings += take_out_excused(imported["failed"], excuses)
    problems = []
    for name, error in sorted(imported["failed"].items()):
        problems.append(f"{name}: {error}")
    for warning, name in sorted(imported["warned"].items()):
        warnings.append(f"{warning} ({name})")
    return inspection.require_if_locked(
        "imports.failed",
        len(problems),
        detail="; ".join(problems),
        remedy=remedy_for(
            imported["failed"], locked_cuda(inspection), shipped_libraries()
        )
        if problems
        else "",
        findings=warnings,
    )


def gpu_devices() -> list[str]:
    """The device files of GPUs in this container."""
    devices = glob.glob("/dev/nvidia[0-9]*")
    return devices + glob.glob("/dev/dxg")


def take_out_excused(failed: dict[str, str], excuses: Iterable[Excuse]) -> list[str]:
    """Take out of `failed` what an exception covers, by name and error; returns a line on each."""
    findings = []
    for excuse in excuses:
        for name in sorted(failed):
            error = failed[name]
            if excuse.allows(name, [error]):
                del failed[name]
                findings.append(f"{name} was not imported: {excuse.reason}")
    return findings


def shipped_libraries() -> dict[str, bool]:
    """The libraries that the installed wheels have brought by their RECORDs, and whether each is still there."""
    libraries = {}
    for distribution in distributions():
        for path in distribution.files or ():
            if ".so" in path.name:
                libraries[path.name] = Path(str(path.locate())).exists()
    return libraries


def locked_cuda(inspection: Inspection) -> str:
    """The CUDA of the lock; empty without a lock."""
    stack = inspection.lock["stack"] if inspection.lock else {}
    cuda: str = stack.get("cuda", "")
    return cuda


# --- what is imported ----------------------------------------------------------------------------------------------


def modules(distribution: Distribution) -> Package:
    name = normalize(distribution.metadata["Name"])
    return name, top_level(distribution) + ALSO_IMPORTED.get(name, [])


def top_level(distribution: Distribution) -> list[str]:
    """What a distribution puts at the top, by its RECORD: packages, modules; inside a namespace if there are none."""
    names = set()
    in_namespaces = set()
    for path in distribution.files or ():
        first, *rest = path.parts
        if not rest and first.endswith(MODULE_SUFFIXES):
            names.add(first.split(".")[0])
        elif rest == ["__init__.py"]:
            names.add(first)
        elif rest[1:] == ["__init__.py"]:
            in_namespaces.add(f"{first}.{rest[0]}")
    return sorted(filter(is_public, names or in_namespaces))


def is_public(name: str) -> bool:
    return all(
        part.isidentifier() and not part.startswith("_") for part in name.split(".")
    )


# --- importing it --------------------------------------------------------------------------------------------------


def import_all(
    packages: Sequence[Package], on_progress: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Import everything in one other Python: {"failed", "warned"}. Raises `Failure` if that Python dies of it."""
    imported: dict[str, Any] | None = None
    done = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        process = start_importer(stderr)
        with killed_at_end(process):
            for event in send(packages, process):
                if "done" in event:
                    done += 1
                    on_progress(done, len(packages), event["done"])
                elif "failed" in event:
                    imported = event
            exit_code = process.wait()
        if imported is None:
            stderr.seek(0)
            error = last_line(stderr.read())
            missing = len(packages) - done
            raise Failure(
                f"Python died (exit code {exit_code}) after {done} packages: {error}",
                value=missing,
                remedy="import the packages one by one to find which",
            )
    return imported


def start_importer(stderr: IO[str]) -> Process:
    """Its stderr is a file: a pipe would fill, and the imports would wait."""
    return subprocess.Popen(
        [sys.executable, "-W", "always", "-c", IMPORTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def send(packages: Sequence[Package], process: Process) -> Iterator[dict[str, Any]]:
    """Tell the importer what to import, and follow its events; what the packages themselves print is none."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(packages))
    process.stdin.close()
    for line in process.stdout:
        yield parse_event(line)
