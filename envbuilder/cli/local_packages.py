"""Folders and wheels of the project that a line of its files names, such as `./mylib`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder.cli.settings import project_folder
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.resolve.project_files.statements import FileStatement


def with_local_name(
    statement: "FileStatement", path: Path, folder: Path, root: Path
) -> "FileStatement":
    """A line of the file `path` with the name of its package, and its folder relative to the project.

    `folder`: where the command runs; `root`: what no line may lead out of. Raises `UsageError` with file and line.
    """
    from envbuilder.files import is_below
    from envbuilder.lock.sources.location import local_origin
    from envbuilder.resolve.project_files.statements import (
        ITSELF,
        StatementKind,
        left_out,
        split_marker,
    )

    if statement.kind is StatementKind.NOTHING and statement.value == ITSELF:
        return replace(statement, value=f"{ITSELF}{_packages_of_itself(path)}")
    if statement.kind is not StatementKind.PACKAGE:
        return statement
    text, marker = split_marker(statement.value)
    origin = local_origin(text)
    if not origin:
        return statement
    start = _start(origin, path, folder)
    if start is None:
        if statement.overrides:
            return left_out(statement.line, "no such folder in the project")
        raise UsageError(
            f"{statement.line.place}: {origin} does not exist", hint="fix the line"
        )
    if not is_below(root, start / origin):
        return left_out(
            statement.line,
            f"it leads out of {root}: name it on the command line, with `--package`",
        )
    named = _named(statement, text, start)
    condition = f" ; {marker}" if marker else ""
    return replace(statement, value=f"{named}{condition}")


def _packages_of_itself(path: Path) -> str:
    """How the packages of the project are had, too, whose own file is next to the one that names it."""
    from envbuilder.files import is_file

    if path.name == "pyproject.toml" or not is_file(path.parent / "pyproject.toml"):
        return ""
    return (
        "; its packages are those of pyproject.toml (`--requirements pyproject.toml`)"
    )


def _start(origin: str, path: Path, folder: Path) -> Path | None:
    """Where a path begins: where the command runs, as pip has it, or at the file, as other tools do."""
    from envbuilder.files import exists

    for start in (folder, path.parent):
        if exists(start / origin):
            return start
    return None


def _named(statement: "FileStatement", text: str, start: Path) -> str:
    from envbuilder.lock.sources.folder_metadata import with_folder_name

    try:
        return with_folder_name(text, start=start, project=project_folder())
    except UsageError as error:
        message = error.message.removeprefix(f"--package {text}: ")
        raise UsageError(
            f"{statement.line.place}: {message}", hint="fix the line"
        ) from error
