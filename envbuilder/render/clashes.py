"""What is in a folder already and would lose its meaning next to envbuilder's files, or change the meaning of theirs.

Files of the same name are another matter: `project.foreign_files` finds those. Nothing here is written or run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envbuilder.files import exists, is_file, is_folder, read_text
from envbuilder.render.git_ignore import ignored_files
from envbuilder.render.targets import is_marked

COMPOSE = "compose.yaml"
ENV = ".env"
_OTHER_COMPOSE = ("compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""The names that `docker compose` looks for, the first that exists; `compose.yaml` comes before them."""
_OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
"""Of these, `docker compose` adds the first one to the file that it has found, whatever the name of that."""
_DEVCONTAINER = ".devcontainer/devcontainer.json"
_WORKFLOWS = ".github/workflows"
_NAME_LINE = re.compile(r"^name:[ \t]*(.+?)[ \t]*(?:#.*)?$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)$")
_READ = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)")
_WITHOUT_COMPOSE = "`--target devcontainer --target workflow`"
_LETTERS = re.compile(r"[a-z0-9]")
_SHOWN = 5  # variables or files that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One thing that somebody should know before the files are written, or that keeps them from being written."""

    problem: str
    remedy: str
    stops: bool = False


def find_clashes(texts: Mapping[str, str], folder: Path) -> list[Obstacle]:
    """What clashes in `folder` with the files of targets that are to be written: relative path → text."""
    clashes: list[Obstacle] = []
    for name, text in texts.items():
        # Once our file is there, what lies next to it was put there by somebody who knows.
        if exists(folder / name):
            continue
        if name == COMPOSE:
            clashes.extend(_compose_clashes(texts, folder))
        elif name == _DEVCONTAINER:
            clashes.extend(_devcontainer_clashes(folder))
        elif name.startswith(_WORKFLOWS):
            clashes.extend(_workflow_clashes(name, text, folder))
    return clashes


def ignore_clashes(names: Sequence[str], folder: Path) -> list[Obstacle]:
    """The files that git would leave out of a commit."""
    clashes = []
    for ignored in ignored_files(folder, names):
        paths = list(ignored.names)
        what = _listed(paths)
        if len(paths) > _SHOWN:
            paths = sorted({name.split("/")[0] for name in paths})
            what = f"{len(ignored.names)} files in {_listed(paths)}"
        command = f"git add --force {' '.join(paths)}"
        clashes.append(
            Obstacle(
                problem=f"git ignores {what} ({ignored.rule}), so a clone would lack that",
                remedy=f"change the pattern, or `{command}` once it is written",
            )
        )
    return clashes


# --- Docker Compose ------------------------------------------------------------------------------------------------


def _compose_clashes(texts: Mapping[str, str], folder: Path) -> Iterator[Obstacle]:
    variables = env_variables(folder)
    yield from _shadowed_files(variables, folder)
    yield from _variables_with_a_meaning(texts, variables)
    yield from _results_folder(folder)
    yield from _project_name(variables, folder)


def _shadowed_files(variables: Mapping[str, str], folder: Path) -> Iterator[Obstacle]:
    if "COMPOSE_FILE" in variables:
        if not is_own_file_read(folder):
            yield Obstacle(
                problem=f"{ENV} sets COMPOSE_FILE, so `docker compose` does not read {COMPOSE} here",
                remedy=f"start envbuilder's with `{own_compose_command()}`",
            )
        return
    others = _existing(folder, _OTHER_COMPOSE)
    overrides = _existing(folder, _OVERRIDES)[:1]
    if others:
        keep = ":".join([others[0], *overrides])
        hidden = _listed(others)
        yield Obstacle(
            problem=f"{COMPOSE} would hide {hidden}: `docker compose` reads only the first file it finds",
            remedy=(
                f"keep yours the default with `echo COMPOSE_FILE={keep} >>{ENV}`, run this again, and start "
                f"envbuilder's with `{own_compose_command()}`; or leave Compose out: {_WITHOUT_COMPOSE}"
            ),
            stops=True,
        )
    elif overrides:
        yield Obstacle(
            problem=f"`docker compose` would add {overrides[0]} to {COMPOSE}, for which it was not written",
            remedy=f"rename {overrides[0]}, or leave Compose out: {_WITHOUT_COMPOSE}",
            stops=True,
        )


def is_own_file_read(folder: Path) -> bool:
    """Whether a plain `docker compose` reads our file: COMPOSE_FILE in .env may name others."""
    value = env_variables(folder).get("COMPOSE_FILE")
    if value is None:
        return True
    for part in re.split(r"[:;,]", value.strip("\"' ")):
        if Path(part).name == COMPOSE:
            return True
    return False


def own_compose_command() -> str:
    """How our file is run next to another one: a project of its own, so that neither removes the other's containers."""
    return f"docker compose -p envbuilder -f {COMPOSE} up train"


def _variables_with_a_meaning(
    texts: Mapping[str, str], variables: Mapping[str, str]
) -> Iterator[Obstacle]:
    """Variables of a .env that was there before, which our files read too. Their values may be secrets: not shown."""
    read: set[str] = set()
    for name, text in texts.items():
        if re.fullmatch(r"compose[a-z.]*\.yaml", name):
            read.update(_READ.findall(text))
    shared = sorted(read & variables.keys())
    if shared:
        yield Obstacle(
            problem=f"{COMPOSE} reads {_listed(shared)} from your {ENV}",
            remedy="compare with the meaning in .env.example; rename yours if it is another",
        )


def _results_folder(folder: Path) -> Iterator[Obstacle]:
    runs = folder / "runs"
    if exists(runs) and not is_folder(runs):
        yield Obstacle(
            problem="runs is not a folder, and Compose puts the results of training there",
            remedy=f"rename it, or leave Compose out: {_WITHOUT_COMPOSE}",
            stops=True,
        )
    elif exists(runs / "latest"):
        yield Obstacle(
            problem="runs/latest exists, and training writes its results there",
            remedy=f"choose another name in {ENV}: `echo RUN=first >>{ENV}`",
        )


def _project_name(variables: Mapping[str, str], folder: Path) -> Iterator[Obstacle]:
    """Compose names a project after its folder, of which it keeps letters from a to z, digits, - and _."""
    name = folder.absolute().name
    if _LETTERS.search(name.lower()) or "COMPOSE_PROJECT_NAME" in variables:
        return
    yield Obstacle(
        problem=f"`docker compose` cannot make a project name of {name!r}",
        remedy=f"set one: `echo COMPOSE_PROJECT_NAME=training >>{ENV}`",
    )


def env_variables(folder: Path) -> dict[str, str]:
    """The variables that a .env sets, if there is one that can be read."""
    if not is_file(folder / ENV):
        return {}
    values = {}
    for line in read_text(folder / ENV, errors="replace").splitlines():
        match = _ASSIGNMENT.match(line.strip())
        if match:
            values[match[1]] = match[2]
    return values


# --- dev containers, workflows -------------------------------------------------------------------------------------


def _devcontainer_clashes(folder: Path) -> Iterator[Obstacle]:
    leave_out = "leave it out: `--target compose --target workflow`"
    if exists(folder / ".devcontainer.json"):
        yield Obstacle(
            problem=f"{_DEVCONTAINER} would hide .devcontainer.json, which editors read only without it",
            remedy=(
                "keep both: `mkdir -p .devcontainer/own && mv .devcontainer.json .devcontainer/own/devcontainer.json` "
                f"(paths in it are relative to the file), or {leave_out}"
            ),
            stops=True,
        )
    others = []
    for path in sorted((folder / ".devcontainer").glob("*/devcontainer.json")):
        others.append(path.relative_to(folder).as_posix())
    if others:
        yield Obstacle(
            problem=f"there is another dev container: {_listed(others)}; {_DEVCONTAINER} becomes the default",
            remedy=f"editors ask which one to open; or {leave_out}",
        )


def _workflow_clashes(name: str, text: str, folder: Path) -> Iterator[Obstacle]:
    """Other workflows with the name of ours. With GitHub's usual concurrency group they would cancel each other."""
    ours = _workflow_name(text)
    for path in sorted((folder / _WORKFLOWS).glob("*.y*ml")):
        other = path.relative_to(folder).as_posix()
        if other == name or not is_file(path):
            continue
        content = read_text(path, errors="replace")
        if is_marked(content) or _workflow_name(content) != ours:
            continue
        cancels = "github.workflow" in content
        end = ": their runs would cancel each other" if cancels else ""
        yield Obstacle(
            problem=f"{other} is a workflow with the name {ours!r} too, as {name}{end}",
            remedy=f"change `name:` in {other}, or leave ours out: `--target compose --target devcontainer`",
            stops=cancels,
        )


def _workflow_name(text: str) -> str:
    match = _NAME_LINE.search(text)
    return match[1].strip("'\"") if match else ""


def _existing(folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if exists(folder / name)]


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _SHOWN:
        return ", ".join(names)
    first = ", ".join(names[:_SHOWN])
    return f"{first} and {len(names) - _SHOWN} more"
