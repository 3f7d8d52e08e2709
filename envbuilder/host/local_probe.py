"""How this machine is asked: the `Probe` for `host.collect`, made of processes, files and the engine."""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from envbuilder import processes
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import EngineError, UsageError
from envbuilder.files import read_text
from envbuilder.host.collect import Probe
from envbuilder.host.parse import NOT_FOUND, TIMED_OUT
from envbuilder.network import Network, uv_environment
from envbuilder.processes import Completed

_PATIENCE = 15.0  # seconds for each question
_SMALL_PACKAGE = "packaging"  # only its listing is read
_START_CUDA = """
import ctypes
cuda, version = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
print(cuda.cuInit(0), (cuda.cuDriverGetVersion(ctypes.byref(version)), version.value)[1])
"""


def new_probe(network: Network, catalog: Catalog) -> Probe:
    """A probe of this machine. The index is asked by uv and the registry by the engine, as in a build."""
    return Probe(
        run=_run,
        read=_read,
        names=_names,
        reach_index=partial(_reach_index, network),
        reach_registry=partial(_reach_registry, catalog, network),
        start_cuda=partial(_run, [sys.executable, "-c", _START_CUDA]),
        environ=os.environ,
        ca=str(network.ca) if network.ca else "",
    )


def _run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Completed:
    environ = dict(env or os.environ)
    environ["LC_ALL"] = "C"  # the answers are parsed
    try:
        return processes.run(argv, env=environ, timeout=_PATIENCE)
    except EngineError as error:
        not_started = isinstance(error.__cause__, OSError)
        return Completed(
            returncode=NOT_FOUND if not_started else TIMED_OUT,
            stdout="",
            stderr=error.message,
        )


def _reach_index(network: Network) -> Completed:
    import uv

    try:
        program = uv.find_uv_bin()
    except OSError as error:
        return Completed(returncode=NOT_FOUND, stdout="", stderr=str(error))
    env = {
        **uv_environment(os.environ, network),
        "UV_HTTP_TIMEOUT": "5",
        "UV_HTTP_RETRIES": "0",
    }
    argv = [
        program,
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--no-config",
        "--no-cache",
        "--no-progress",
    ]
    with (
        tempfile.TemporaryDirectory() as empty
    ):  # so that the package is not installed already
        return _run(
            [*argv, "--python", sys.executable, "--target", empty, _SMALL_PACKAGE], env
        )


def _reach_registry(catalog: Catalog, network: Network) -> Completed:
    from envbuilder.engine.docker_client import DockerEngine
    from envbuilder.engine.mirrored import mirrored_image
    from envbuilder.engine.run_id import new_run_id

    policy = catalog.policy.registry
    reference = policy.reference.format(
        python=policy.pythons[-1], release=policy.release
    )
    if network.registry_mirror:
        reference = mirrored_image(reference, network.registry_mirror)
    try:
        with DockerEngine(new_run_id(), timeout=int(_PATIENCE)) as engine:
            failure = engine.registry_failure(reference)
    except EngineError as error:
        return Completed(returncode=NOT_FOUND, stdout="", stderr=error.message)
    return Completed(returncode=1 if failure else 0, stdout="", stderr=failure or "")


def _read(path: str) -> str | None:
    try:
        return read_text(Path(path), errors="replace")
    except UsageError:
        return None


def _names(folder: str) -> Sequence[str]:
    try:
        return sorted(entry.name for entry in Path(folder).iterdir())
    except OSError:
        return ()
