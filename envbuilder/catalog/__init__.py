"""Facts (JSON, written by `tools/refresh_catalog.py`) and policy (TOML, written by people), parsed once."""

import json
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from envbuilder import wire
from envbuilder.catalog.rows import Catalog, CudaRuntime, Distribution, Gpu, Policy, TorchBuild, TransformersCeiling
from envbuilder.errors import CatalogError

FOLDER = Path(__file__).parent
_HINT = "reinstall envbuilder, or run `tools/refresh_catalog.py` in its checkout"
T = TypeVar("T")


def load(folder: Path = FOLDER) -> Catalog:
    """The catalog in `folder`. Raises `CatalogError` naming file, row and field."""
    torch, day = _rows(folder / "facts" / "torch.json", TorchBuild)
    return Catalog(
        date=day,
        torch=torch,
        transformers=_rows(folder / "facts" / "transformers.json", TransformersCeiling)[0],
        distributions=_rows(folder / "facts" / "distributions.json", Distribution)[0],
        gpus=_rows(folder / "facts" / "gpus.json", Gpu)[0],
        policy=_policy(folder / "policy.toml"),
        runtimes=_rows(folder / "facts" / "runtimes.json", CudaRuntime)[0],
    )


def _rows(path: Path, wanted: type[T]) -> tuple[tuple[T, ...], date]:
    try:
        document = json.loads(path.read_bytes())
        day, rows = date.fromisoformat(document["date"]), document["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{path} cannot be read: {error}", hint=_HINT) from error
    return tuple(_convert(row, wanted, f"{path.name}, row {n} of {len(rows)}") for n, row in enumerate(rows, 1)), day


def _policy(path: Path) -> Policy:
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path} cannot be read: {error}", hint=_HINT) from error
    return _convert(document, Policy, path.name)


def _convert(value: Any, wanted: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, wanted, dec_hook=wire.from_plain)
    except msgspec.ValidationError as error:
        raise CatalogError(f"{where}: {error}", hint=_HINT) from error
