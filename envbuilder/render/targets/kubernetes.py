"""Lock → kubernetes/: an Indexed Job with its headless Service, the same as a Kubeflow TrainJob, and their storage."""

import re
import shlex

from envbuilder.catalog.gpus import has_kernels
from envbuilder.render.targets import NOTICE, Project
from envbuilder.render.targets.cluster_job import (
    ENTRYPOINT,
    SETTINGS,
    ClusterJob,
    job_of,
)
from envbuilder.templates import fill

__all__ = ("SETTINGS", "files", "unsupported_majors")

_PARTS = ("launch", "resources", "jobspec")  # the last one contains the other two
_FILES = ("README.md", "job.yaml", "storage.yaml", "trainjob.yaml")
_NODES = {  # whether the pods need a Service for their names, and the name of the pod with index 0
    "job.yaml": {"service": True, "first": "0"},
    "trainjob.yaml": {"service": False, "first": "node-0-0"},
}


def files(project: Project) -> dict[str, str]:
    """The files of `kubectl apply --filename`, and how to use them."""
    job = job_of(project)
    return {f"kubernetes/{name}": _fill(name, job) for name in _FILES}


def _fill(name: str, job: ClusterJob) -> str:
    """A file with the parts that it shares with others."""
    values: dict[str, object] = {
        "notice": NOTICE,
        "job": job,
        "stack": job.lock.stack,
        "unfit": unsupported_majors(job),
        # Kubernetes makes `$` of `$$` in arguments, where `$(NAME)` would be a variable.
        "arguments": shlex.split(job.arguments.replace("$", "$$")),
        "code": _code(job.arguments),
    }
    if name in _NODES:
        values["entrypoint"] = ENTRYPOINT
        values |= _NODES[name]
        for part in _PARTS:
            text = fill(f"kubernetes/{part}.yaml.j2", values)
            values[part] = text.rstrip("\n")
    return fill(f"kubernetes/{name}.j2", values)


def _code(text: str) -> str:
    """Text as code in a cell of a Markdown table: no backtick ends it, no bar begins another cell."""
    escaped = text.replace("|", "\\|")
    runs = re.findall("`+", text)
    if not runs:
        return f"`{escaped}`"
    longest = max(len(run) for run in runs)
    fence = "`" * (longest + 1)
    return f"{fence} {escaped} {fence}"


def unsupported_majors(job: ClusterJob) -> list[int]:
    """The major compute capabilities that the wheels have no kernels for on any GPU of the catalog."""
    archs = job.lock.stack.arch_list
    majors = set()
    supported = set()
    for capability in job.capabilities:
        majors.add(capability.major)
        if has_kernels(archs, capability):
            supported.add(capability.major)
    return sorted(majors - supported)
