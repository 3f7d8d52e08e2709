"""Lock the projects of tests/projects/ and write docs/measurements/projects.md. Asks the package index.

`--answers` only writes what became of each of their lines, for tests/golden/test_projects.py; `--only NAME`: of one.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envbuilder import catalog
from envbuilder.cli.request import Lists, request_of_project
from envbuilder.cli.requirement_files import (
    NamedFiles,
    read_statements,
    with_soft_options,
)
from envbuilder.errors import NoStackError
from envbuilder.format.answers_text import answers_lines, summary_line
from envbuilder.resolve import resolve
from envbuilder.resolve.project_files.combination import Given, combine

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "projects"
PAGE = ROOT / "docs" / "measurements" / "projects.md"
MARK = "<!-- tools/projects.py -->"
END = "<!-- /tools/projects.py -->"
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleProject:
    """One project of tests/projects/."""

    name: str
    file: str
    options: tuple[str, ...] = ()
    fails: str = ""  # why it is not locked here

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def answers(self) -> Path:
        return self.folder / "answers.txt"


def read_projects() -> list[SampleProject]:
    """All of them, in the order of projects.toml."""
    document = tomllib.loads((FOLDER / "projects.toml").read_text(encoding="utf-8"))
    projects = []
    for table in document["project"]:
        options = tuple(table.get("options", ()))
        projects.append(
            SampleProject(
                name=table["name"],
                file=table["file"],
                options=options,
                fails=table.get("fails", ""),
            )
        )
    return projects


def answers_text(project: SampleProject) -> str:
    """What became of each line of its files, as `envbuilder resolve` prints it."""
    files = NamedFiles(
        paths=(project.file,), folder=project.folder, root=project.folder
    )
    combined = combine(read_statements(files), Given())
    facts = catalog.load()
    combined, request = with_soft_options(
        combined, lambda changed: request_of_project({}, Lists(), changed), facts
    )
    answers = combined.answers
    with suppress(NoStackError):
        stack = resolve(request, facts)
        answers = combined.answers_for(stack.platform, stack.python)
    lines = [*answers_lines(answers), summary_line(answers)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def write_answers(projects: list[SampleProject]) -> None:
    for project in projects:
        text = answers_text(project)
        project.answers.write_text(text, encoding="utf-8", newline="\n")


def lock(project: SampleProject, folder: Path) -> tuple[int, str]:
    """`envbuilder lock -r FILE …` in a copy of the project: exit code, and what it said."""
    copy = folder / project.name
    shutil.copytree(project.folder, copy)
    program = Path(sys.executable).with_name("envbuilder")
    words = [str(program), "lock", "-r", project.file, *project.options]
    done = subprocess.run(
        words, cwd=copy, capture_output=True, encoding="utf-8", check=False
    )
    return done.returncode, done.stderr


def table_row(project: SampleProject) -> tuple[bool, str]:
    """Whether a project locks, and its row of the page."""
    with tempfile.TemporaryDirectory() as folder:
        code, stderr = lock(project, Path(folder))
    last = stderr.strip().splitlines()[-1]
    summary = project.answers.read_text(encoding="utf-8").splitlines()[-1]
    counts = summary.rsplit(": ", maxsplit=1)[-1]
    if code == 0:
        result = "locked: " + last.split(": ", maxsplit=1)[-1].replace(
            "to download, ", ""
        )
        said = ""
    else:
        error = next(line for line in stderr.splitlines() if line.startswith("error: "))
        result = error.removeprefix("error: ")[:_LONGEST].replace("|", "/")
        said = project.fails
    asked = " ".join(
        (f"`-r {project.file}`", *(f"`{word}`" for word in project.options))
    )
    return code == 0, f"| {project.name} | {asked} | {counts} | {result} | {said} |"


def write_page(projects: list[SampleProject]) -> None:
    rows = []
    count = 0
    for project in projects:
        locked, row = table_row(project)
        print(row, flush=True)
        count += locked
        rows.append(row)
    head = [
        f"{count} of {len(projects)} lock.",
        "",
        "| project | requested | its lines | result | reason |",
        "| --- | --- | --- | --- | --- |",
    ]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARK)
    _, _, after = rest.partition(END)
    body = "\n".join([*head, *rows])
    PAGE.write_text(
        f"{before}{MARK}\n{body}\n{END}{after}", encoding="utf-8", newline="\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--only", metavar="NAME")
    given = parser.parse_args()
    projects = read_projects()
    if given.only:
        projects = [project for project in projects if project.name == given.only]
    write_answers(projects)
    if given.answers:
        return
    if given.only:
        for project in projects:
            print(table_row(project)[1])
    else:
        write_page(projects)


if __name__ == "__main__":
    main()
