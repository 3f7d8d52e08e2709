"""Facts (JSON, written by `tools/refresh_*.py`) and policy (TOML, written by people), parsed once.

A custom catalog can be merged into them: `facts/*.json` there replaces rows by their key or adds some, `policy.toml`
overrides keys. What the resolver does not need is read only by the function that gives it.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from envbuilder import grammar, serialize
from envbuilder.catalog import companions, observations, rows
from envbuilder.catalog.rows import Catalog, Policy
from envbuilder.errors import CatalogError
from envbuilder.files import exists, is_folder, read_bytes, read_text
from envbuilder.grammar import JsonObject

FOLDER = Path(__file__).parent
_HINT = "install the package `torch-envbuilder` again"
_OWN_HINT = "fix it: a custom catalog has files like the built-in one, `facts/*.json` and `policy.toml`"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """A file of facts: its rows and what tells them apart."""

    file: str
    row: type[T]
    key: tuple[str, ...]


TORCH = Table("torch.json", rows.TorchBuild, ("torch", "index"))
TRANSFORMERS = Table("transformers.json", rows.TransformersCompat, ("torch", "python"))
GPUS = Table("gpus.json", rows.Gpu, ("capability",))
GPU_NAMES = Table("gpu_names.json", rows.GpuNames, ("capability", "about"))
GPU_FEATURES = Table("gpu_features.json", rows.GpuFeature, ("feature",))
LEAST_VERSIONS = Table("least_versions.json", rows.LeastVersion, ("program",))
RELEASES = Table(
    "transformers_releases.json", rows.TransformersRelease, ("transformers",)
)
SYSTEMS = Table("systems.json", rows.System, ("os",))
TOOLKITS = Table("toolkits.json", rows.Toolkit, ("cuda",))
COMPATIBILITY = Table("compatibility.json", rows.Compatibility, ("kind", "subject"))
RUNTIMES = Table("runtimes.json", rows.CudaRuntime, ("release",))
ADVISORIES = Table("advisories.json", rows.Advisory, ("id",))
IMAGES = Table("nvidia_images.json", observations.CudaImage, ("cuda", "os"))
WHEELS = Table("wheels.json", observations.Wheels, ("package", "version"))
RUNS = Table(
    "transformers_runs.json", observations.Run, ("torch", "python", "transformers")
)
ARCHITECTURES = Table("architectures.json", observations.ArchChange, ("cuda",))
STATEMENTS = Table("statements.json", observations.Statement, ("topic", "says"))
GONE_PACKAGES = Table("gone_packages.json", observations.GonePackage, ("package",))
SYSTEM_LIBRARIES = Table(
    "system_libraries.json", observations.SystemLibrary, ("soname",)
)
COMPANIONS = Table("companions.json", companions.Companion, ("name", "first"))
TABLES: tuple[Table[Any], ...] = (
    TORCH, TRANSFORMERS, RELEASES, GPUS, GPU_NAMES, GPU_FEATURES, SYSTEMS, TOOLKITS, COMPATIBILITY, ADVISORIES,
    RUNTIMES, LEAST_VERSIONS, IMAGES, WHEELS, RUNS, ARCHITECTURES, STATEMENTS, GONE_PACKAGES,
    SYSTEM_LIBRARIES, COMPANIONS,
)  # fmt: skip


def load(folder: Path = FOLDER, own: Path | None = None) -> Catalog:
    """The catalog in `folder`, under the rows and keys of `own`. Raises `CatalogError` naming file, row and field."""
    if own is not None:
        _check_own(own)
    torch = _lines(TORCH, folder, own)
    return Catalog(
        date=max((line.day for line in torch), default=date.min),
        torch=_converted(TORCH, torch),
        transformers=read(TRANSFORMERS, folder, own),
        transformers_releases=read(RELEASES, folder, own),
        gpus=read(GPUS, folder, own),
        gpu_names=read(GPU_NAMES, folder, own),
        gpu_features=read(GPU_FEATURES, folder, own),
        least_versions=read(LEAST_VERSIONS, folder, own),
        policy=_policy(folder, own),
        systems=read(SYSTEMS, folder, own),
        toolkits=read(TOOLKITS, folder, own),
        compatibility=read(COMPATIBILITY, folder, own),
        advisories=read(ADVISORIES, folder, own),
        runtimes=read(RUNTIMES, folder, own),
        own=str(own or ""),
    )


def load_images(
    folder: Path = FOLDER, own: Path | None = None
) -> tuple[observations.CudaImage, ...]:
    """Every tag of nvidia/cuda that is or was known, by CUDA and system."""
    return read(IMAGES, folder, own)


def load_companions(
    folder: Path = FOLDER, own: Path | None = None
) -> tuple[companions.Companion, ...]:
    """What is known of packages that are bound to torch, CUDA or the GPU; the releases of each, oldest first."""
    return read(COMPANIONS, folder, own)


def own_folder(catalog: Catalog) -> Path | None:
    """The folder of the user's own rows that are merged into a catalog."""
    return Path(catalog.own) if catalog.own else None


def load_rulings(folder: Path = FOLDER) -> tuple[rows.Ruling, ...]:
    """What people decided where sources contradict each other."""
    path = folder / "rulings.toml"
    document = _toml(path, _HINT)
    try:
        return msgspec.convert(
            document["rulings"],
            tuple[rows.Ruling, ...],
            dec_hook=serialize.from_plain,
        )
    except (KeyError, msgspec.ValidationError) as error:
        reason = grammar.explained(str(error))
        raise CatalogError(f"{path.name}: {reason}", hint=_HINT) from error


def read(
    table: Table[T], folder: Path = FOLDER, own: Path | None = None
) -> tuple[T, ...]:
    """The rows of one table; those of `own` replace rows with the same key, or come after them."""
    return _converted(table, _lines(table, folder, own))


def written(
    table: Table[Any], folder: Path = FOLDER, own: Path | None = None
) -> list[dict[str, Any]]:
    """The rows of one table as they stand in the files."""
    return [line.row for line in _lines(table, folder, own)]


# --- files ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """A row as it stands in its file, and where."""

    row: dict[str, Any]
    day: date
    where: str
    hint: str


def _path(table: Table[Any], folder: Path) -> Path:
    return folder / "facts" / table.file


def _key(table: Table[Any], row: JsonObject) -> tuple[str, ...]:
    return tuple(str(row.get(name)) for name in table.key)


def _document(
    table: Table[Any], folder: Path, hint: str
) -> tuple[list[dict[str, Any]], date]:
    """The rows of a file, and the day on which they were checked."""
    path = _path(table, folder)
    content = read_bytes(path, error=CatalogError, hint=hint)
    try:
        document = msgspec.json.decode(content)
        rows = document["rows"]
        day = date.fromisoformat(document["date"])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("rows must be a list of objects")
    except (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        msgspec.MsgspecError,
    ) as error:
        raise CatalogError(f"{path} cannot be read: {error}", hint=hint) from error
    return rows, day


def _lines(table: Table[Any], folder: Path, own: Path | None) -> list[_Line]:
    """The rows of a table; a row of the custom catalog takes the place of the one with its key."""
    lines = list(_read_lines(table, folder, _HINT))
    if own is None:
        return lines
    if not exists(_path(table, own)):
        return lines
    lines += _read_lines(table, own, _OWN_HINT)
    by_key = {}
    for line in lines:
        key = _key(table, line.row)
        by_key[key] = line
    return list(by_key.values())


def _read_lines(table: Table[Any], folder: Path, hint: str) -> Iterator[_Line]:
    rows, day = _document(table, folder, hint)
    count = len(rows)
    name = table.file
    if folder != FOLDER:
        path = _path(table, folder)
        name = str(path)
    for number, row in enumerate(rows, 1):
        dated_row = {"checked": day, **row}
        yield _Line(
            dated_row,
            day,
            f"{name}, row {number} of {count}",
            hint,
        )


def _converted(table: Table[T], lines: Sequence[_Line]) -> tuple[T, ...]:
    rows_type = tuple[table.row, ...]  # type: ignore[name-defined]
    rows = [line.row for line in lines]
    try:
        return msgspec.convert(rows, rows_type, dec_hook=serialize.from_plain)
    except msgspec.ValidationError as error:
        raise _row_error(lines, grammar.explained(str(error))) from error


def _row_error(lines: Sequence[_Line], message: str) -> CatalogError:
    """msgspec counts rows, as in `at $[12].cuda`: name the file and the row in it instead."""
    line = lines[0]
    number = re.search(r"\$\[([0-9]+)\]", message)
    if number:
        line = lines[int(number[1])]
        message = message.replace(number[0], "$")
    return CatalogError(f"{line.where}: {message}", hint=line.hint)


# --- a custom catalog ---------------------------------------------------------------------------------------------


def _check_own(own: Path) -> None:
    """Refuse unknown files and fields: msgspec ignores a misspelt field without a word."""
    if not is_folder(own):
        raise CatalogError(f"the catalog {own} is not a folder", hint=_OWN_HINT)
    if not is_folder(own / "facts") and not exists(own / "policy.toml"):
        raise CatalogError(
            f"the catalog {own} has neither facts/ nor policy.toml", hint=_OWN_HINT
        )
    tables = {table.file: table for table in TABLES}
    problems: list[str] = []
    for path in sorted((own / "facts").glob("*")):
        if path.name in tables:
            problems += _problems_of(tables[path.name], own)
        else:
            problems.append(f"{path} is not a file of facts{_near(path.name, tables)}")
    if problems:
        raise CatalogError(
            f"the catalog {own} has unknown files or fields",
            problems=problems,
            hint=_OWN_HINT,
        )


def _problems_of(table: Table[Any], own: Path) -> Iterator[str]:
    """The unknown fields and the missing keys of one file."""
    for line in _read_lines(table, own, _OWN_HINT):
        row, where = line.row, line.where
        yield from unknown_fields(table, row, where)
        for name in table.key:
            if name in row:
                continue
            yield f"{where}: no {name}"


def unknown_fields(table: Table[Any], row: JsonObject, where: str) -> list[str]:
    """One line for each field of a row that its table does not have."""
    known = [field.name for field in fields(table.row)]
    lines = []
    for name in row:
        if name not in known:
            lines.append(f"{where}: unknown field {name!r}{_near(name, known)}")
    return lines


def _near(name: str, known: Sequence[str] | JsonObject) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(names)}"


def _policy(folder: Path, own: Path | None) -> Policy:
    path, hint = folder / "policy.toml", _HINT
    document = _toml(path, hint)
    name = path.name
    if own is not None and exists(own / path.name):
        path, hint = own / path.name, _OWN_HINT
        document = _merged(document, _toml(path, hint))
        _check_keys(document, path)
    if own is not None:
        name = str(path)
    try:
        return msgspec.convert(document, Policy, dec_hook=serialize.from_plain)
    except msgspec.ValidationError as error:
        raise CatalogError(
            f"{name}: {grammar.explained(str(error))}", hint=hint
        ) from error


def _check_keys(document: JsonObject, path: Path) -> None:
    known = [field.name for field in fields(Policy)]
    for name in document:
        if name not in known:
            raise CatalogError(
                f"{path}: unknown key {name!r}{_near(name, known)}", hint=_OWN_HINT
            )


def _toml(path: Path, hint: str) -> dict[str, Any]:
    text = read_text(path, error=CatalogError, hint=hint)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"{path} cannot be read: {error}", hint=hint) from error


def _merged(below: JsonObject, above: JsonObject) -> dict[str, Any]:
    """Tables are merged key by key; anything else is replaced."""
    merged = dict(below)
    for name, value in above.items():
        replaced = merged.get(name)
        if isinstance(replaced, dict) and isinstance(value, dict):
            merged[name] = _merged(replaced, value)
        else:
            merged[name] = value
    return merged
