"""The rule about the stack: would the requested stack run here, and if not, which one would?

It uses the resolver: the host's GPUs, driver and platform become options of a request.
"""

from collections.abc import Iterator
from dataclasses import replace

from packaging.version import Version

from envbuilder.catalog.gpu_names import find_gpu
from envbuilder.catalog.gpus import driver_branches, driver_floor, runs_on
from envbuilder.catalog.rows import Catalog
from envbuilder.doctor.finding import (
    Case,
    Finding,
    error,
    fine,
    own_command,
    unknown,
    warning,
)
from envbuilder.doctor.gpu_rules import describe, is_consumer, is_jetson
from envbuilder.doctor.remedies import NONE, OLDER_DRIVER, Remedy
from envbuilder.doctor.remedies import driver as driver_remedy
from envbuilder.errors import NoStackError
from envbuilder.host.records import GpuState, Host
from envbuilder.model import Request, Stack
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import command, context_flags, texts_of_set_options
from envbuilder.resolve.request_rows import look_up
from envbuilder.resolve.rules import driver_gpu_mismatch
from envbuilder.versions import driver_reaches

_COMPAT_IMAGES = "nvidia/cuda"


# --- what a host adds to a request ---------------------------------------------------------------------------------


def with_capabilities(host: Host, catalog: Catalog) -> Host:
    """The host, with compute capabilities from the catalog for GPUs whose driver is too old to name them."""
    if host.gpu.devices is None:
        return host
    devices = []
    for device in host.gpu.devices:
        row = find_gpu(device.name, catalog)
        if device.capability is None and row is not None:
            device = replace(device, capability=row.capability)  # noqa: PLW2901  (the same device, completed)
        devices.append(device)
    return replace(host, gpu=replace(host.gpu, devices=tuple(devices)))


def driver_of(host: Host, catalog: Catalog) -> Version | None:
    """The driver as the catalog counts: by the CUDA that it started, if its own number is too low for that.

    The drivers of Jetsons have numbers of their own: Thor's is 580.00, and runs CUDA 13.
    """
    driver = host.gpu.driver_version
    newest = _cuda_of_driver(host)
    if driver is None or newest is None:
        return driver
    floor = driver_floor(newest.major, catalog)
    if floor is None:
        return driver
    least = Version(floor)
    if driver >= least:
        return driver
    branch = Version(str(driver.major))
    if driver_reaches(branch, floor):
        return branch
    return least


def _cuda_of_driver(host: Host) -> Version | None:
    """The newest CUDA of a driver that has started it; a libcuda in front of the driver's own says nothing of it."""
    gpu = host.gpu
    if gpu.cuda_init != 0 or gpu.compat:
        return None
    return gpu.cuda_newest


def for_host(request: Request, host: Host, catalog: Catalog) -> Iterator[Request]:
    """The request with what a host adds to it, once for each kind of GPU; what the request says itself stands."""
    platform = host.machine.platform
    driver = driver_of(host, catalog)
    capabilities = host.gpu.capabilities
    if platform and request.platform == Request().platform:
        request = replace(request, platform=platform)
    if request.driver is None and driver is not None:
        request = replace(request, driver=driver)
    if request.gpu is not None or not capabilities:
        yield request
        return
    for capability in capabilities:
        yield replace(request, gpu=str(capability))


def best_for(
    request: Request, host: Host, catalog: Catalog
) -> tuple[Request, Stack] | None:
    """The best stack for all GPUs of a host, with the request that finds it; None if there is none."""
    for candidate in for_host(request, host, catalog):
        for attempt in _within_driver(candidate, host):
            try:
                stack = resolve(attempt, catalog)
            except NoStackError:
                continue
            if _is_beyond_driver(stack, host) or _without_kernels(stack, host):
                continue
            return attempt, stack
    return None


def _within_driver(request: Request, host: Host) -> Iterator[Request]:
    """The request, and for the major of CUDA that the driver has, in case its number promises more."""
    yield request
    newest = _cuda_of_driver(host)
    if newest is None:
        return
    if request.cuda is None:
        major = Version(str(newest.major))
        yield replace(request, cuda=major)


def _is_beyond_driver(stack: Stack, host: Host) -> bool:
    """Whether the driver has started a CUDA of an older major than the stack's."""
    newest = _cuda_of_driver(host)
    cuda = stack.cuda
    if newest is None:
        return False
    if cuda is None:
        return False
    return cuda.major > newest.major


# --- the rule ------------------------------------------------------------------------------------------------------


def stack_runs_here(case: Case) -> Finding | None:
    if is_jetson(case.host, case.catalog):
        return None  # none does, and another rule has said so
    if case.request is None:
        return _best_stack(case)
    try:
        stack = resolve(case.request, case.catalog)
    except NoStackError as refusal:
        remedy = NONE
        if refusal.suggestions:
            remedy = Remedy(command=refusal.suggestions[0], source="envbuilder")
        return error("stack", refusal.message, _reasons_beyond(refusal), remedy)
    objections = _OBJECTIONS if stack.cuda else (_platform_differs,)
    for objection in objections:
        finding = objection(stack, case)
        if finding:
            return finding
    return _runs(stack, case.host)


def _reasons_beyond(refusal: NoStackError) -> str:
    """The reasons, without what the message has already said."""
    reasons = []
    for reason in refusal.plain_reasons:
        rest = reason.removeprefix(refusal.message).lstrip(";: ")
        if rest:
            reasons.append(rest)
    return "; ".join(reasons)


def _runs(stack: Stack, host: Host) -> Finding:
    """Nothing speaks against the stack; whether enough is known to say that it runs is another question."""
    name = stack.torch_text
    if stack.cuda is None:
        return fine("stack", f"{name} needs no GPU and no driver")
    if host.gpu.devices == ():
        return warning(
            "stack", f"{name} would train on the CPU", "no NVIDIA GPU was found"
        )
    unknowns = []
    if not host.gpu.capabilities:
        unknowns.append("GPU")
    if not host.gpu.driver:
        unknowns.append("driver")
    if unknowns:
        message = f"whether {name} runs on this machine is unknown: {' and '.join(unknowns)} unknown"
        return unknown("stack", message, "name them with `--gpu` and `--driver`")
    return fine(
        "stack", f"{name} runs on {describe(host.gpu)} with driver {host.gpu.driver}"
    )


def _best_stack(case: Case) -> Finding | None:
    """Without a request: what would run here."""
    host = case.host
    if not host.gpu.capabilities and not host.gpu.driver:
        return None
    best = best_for(Request(), host, case.catalog)
    if best is None:
        return error(
            "stack",
            f"no stack runs on {_machine(host)}",
            _why_none_runs(case),
            _driver_remedy(case),
        )
    request, stack = best
    remedy = own_command(_arguments(request, case))
    message = f"{stack.torch_text} is the best for {_machine(host)}"
    return replace(fine("stack", message), remedy=remedy.command, source=remedy.source)


def _why_none_runs(case: Case) -> str:
    reasons: list[str] = []
    for request in for_host(Request(), case.host, case.catalog):
        try:
            resolve(request, case.catalog)
        except NoStackError as refusal:
            reasons += refusal.plain_reasons
    return "; ".join(dict.fromkeys(reasons))


# --- what speaks against a stack -----------------------------------------------------------------------------------


def _platform_differs(stack: Stack, case: Case) -> Finding | None:
    platform = case.host.machine.platform
    if platform is None or platform == stack.platform:
        return None
    message = (
        f"{stack.torch_text} is for {stack.platform}, but this machine is {platform}"
    )
    why = "its programs are for another processor: they fail with `exec format error`, or are emulated and slow"
    return error("stack", message, why, _alternative(case))


def _driver_does_not_know_the_gpus(stack: Stack, case: Case) -> Finding | None:
    gpu = case.host.gpu
    if (
        gpu.cuda_init == 0
    ):  # CUDA has started: whatever the catalog says, the driver knows the GPUs
        return None
    reasons = []
    for capability in gpu.capabilities:
        request = Request(gpu=str(capability), driver=gpu.driver_version)
        mismatch = driver_gpu_mismatch(look_up(request, case.catalog))
        if mismatch:
            reasons.append(mismatch.text)
    if not reasons:
        return None
    message = f"driver {gpu.driver} does not support {describe(gpu)}"
    return error("stack", message, "; ".join(reasons), _alternative(case))


def _kernels_are_missing(stack: Stack, case: Case) -> Finding | None:
    missing = _without_kernels(stack, case.host)
    if not missing:
        return None
    devices = case.host.gpu.devices or ()
    names = dict.fromkeys(
        device.name for device in devices if device.capability in missing
    )
    capabilities = ", ".join(str(capability) for capability in missing)
    message = (
        f"{stack.torch_text} has no kernels for {', '.join(names)} ({capabilities})"
    )
    architectures = " ".join(stack.arch_list)
    why = f"its kernels are for {architectures}: `no kernel image is available for execution on the device`"
    return error("stack", message, why, _alternative(case))


def _without_kernels(stack: Stack, host: Host) -> list[Version]:
    """The compute capabilities of a host for which a stack has no kernels."""
    missing = []
    for capability in host.gpu.capabilities:
        if not any(
            runs_on(architecture, capability) for architecture in stack.arch_list
        ):
            missing.append(capability)
    return missing


def _driver_is_too_old(stack: Stack, case: Case) -> Finding | None:
    driver = driver_of(case.host, case.catalog)
    newest = _cuda_of_driver(case.host)
    if driver is None:
        return None
    if driver_reaches(driver, stack.driver_floor):
        if not _is_beyond_driver(stack, case.host):
            return None
        message = f"{stack.torch_text} is too new for driver {case.host.gpu.driver}"
        why = f"the driver supports up to CUDA {newest}: torch reports that it is too old (error 35)"
        return error("stack", message, why, _alternative(case))
    why = (
        "torch reports that the driver is too old (error 35); in an image of nvidia/cuda CUDA reports error 803, "
        "or the container does not start: `unsatisfied condition: cuda>=`"
    )
    message = f"{stack.torch_text} needs driver {stack.driver_floor} or newer, but {case.host.gpu.driver} is installed"
    return error("stack", message, why, _alternative(case))


def _compat_is_refused(stack: Stack, case: Case) -> Finding | None:
    gpu = case.host.gpu
    consumer = _consumer_behind_compat(stack, gpu)
    if consumer is None:
        return None
    why = (
        f"driver {gpu.driver} supports up to CUDA {gpu.cuda_newest}; the image's cuda-compat replaces its libcuda, "
        f"which {consumer} refuses: error 804"
    )
    message = f"{stack.base.reference} brings a libcuda that does not run on {consumer}"
    return error("stack", message, why, _alternative(case))


_OBJECTIONS = (
    _platform_differs,
    _driver_does_not_know_the_gpus,
    _kernels_are_missing,
    _driver_is_too_old,
    _compat_is_refused,
)


def _consumer_behind_compat(stack: Stack, gpu: GpuState) -> str | None:
    """The GPU that refuses the libcuda of a stack's base: nvidia/cuda puts its own first where it is newer."""
    if _COMPAT_IMAGES not in stack.base.reference or gpu.cuda_newest is None:
        return None
    cuda = Version(stack.cuda_line)
    if cuda <= gpu.cuda_newest:
        return None
    for device in gpu.devices or ():
        if is_consumer(device.name):
            return device.name
    return None


def _alternative(case: Case) -> Remedy:
    """What would run here and is nearest to the request: the request without one of its options, or without all."""
    request = case.request or Request()
    candidates = [request]
    for name in texts_of_set_options(request):
        default = getattr(Request(), name)
        candidates.append(replace(request, **{name: default}))
    candidates.append(Request(packages=request.packages, companions=request.companions))
    for candidate in candidates:
        best = best_for(candidate, case.host, case.catalog)
        if best is None:
            continue
        found, stack = best
        if _consumer_behind_compat(stack, case.host.gpu) is None:
            return own_command(_arguments(found, case))
    return _driver_remedy(case)


def _driver_remedy(case: Case) -> Remedy:
    """A newer driver; an older one where it has dropped the GPU."""
    host = case.host
    driver = host.gpu.driver_version
    by_capability = driver_branches(case.catalog)
    for capability in host.gpu.capabilities:
        branches = by_capability.get(capability)
        if branches is None or driver is None:
            continue
        newest = branches.newest
        if newest and driver.major > newest:
            return OLDER_DRIVER
    return driver_remedy(host)


# --- texts ---------------------------------------------------------------------------------------------------------


def _arguments(request: Request, case: Case) -> str:
    """The request as arguments of `envbuilder`."""
    words = command(request, flags=context_flags(case.catalog))
    return words.removeprefix("envbuilder ")


def _machine(host: Host) -> str:
    parts = []
    if host.gpu.devices:
        parts.append(describe(host.gpu))
    if host.gpu.driver:
        parts.append(f"driver {host.gpu.driver}")
    return " with ".join(parts) or "this machine"
