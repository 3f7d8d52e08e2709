"""Lock → kubernetes/: an Indexed Job with its headless Service, the same as a Kubeflow TrainJob, and their storage."""

import re
import shlex

from envbuilder import catalog
from envbuilder.catalog.gpus import runs_on
from envbuilder.render.targets import NOTICE, Project
from envbuilder.render.targets.cluster_job import ENTRYPOINT, SETTINGS, Job, job_of
from envbuilder.templates import fill

__all__ = ("SETTINGS", "files", "unfit_majors")

_FILES = ("README.md", "job.yaml", "storage.yaml", "trainjob.yaml")
_PLACES = {  # whether the pods need a Service for their names, and the name of the pod with index 0
    "job.yaml": {"service": True, "first": "0"},
    "trainjob.yaml": {"service": False, "first": "node-0-0"},
}


def files(project: Project) -> dict[str, str]:
    """The files of `kubectl apply --filename`, and how to use them."""
    job = job_of(project)
    return {f"kubernetes/{name}": _fill(name, job) for name in _FILES}


def _fill(name: str, job: Job) -> str:
    """A file with the parts that it shares with others."""
    values: dict[str, object] = {"notice": NOTICE, "job": job, "stack": job.lock.stack, "unfit": unfit_majors(job)}
    # Kubernetes makes `$` of `$$` in arguments, where `$(NAME)` would be a variable.
    values |= {"arguments": shlex.split(job.arguments.replace("$", "$$")), "code": _code(job.arguments)}
    if name in _PLACES:
        values |= {"entrypoint": ENTRYPOINT, **_PLACES[name]}
        for part in ("launch", "resources", "jobspec"):
            values[part] = fill(f"kubernetes/{part}.yaml.j2", values).rstrip("\n")
    return fill(f"kubernetes/{name}.j2", values)


def _code(text: str) -> str:
    """Text as code in a cell of a Markdown table: no backtick ends it, no bar begins another cell."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    escaped = text.replace("|", "\\|")
    return f"{fence} {escaped} {fence}" if longest else f"`{escaped}`"


def unfit_majors(job: Job) -> list[int]:
    """The major compute capabilities that the wheels have no kernels for on any GPU that the catalog knows."""
    archs = job.lock.stack.arch_list
    gpus = catalog.load().gpus
    fit = {gpu.capability.major for gpu in gpus if any(runs_on(arch, gpu.capability) for arch in archs)}
    return sorted({gpu.capability.major for gpu in gpus} - fit)
