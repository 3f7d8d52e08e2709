"""Host → Findings: pure judgement of what `cli.doctor` asked. What could not be asked is unknown, never fine."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from envbuilder.gpu import GpuAccess, Offers, plan_gpu

_IMAGE_BYTES = 15_000_000_000  # a build's layers, its cache mounts and the export, at the same time


class Severity(StrEnum):
    """How bad a finding is; an error is what makes a build or a run fail."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What was asked of this machine; None is what could not be found out."""

    engine: str | None = None  # version
    engine_problem: str = ""
    buildx: str | None = None
    offers: Offers | None = None
    driver: str | None = None  # the NVIDIA driver's version
    free_bytes: int | None = None  # where the engine keeps its images
    ca: str | None = None
    mmdebstrap: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One judgement: what was found, why it matters, and the command that mends it."""

    id: str
    severity: Severity
    message: str
    remedy: str = ""


Question = Callable[[Host], Finding]


def judge_engine(host: Host) -> Finding:
    if host.engine is None:
        return Finding(
            id="engine",
            severity=Severity.ERROR,
            message=f"no container engine answers: nothing can be built or run here ({host.engine_problem})",
            remedy="tools/engine up",
        )
    return Finding(id="engine", severity=Severity.OK, message=f"Docker {host.engine} answers")


def judge_buildx(host: Host) -> Finding:
    if host.buildx is None:
        return Finding(
            id="buildx",
            severity=Severity.ERROR,
            message="`docker buildx` does not answer: images are built with it",
            remedy="tools/engine up",
        )
    return Finding(id="buildx", severity=Severity.OK, message=f"buildx {host.buildx}")


def judge_gpu(host: Host) -> Finding:
    if host.offers is None:
        return Finding(id="gpu", severity=Severity.UNKNOWN, message="the engine could not be asked about GPUs")
    plan = plan_gpu(host.offers)
    if plan.access is GpuAccess.NONE and host.driver:
        return Finding(
            id="gpu",
            severity=Severity.ERROR,
            message=f"NVIDIA driver {host.driver} is here, but the engine has no NVIDIA runtime: containers see no GPU",
            remedy="install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure --runtime=docker`",
        )
    severity = Severity.NOTE if plan.access is GpuAccess.NONE else Severity.OK
    return Finding(id="gpu", severity=severity, message=plan.reason)


def judge_disk(host: Host) -> Finding:
    if host.free_bytes is None:
        return Finding(id="disk", severity=Severity.UNKNOWN, message="the engine's disk could not be looked at")
    free = f"{host.free_bytes / 1e9:.0f} GB are free where the engine keeps its images"
    if host.free_bytes < _IMAGE_BYTES:
        return Finding(
            id="disk",
            severity=Severity.ERROR,
            message=f"{free}; a build needs {_IMAGE_BYTES / 1e9:.0f} GB",
            remedy="docker system df; docker builder prune",
        )
    return Finding(id="disk", severity=Severity.OK, message=free)


def judge_ca(host: Host) -> Finding:
    if host.ca is None:
        return Finding(
            id="ca",
            severity=Severity.NOTE,
            message="no CA bundle is set: builds trust the public CAs only",
            remedy="behind a proxy that re-signs TLS: `--ca-bundle FILE`",
        )
    return Finding(id="ca", severity=Severity.OK, message=f"builds get the CA bundle {host.ca}, as a secret")


def judge_bootstrap(host: Host) -> Finding:
    if host.mmdebstrap is None:
        return Finding(id="bootstrap", severity=Severity.UNKNOWN, message="whether mmdebstrap is here is unknown")
    if not host.mmdebstrap:
        return Finding(
            id="bootstrap",
            severity=Severity.NOTE,
            message="mmdebstrap is not here: bases come from a registry only",
            remedy="tools/engine bootstrap-tools",
        )
    return Finding(id="bootstrap", severity=Severity.OK, message="bases can be made from Debian's packages")


QUESTIONS: tuple[Question, ...] = (judge_engine, judge_buildx, judge_gpu, judge_disk, judge_ca, judge_bootstrap)


def diagnose(host: Host) -> list[Finding]:
    """Every question answered, in order."""
    return [question(host) for question in QUESTIONS]
