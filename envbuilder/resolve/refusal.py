"""What the catalog knows of each option's values: an unknown version is told from one that cannot be."""

from collections.abc import Iterable, Iterator

from packaging.version import Version

from envbuilder.catalog.gpus import alike_gpus, driver_text, find_gpus, is_capability
from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request
from envbuilder.resolve.candidates import covers
from envbuilder.resolve.rules import (
    cuda_meant,
    find_system,
    has_apt,
    jetson_objects,
    newest_transformers,
    no_apt,
    oldest_transformers,
    releases_meant,
)

_REFRESH = "a newer envbuilder may know more, or its checkout's `.venv/bin/python tools/refresh_catalog.py --help`"


def known(option: str, catalog: Catalog) -> list[str]:
    """Every value of an option that the catalog knows, as people say it; oldest first."""
    if option == "gpu":
        return [name for row in reversed(catalog.gpus) for name in (str(row.capability), *row.names)]
    if option == "os":
        return [name for row in catalog.systems for name in (row.os, row.release) if name]
    return [str(version) for version in known_versions(option, catalog)]


def known_versions(option: str, catalog: Catalog) -> list[Version]:
    """Every version of `option` that the catalog knows, oldest first."""
    found: set[Version]
    if option == "python":
        found = {python for build in catalog.torch for python in build.pythons} | {*catalog.policy.registry.pythons}
    elif option == "transformers":
        found = {row.newest for row in catalog.transformers}
    else:
        found = {getattr(build, option) for build in catalog.torch}
    if option == "cuda":
        found |= {row.release for row in catalog.runtimes}
        found |= {row.runtime for row in catalog.runtimes if row.runtime}
    return sorted(found)


def unknown(option: str, request: Request, catalog: Catalog) -> str | None:
    """Why the catalog cannot judge an option's value; None if it can. Unknown is not incompatible."""
    value = getattr(request, option)
    if value is None or option in ("driver", "base", "flavour", "platform", "as_of"):
        return None
    if option == "gpu":
        return _unknown_gpu(value, catalog)
    if option == "os":
        is_known = value in known(option, catalog)
        return None if is_known else _text(option, value, known(option, catalog), catalog)
    return _unknown_version(option, value, catalog)


def _unknown_version(option: str, value: Version, catalog: Catalog) -> str | None:
    versions, line = known_versions(option, catalog), value.release[:2]
    if option == "transformers":
        oldest, newest = oldest_transformers(catalog), newest_transformers(catalog)
        is_known = value.release <= newest.release[: len(value.release)] and releases_meant(value, catalog)
        return None if is_known else _text(option, value, [f"{oldest} to {newest}"], catalog)
    if any(covers(value, version) for version in versions):
        return None
    if option == "python" and any(version.release == line for version in versions):
        short = f"{line[0]}.{line[1]}"
        return f"python {value} names a patch release, which the base decides: ask for {short}"
    alike = [version for version in versions if version.release[:2] == line]
    lines = [f"{version.major}.{version.minor}" for version in versions] if option in ("cuda", "cudnn") else versions
    return _text(option, value, alike or lines, catalog)


def _text(option: str, value: object, listed: Iterable[object], catalog: Catalog) -> str:
    names = ", ".join(dict.fromkeys(map(str, listed)))
    return f"{option} {value} is unknown to the catalog of {catalog.date}; it knows {names}; {_REFRESH}"


def _unknown_gpu(said: str, catalog: Catalog) -> str | None:
    rows = find_gpus(said, catalog)
    if len(rows) == 1:
        return None
    if rows:
        meant = " or ".join(f"{row.architecture} ({row.capability})" for row in rows)
        return f"gpu {said} can mean {meant}: say which by its compute capability"
    if is_capability(said):
        return _text("gpu", said, reversed([row.capability for row in catalog.gpus]), catalog)
    return _text("gpu", said, alike_gpus(said, catalog) or ["many others; a compute capability says it too"], catalog)


def impossible(option: str, request: Request, catalog: Catalog) -> Iterator[str]:
    """Why an option that the catalog knows cannot be had with anything; nothing if that is not its own fault."""
    value, builds = getattr(request, option), catalog.torch
    if option == "cuda" and not cuda_meant(value, catalog):
        row = next((row for row in catalog.runtimes if covers(value, row.release) or value == row.runtime), None)
        made = ", ".join(f"{line[0]}.{line[1]}" for line in sorted({build.cuda.release[:2] for build in builds}))
        if row:
            yield f"CUDA {value} exists ({row.source}); torch in this catalog is built for {made} only"
    elif option == "python":
        yield from _impossible_python(value, catalog)
    elif option == "gpu":
        gpu = find_gpus(value, catalog)[0]
        if jetson := jetson_objects(value, gpu, request.platform, catalog):
            yield jetson
            return
        lists = [(*build.arch_list, *build.arch_list_arm64, *build.ptx) for build in builds]
        archs = dict.fromkeys(arch for archs in lists for arch in archs)
        yield (
            f"{value} is {gpu.architecture}, compute capability {gpu.capability} ({gpu.source}): "
            f"no torch in this catalog has kernels for it; there are some for {' '.join(archs)}"
        )
    elif option == "driver":
        oldest = min(builds, key=lambda build: Version(build.driver_floor))
        yield (
            f"driver {driver_text(value)} is too old for any torch in this catalog: "
            f"CUDA {oldest.cuda} needs the oldest, {oldest.driver_floor} ({oldest.source})"
        )
    elif option == "as_of":
        oldest = min(builds, key=lambda build: build.released)
        yield f"the oldest torch in this catalog, {oldest.torch}, was released on {oldest.released}"
    elif option == "os":
        registry, system = catalog.policy.registry, find_system(value, catalog)
        yield (
            no_apt(system)
            if system and not has_apt(system)
            else f"no base of {value} is known: the official images taken here are of {registry.release} "
            f"({registry.source}); an image of your own may do, by --base and --python"
        )


def _impossible_python(value: Version, catalog: Catalog) -> Iterator[str]:
    build = max(
        (row for row in catalog.torch if any(covers(value, python) for python in row.pythons)),
        key=lambda row: row.torch,
        default=None,
    )
    if build is None:
        yield f"no torch in this catalog has wheels for Python {value}"
        return
    registry = catalog.policy.registry
    yield f"torch {build.torch} has wheels for Python {value} ({build.source})"
    yield (
        f"no base here has it: the official images are there for {', '.join(map(str, registry.pythons))} "
        f"({registry.source}); one of your own may do, by --base and --python"
    )
