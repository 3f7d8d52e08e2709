"""The rule about the stack: would what was asked for run here, and if not, what would?

Rests on the resolver: the host's GPUs, driver and platform become options of a request.
"""

from collections.abc import Iterator
from dataclasses import replace

from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.doctor.finding import Case, Finding, error, fine, ours, unknown, warning
from envbuilder.doctor.gpu_rules import describe, is_consumer, is_jetson
from envbuilder.doctor.remedies import NONE, Remedy
from envbuilder.doctor.remedies import driver as driver_remedy
from envbuilder.errors import NoStackError
from envbuilder.host.records import Host
from envbuilder.model import Request, Stack
from envbuilder.resolve import resolver
from envbuilder.resolve.rules import strangers

_COMPAT_IMAGES = "nvidia/cuda"


def with_capabilities(host: Host, catalog: Catalog) -> Host:
    """The host with what the catalog knows of GPUs whose driver is too old to name their compute capability."""
    if host.gpus is None:
        return host
    rows = ((gpu, resolver.find_gpu(gpu.name, catalog)) for gpu in host.gpus)
    gpus = tuple(replace(gpu, capability=gpu.capability or (row.capability if row else None)) for gpu, row in rows)
    return replace(host, gpus=gpus)


def for_host(request: Request, host: Host) -> Iterator[Request]:
    """The request with what a host adds to it, once for each kind of GPU; what the request says itself stands."""
    added: dict[str, object] = {}
    if host.platform and request.platform == Request().platform:
        added["platform"] = host.platform
    if request.driver is None and host.driver_version is not None:
        added["driver"] = host.driver_version
    if request.gpu is None and host.capabilities:
        for capability in host.capabilities:
            yield replace(request, **added, gpu=str(capability))  # type: ignore[arg-type]
    else:
        yield replace(request, **added)  # type: ignore[arg-type]


def best_for(request: Request, host: Host, catalog: Catalog) -> tuple[Request, Stack] | None:
    """The best stack for all GPUs of a host, with the request that finds it; None if there is none."""
    for wanted in for_host(request, host):
        try:
            stack = resolver.resolve(wanted, catalog)
        except NoStackError:
            continue
        if not list(_without_kernels(stack, host)):
            return wanted, stack
    return None


def stack_runs_here(case: Case) -> Finding | None:
    if is_jetson(case.host, case.catalog):
        return None  # none does, and another rule has said so
    if case.request is None:
        return _what_runs_here(case)
    try:
        stack = resolver.resolve(case.request, case.catalog)
    except NoStackError as refusal:
        suggestions = refusal.suggestions
        remedy = Remedy(command=suggestions[0], source="envbuilder") if suggestions else NONE
        return error("stack", refusal.message, "; ".join(refusal.reasons), remedy)
    objections = (rule(stack, case) for rule in (_OBJECTIONS if stack.cuda else (_platform_fits,)))
    return next((finding for finding in objections if finding), None) or _runs(stack, case.host)


def _runs(stack: Stack, host: Host) -> Finding:
    """Nothing speaks against it; whether that is known is another matter."""
    if stack.cuda is None:
        return fine("stack", f"{_name(stack)} needs no GPU and no driver")
    if host.gpus == ():
        return warning("stack", f"{_name(stack)} would train on the CPU", "no NVIDIA GPU is to be seen")
    missing = [name for name, value in (("GPU", host.capabilities), ("driver", host.driver)) if not value]
    if missing:
        message = f"whether {_name(stack)} runs there is unknown: {' and '.join(missing)} unknown"
        return unknown("stack", message, "`--gpu` and `--driver` name them")
    return fine("stack", f"{_name(stack)} runs on {describe(host)} with driver {host.driver}")


def _what_runs_here(case: Case) -> Finding | None:
    host = case.host
    if not host.capabilities and not host.driver:
        return None
    found = best_for(Request(), host, case.catalog)
    if found is None:
        why = "; ".join(dict.fromkeys(_reasons(case)))
        return error("stack", f"no stack runs on {_machine(host)}", why, driver_remedy(host))
    request, stack = found
    finding = fine("stack", f"{_name(stack)} is the best for {_machine(host)}")
    remedy = ours(_resolve(request, case))
    return replace(finding, remedy=remedy.command, source=remedy.source)


def _reasons(case: Case) -> Iterator[str]:
    for request in for_host(Request(), case.host):
        try:
            resolver.resolve(request, case.catalog)
        except NoStackError as refusal:
            yield from refusal.reasons


def _platform_fits(stack: Stack, case: Case) -> Finding | None:
    host = case.host
    if host.platform is None or host.platform == stack.platform:
        return None
    why = "its programs are for another processor: `exec format error`, or minutes where seconds are due"
    return error("stack", f"{_name(stack)} is for {stack.platform}; this is {host.platform}", why, _instead(case))


def _without_kernels(stack: Stack, host: Host) -> Iterator[Version]:
    for capability in host.capabilities:
        if not any(resolver.runs_on(arch, capability) for arch in stack.arch_list):
            yield capability


def _kernels_are_there(stack: Stack, case: Case) -> Finding | None:
    lacking = list(_without_kernels(stack, case.host))
    if not lacking:
        return None
    names = ", ".join(dict.fromkeys(gpu.name for gpu in case.host.gpus or () if gpu.capability in lacking))
    capabilities = ", ".join(map(str, lacking))
    why = f"its kernels are for {' '.join(stack.arch_list)}: `no kernel image is available for execution on the device`"
    return error("stack", f"{_name(stack)} has no kernels for {names} ({capabilities})", why, _instead(case))


def _driver_is_new_enough(stack: Stack, case: Case) -> Finding | None:
    driver = case.host.driver_version
    if driver is None or driver >= Version(stack.driver_floor):
        return None
    why = (
        "torch says that the driver is too old (error 35); in an image of nvidia/cuda CUDA answers error 803, "
        "or the container does not start: `unsatisfied condition: cuda>=`"
    )
    message = f"{_name(stack)} needs driver {stack.driver_floor} or newer; this one is {case.host.driver}"
    return error("stack", message, why, _instead(case))


def _driver_knows_the_gpus(stack: Stack, case: Case) -> Finding | None:
    host = case.host
    if host.cuda_init == 0:  # it has started: whatever facts say, the driver knows them
        return None
    asked = (Request(gpu=str(capability), driver=host.driver_version) for capability in host.capabilities)
    why = "; ".join(reason for request in asked if (reason := strangers(request, case.catalog)))
    if not why:
        return None
    return error("stack", f"driver {host.driver} does not know {describe(host)}", why, _instead(case))


def _compat_is_allowed(stack: Stack, case: Case) -> Finding | None:
    host = case.host
    consumer = _refuses_compat(stack, host)
    if consumer is None:
        return None
    why = (
        f"driver {host.driver} knows CUDA up to {host.cuda_newest}; the image's cuda-compat steps in and {consumer} "
        "refuses it: error 804"
    )
    message = f"{stack.base.reference} brings a libcuda that does not run on {consumer}"
    return error("stack", message, why, _instead(case))


_OBJECTIONS = (_platform_fits, _driver_knows_the_gpus, _kernels_are_there, _driver_is_new_enough, _compat_is_allowed)


def _refuses_compat(stack: Stack, host: Host) -> str | None:
    """The GPU that refuses the libcuda of a stack's base: nvidia/cuda puts its own first where it is newer."""
    if _COMPAT_IMAGES not in stack.base.reference or host.cuda_newest is None:
        return None
    if Version(stack.cuda_line) <= host.cuda_newest:
        return None
    return next((gpu.name for gpu in host.gpus or () if is_consumer(gpu.name)), None)


def _instead(case: Case) -> Remedy:
    """What would run here and is nearest to what was asked: the request without one option, or with none."""
    request = case.request or Request()
    names = [name for name, _ in resolver.given(request)]
    loosened = [replace(request, **{name: getattr(Request(), name)}) for name in names]
    for wanted in (request, *loosened, Request(packages=request.packages)):
        found = best_for(wanted, case.host, case.catalog)
        if found and not _refuses_compat(found[1], case.host):
            return ours(_resolve(found[0], case))
    return driver_remedy(case.host)


def _resolve(request: Request, case: Case) -> str:
    """The request as options of `envbuilder`."""
    return resolver.command(request, beside=resolver.beside(case.catalog)).removeprefix("envbuilder ")


def _name(stack: Stack) -> str:
    return stack.torch_text


def _machine(host: Host) -> str:
    parts = [describe(host), f"driver {host.driver}" if host.driver else ""]
    return " with ".join(part for part in parts if part) or "this machine"
