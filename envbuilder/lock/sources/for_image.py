"""A source package that is compiled while the image is built: what a lock says of it before there is a wheel."""

from dataclasses import replace

from packaging.specifiers import SpecifierSet

from envbuilder.errors import LockError
from envbuilder.lock.python_bounds import allows_python
from envbuilder.lock.sources.compiled import CompileSettings
from envbuilder.lock.sources.source_archive import SourceArchive
from envbuilder.lock.sources.source_build import BuildSystem, build_system_of
from envbuilder.lock.sources.static_metadata import StaticMetadata, static_metadata
from envbuilder.model import Source, Stack


def plan_for_image(
    source: Source, archive: SourceArchive, stack: Stack, settings: CompileSettings
) -> tuple[Source, StaticMetadata]:
    """The source as it is locked, and its metadata. Nothing of it runs. Raises `LockError` saying why it cannot be."""
    system, metadata = _read(source, archive)
    bounds = SpecifierSet(metadata.requires_python)
    if not allows_python(bounds, stack.python):
        raise LockError(
            f"{source.name} {metadata.version} needs Python {bounds}",
            hint=f"the stack has Python {stack.python}; choose another: `--python X.Y`",
        )
    prefix = source.name.upper().replace("-", "_")
    variables = {
        # Without them, setup files look for a GPU, or download a wheel that somebody has built.
        "FORCE_CUDA": "1",
        f"{prefix}_FORCE_BUILD": "TRUE",
        **dict(settings.environment_of(source.name)),
    }
    planned = replace(
        source,
        version=metadata.version,
        backend=system.backend,
        backend_path=system.backend_path,
        environment=tuple(sorted(variables.items())),
        compiled=True,
    )
    return planned, metadata


def _read(source: Source, archive: SourceArchive) -> tuple[BuildSystem, StaticMetadata]:
    try:
        system = build_system_of(archive, source.subdirectory)
        metadata = static_metadata(archive, source.subdirectory)
    except LockError as error:
        message = (
            f"{source.name} cannot be compiled from {source.archive}: {error.message}"
        )
        raise LockError(message, hint=error.hint) from error
    return system, metadata
