"""The training job of the cluster targets, with the settings that `--set NAME=VALUE` changes, checked."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from envbuilder import grammar
from envbuilder.errors import UsageError
from envbuilder.model import Lock
from envbuilder.render.targets import Project

ENTRYPOINT = "/opt/envbuilder/payload/entrypoint"
_NAME = re.compile(
    r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
)  # a DNS label, with room for Kubernetes' suffixes
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,254}")
_NUMBER = re.compile(r"[0-9]{1,6}")
_NUMBERS = {
    "nodes": 2,
    "gpus": 0,
    "cpus": 4,
    "memory": 16,
    "shared-memory": 1,
    "storage": 10,
    "hours": 24,
}
_TEXTS = {"name": "envbuilder-train", "image": "", "job": "train", "arguments": ""}
_JOBS = ("train", "finetune")
SETTINGS = (*_TEXTS, *_NUMBERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterJob:
    """One training on some nodes, the same on each."""

    lock: Lock
    name: str
    image: str
    nodes: int
    gpus: int  # of each node; 0: a job for the CPU
    cpus: int  # of each node
    memory: int  # GiB of each node, shared memory included
    shared_memory: int  # GiB of each node
    storage: int  # GiB, for what all runs leave
    hours: int  # the time limit, where the cluster needs one
    program: str  # `train` or `finetune`
    arguments: str  # for it, quoted for a shell
    capabilities: tuple[Version, ...]  # compute capabilities of the GPUs in the catalog
    hub: str = ""  # a mirror of the Hugging Face Hub

    @property
    def processes(self) -> int:
        """Processes on each node: one for each GPU, one without any."""
        return max(1, self.gpus)

    @property
    def threads(self) -> int:
        """Threads of each process. torch would count the machine's cores, not those that the job may use."""
        return max(1, self.cpus // self.processes)


def job_of(project: Project) -> ClusterJob:
    """The job of a project. Raises `UsageError` that lists every setting at fault."""
    texts = _TEXTS | {"image": project.image}
    texts |= _chosen(project.settings, _TEXTS)
    problems = [
        *_number_problems(project.settings),
        *_text_problems(texts),
        *_gpu_problems(project),
    ]
    if problems:
        raise UsageError(
            "invalid training job settings",
            problems=problems,
            hint="settings: " + ", ".join(SETTINGS),
        )
    numbers = dict(_NUMBERS)
    for name, text in _chosen(project.settings, _NUMBERS).items():
        numbers[name] = int(text)
    return ClusterJob(
        lock=project.lock,
        name=texts["name"],
        image=texts["image"],
        nodes=numbers["nodes"],
        gpus=numbers["gpus"],
        cpus=numbers["cpus"],
        memory=numbers["memory"],
        shared_memory=numbers["shared-memory"],
        storage=numbers["storage"],
        hours=numbers["hours"],
        program=texts["job"],
        arguments=shlex.join(shlex.split(texts["arguments"])),
        capabilities=project.capabilities,
        hub=project.mirrors.get("hub", ""),
    )


def _chosen(settings: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: text for name, text in settings.items() if name in names}


def _gpu_problems(project: Project) -> Iterator[str]:
    gpus = project.settings.get("gpus", "0")
    if gpus != "0" and project.lock.stack.cuda is None:
        yield f"gpus is {gpus!r}: {project.lock.stack.name} has no CUDA"


def _number_problems(settings: Mapping[str, str]) -> Iterator[str]:
    numbers = _chosen(settings, _NUMBERS)
    for name, text in numbers.items():
        least = 0 if name == "gpus" else 1
        if _NUMBER.fullmatch(text) and int(text) >= least:
            continue
        rule = f"it must be a whole number, {least} or more, without a unit"
        yield f"{name} is {text!r}: {rule}"


def _text_problems(texts: Mapping[str, str]) -> Iterator[str]:
    if not _NAME.fullmatch(texts["name"]) or texts["name"] in grammar.YAML_WORDS:
        rule = "it must be at most 40 lower-case letters, digits and hyphens, starting with a letter"
        yield f"name is {texts['name']!r}: {rule}"
    if not _IMAGE.fullmatch(texts["image"]):
        yield f"image is {texts['image']!r}: it must be the name of an image"
    if texts["job"] not in _JOBS:
        yield f"job is {texts['job']!r}: it must be {' or '.join(_JOBS)}"
    if not grammar.matches(grammar.Setting, texts["arguments"]):
        yield f"arguments are {texts['arguments']!r}: they must be one line"
        return
    try:
        shlex.split(texts["arguments"])
    except ValueError as error:
        yield f"arguments are {texts['arguments']!r}: {error}"
