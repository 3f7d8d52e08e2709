"""`.github/workflows/ci.yml`: check the files for drift, build, accept and report; or run make targets only.

With the setting `make` every job is one make target of the repository. Without it the jobs run envbuilder's commands.
"""

import json
import re

from envbuilder import grammar
from envbuilder.errors import UsageError
from envbuilder.render.targets import NOTICE, Project
from envbuilder.templates import fill

SETTINGS = {
    "make": "make targets, one job each, e.g. 'lint test'",
    "envbuilder": "source that pip installs envbuilder from in CI, at a fixed commit",
}
_RUNNER = "ubuntu-24.04"
# Commits that the tags pointed to in the projects' own repositories when they were read, in 2026.
_CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
_UPLOAD = "actions/upload-artifact@bbbca2ddaa5d8feaa63e36b76fdaad77386f024f # v7.0.0"
_VARIABLE = "${{ vars.ENVBUILDER }}"  # no name from an index: `envbuilder` there is another project
_TARGET = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SOURCE = re.compile(
    rf"(?!-)[^{grammar.UNPRINTABLE}{{}}$]{{1,1000}}"
)  # no option of pip, no expression of GitHub's


def files(project: Project) -> dict[str, str]:
    """The one workflow."""
    make = list(dict.fromkeys(project.settings.get("make", "").split()))
    wrong = [
        target
        for target in make
        if not _TARGET.fullmatch(target) or target in grammar.YAML_WORDS
    ]
    source = project.settings.get("envbuilder")
    if wrong:
        raise UsageError(
            f"{wrong[0]!r} cannot be a make target and a job",
            hint="use lower-case letters, digits and -",
        )
    if source is not None and not _SOURCE.fullmatch(source):
        raise UsageError(
            f"the setting envbuilder is {source!r}: that cannot be used in a workflow"
        )
    values = {
        "notice": NOTICE,
        "make": make,
        "runner": _RUNNER,
        "checkout": _CHECKOUT,
        "upload": _UPLOAD,
        "lock": project.lock_file,
        "envbuilder": json.dumps(source, ensure_ascii=False) if source else _VARIABLE,
    }
    return {".github/workflows/ci.yml": fill("workflow/ci.yml.j2", values)}
