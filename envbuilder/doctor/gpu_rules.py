"""Rules about NVIDIA's driver, its GPUs, and how containers get them."""

from collections import Counter

from packaging.version import InvalidVersion, Version

from envbuilder.catalog import gpus
from envbuilder.catalog.gpus import runs_server_wheels
from envbuilder.catalog.rows import Catalog
from envbuilder.catalog.rows import Gpu as GpuRow
from envbuilder.doctor import remedies
from envbuilder.doctor.finding import Case, Finding, error, fine, note, unknown, warning
from envbuilder.doctor.remedies import Remedy
from envbuilder.engine.gpu_access import (
    RUNTIME,
    GpuAccess,
    GpuPlan,
    GpuSupport,
    plan_gpu,
)
from envbuilder.host.records import DESKTOP, Daemon, GpuState, Host

_TOOLKIT = "nvidia-container-toolkit"  # its name in advisories
_CONSUMER = ("geforce", "titan")


def jetson_is_no_server(case: Case) -> Finding | None:
    if not is_jetson(case.host, case.catalog):
        return None
    model = case.host.machine.jetson or describe(case.host.gpu)
    return error(
        "jetson",
        f"this is a Jetson: {model}",
        "the package index has no wheels with kernels for its GPU; NVIDIA publishes wheels and images for it",
        remedies.JETSON,
    )


# --- the driver ----------------------------------------------------------------------------------------------------


def driver_works(case: Case) -> Finding | None:
    host = case.host
    if host.engine.is_remote or is_jetson(host, case.catalog):
        return None
    if host.gpu.hidden_by and not host.gpu.devices:
        return None
    if host.gpu.libraries_differ:
        return error(
            "driver",
            f"the kernel runs NVIDIA driver {host.gpu.driver or '?'}, but the libraries on disk are another version",
            "an upgrade is not loaded yet: no program can use the GPU, in a container or outside "
            f"(nvidia-smi: {host.gpu.nvidia_smi_error})",
            remedies.REBOOT,
        )
    if host.gpu.devices:
        return _driver_with_gpus(host.gpu)
    return _driver_without_devices(host, case.catalog)


def _driver_without_devices(host: Host, catalog: Catalog) -> Finding:
    if host.gpu.lost_in_container and host.machine.container:
        return error(
            "driver",
            "this container had GPUs and has lost them",
            "systemd on the host took them away when it was reloaded, as by an upgrade of a package "
            f"(nvidia-smi: {host.gpu.nvidia_smi_error}); what is started anew gets them again",
            remedies.START_AGAIN,
        )
    if host.gpu.driver:
        return _driver_without_gpus(host.gpu, catalog)
    return _no_driver(host)


def _driver_with_gpus(gpu: GpuState) -> Finding:
    if not gpu.driver:
        return unknown(
            "gpu", f"{describe(gpu)}; its driver is unknown", "name it with `--driver`"
        )
    return fine("gpu", f"{describe(gpu)}, driver {gpu.driver}")


def _driver_without_gpus(gpu: GpuState, catalog: Catalog) -> Finding:
    if gpu.nvidia_smi_error:
        message = f"NVIDIA driver {gpu.driver} is loaded, but shows no GPU"
        why = f"nvidia-smi: {gpu.nvidia_smi_error}"
        dropped = _dropped_by(gpu.driver_version, catalog)
        if dropped:
            why += f"; a newer driver may not know the GPU: {dropped}"
        return error("driver", message, why, remedies.SHOW_MODULE)
    return unknown(
        "gpu",
        f"NVIDIA driver {gpu.driver}; its GPUs are unknown",
        "`nvidia-smi` was not found",
    )


def _dropped_by(driver: Version | None, catalog: Catalog) -> str:
    """Which GPUs a driver no longer knows that the branches before it did."""
    statements = []
    for row in catalog.compatibility:
        if (
            row.kind == "last driver branch"
            and driver
            and driver.major > int(row.subject)
        ):
            statements.append(row.says)
    return "; ".join(statements)


def _no_driver(host: Host) -> Finding:
    gpu = host.gpu
    if gpu.devices is None and gpu.driver is None:
        return unknown("gpu", "whether there is an NVIDIA GPU is unknown")
    if host.machine.wsl:
        why = "training runs on the CPU; WSL2 gets GPUs from the Windows driver, never from a driver of its own"
        return note("gpu", "WSL2 shows no NVIDIA GPU", why, remedies.WSL_DRIVER)
    if gpu.cards:
        return _cards_without_driver(host, gpu.cards)
    return note("gpu", "no NVIDIA GPU was found", "training runs on the CPU")


def _cards_without_driver(host: Host, count: int) -> Finding:
    cards = f"{count} NVIDIA GPU" if count == 1 else f"{count} NVIDIA GPUs"
    if host.gpu.nouveau:
        why = "CUDA needs NVIDIA's driver, which cannot be loaded next to nouveau"
        remedy = remedies.no_nouveau(host)
        return error("driver", f"nouveau is the driver of {cards}", why, remedy)
    why = "CUDA needs it"
    if host.gpu.nvidia_smi_error:
        why += f" (nvidia-smi: {host.gpu.nvidia_smi_error})"
    return error(
        "driver", f"{cards}, but no NVIDIA driver is loaded", why, remedies.driver(host)
    )


# --- CUDA ----------------------------------------------------------------------------------------------------------

_VERSIONS_CLASH = (803, 804)
_CUDA_ERRORS: dict[int, tuple[str, str, Remedy]] = {
    # https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
    802: (
        "the GPUs' fabric is not ready",
        "GPUs joined by NVSwitch wait for the fabric manager, which must have the driver's version ({driver})",
        remedies.FABRIC,
    ),
    803: (
        "driver and libcuda do not match",
        "driver {driver} is too old for the libcuda that is found first, or an upgrade is not loaded yet",
        remedies.NO_COMPAT,
    ),
    804: (
        "forward compatibility is not supported on this GPU",
        "a libcuda newer than driver {driver} is found first, as in images of nvidia/cuda (cuda-compat): "
        "that works on data-center GPUs only",
        remedies.NO_COMPAT,
    ),
    999: (
        "unknown",
        "most often the module nvidia_uvm is not loaded, e.g. after a suspend",
        remedies.LOAD_UVM,
    ),
}


def cuda_starts(case: Case) -> Finding | None:
    gpu = case.host.gpu
    if case.host.engine.is_remote or gpu.libraries_differ:
        return None
    if not gpu.devices and gpu.cuda_init not in _CUDA_ERRORS:
        return None
    if gpu.cuda_init is None:
        return unknown(
            "cuda", "whether CUDA starts is unknown: libcuda.so.1 could not be loaded"
        )
    if gpu.cuda_init == 0:
        return fine(
            "cuda", f"CUDA starts; the driver supports up to CUDA {gpu.cuda_newest}"
        )
    if gpu.hidden_by or gpu.has_mig or gpu.lost_in_container:
        return None
    return _cuda_error(case.host, gpu.cuda_init)


def _cuda_error(host: Host, code: int) -> Finding:
    if code not in _CUDA_ERRORS:
        why = "no program can use the GPU; the kernel log may say why"
        return error(
            "cuda", f"CUDA does not start: error {code}", why, remedies.SHOW_MODULE
        )
    name, why, remedy = _CUDA_ERRORS[code]
    if code in _VERSIONS_CLASH and not host.gpu.compat:
        remedy = remedies.driver(host)
    driver = host.gpu.driver or "unknown"
    return error(
        "cuda",
        f"CUDA does not start: error {code}, {name}",
        why.format(driver=driver),
        remedy,
    )


def gpu_is_not_hidden(case: Case) -> Finding | None:
    gpu = case.host.gpu
    if not gpu.hidden_by:
        return None
    message = f"{gpu.hidden_by} hides the GPUs"
    if gpu.devices:
        why = "compose.yaml passes it on to its containers, and so do programs started here"
        return warning("hidden", message, why, remedies.SHOW_GPUS)
    if case.host.machine.container:
        return error(
            "hidden",
            message,
            "this container was started without GPUs",
            remedies.GIVE_GPUS,
        )
    return error(
        "hidden", message, "no program started here can see a GPU", remedies.SHOW_GPUS
    )


def mig_has_instances(case: Case) -> Finding | None:
    gpu = case.host.gpu
    if not gpu.has_mig:
        return None
    if gpu.mig_instances is None:
        return unknown("mig", "MIG is on; the number of instances is unknown")
    if gpu.mig_instances == 0:
        why = "a GPU in MIG mode gives CUDA nothing but its instances"
        return error(
            "mig", "MIG is on, but there are no instances", why, remedies.MIG_INSTANCES
        )
    why = "a process can use only one instance: training on several of them is not possible"
    return note("mig", f"MIG is on, with {gpu.mig_instances} instances", why)


# --- containers ----------------------------------------------------------------------------------------------------


def containers_get_gpus(case: Case) -> Finding | None:
    host = case.host
    if not host.gpu.devices or host.engine.is_remote or host.gpu.libraries_differ:
        return None
    daemon = host.engine.daemon
    if daemon is None:
        return unknown("gpu-access", "whether containers can use the GPUs is unknown")
    if daemon.program != "docker":
        return None
    return _access(host, daemon)


def _access(host: Host, daemon: Daemon) -> Finding:
    plan = _plan(host.gpu, daemon)
    if plan.access is GpuAccess.CDI and _cdi_is_stale(host.gpu):
        message = f"the CDI specification is for driver {host.gpu.cdi_driver}, but {host.gpu.driver} is running"
        why = "it names files that no longer exist: containers with a GPU do not start"
        return error("gpu-access", message, why, remedies.CDI_AGAIN)
    if plan.access in (GpuAccess.CDI, GpuAccess.RUNTIME):
        return fine("gpu-access", plan.reason)
    if daemon.system == DESKTOP:
        return fine("gpu-access", "Docker Desktop gives containers the GPUs")
    return _no_access(host, daemon)


def _cdi_is_stale(gpu: GpuState) -> bool:
    if not gpu.cdi_driver or not gpu.driver:
        return False
    return gpu.cdi_driver != gpu.driver


def _no_access(host: Host, daemon: Daemon) -> Finding:
    if host.gpu.cdi_files and not daemon.cdi:
        message = f"there is a CDI specification ({host.gpu.cdi_files[0]}), but the engine does not read it"
        why = f"CDI is off in Docker {daemon.version}: containers see no GPU"
        return error("gpu-access", message, why, remedies.CDI_ON)
    if host.gpu.toolkit is None:
        return unknown("gpu-access", "whether containers can use the GPUs is unknown")
    if host.gpu.toolkit == "":
        why = '`docker run --gpus all` fails with `could not select device driver "" with capabilities: [[gpu]]`'
        remedy = remedies.toolkit(host)
        message = "containers see no GPU: the NVIDIA Container Toolkit is not installed"
        return error("gpu-access", message, why, remedy)
    why = (
        "`--gpus all` works if the engine was started after the toolkit was installed; "
        "`--runtime nvidia` does not work"
    )
    return warning(
        "gpu-access",
        "the engine has no NVIDIA runtime",
        why,
        remedies.CONFIGURE_RUNTIME,
    )


def _plan(gpu: GpuState, daemon: Daemon) -> GpuPlan:
    device_nodes = bool(gpu.device_nodes)
    return plan_gpu(
        GpuSupport(
            runtimes=daemon.runtimes,
            cdi_devices=daemon.cdi_devices,
            device_nodes=device_nodes,
        )
    )


def rootless_engine_gets_gpus(case: Case) -> Finding | None:
    gpu, daemon = case.host.gpu, case.host.engine.daemon
    if daemon is None or not daemon.rootless or daemon.program != "docker":
        return None
    if not gpu.devices or not gpu.toolkit or gpu.toolkit_cgroups is False:
        return None
    if _plan(gpu, daemon).access is GpuAccess.CDI:
        return None
    if gpu.toolkit_cgroups is None:
        message = "whether NVIDIA's runtime works with this rootless engine is unknown"
        return unknown("rootless", message, "its configuration could not be read")
    message = "the engine is rootless, but NVIDIA's runtime is configured to set up control groups"
    why = "containers with a GPU do not start: `bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted`"
    return error("rootless", message, why, remedies.ROOTLESS_GPU)


def gpus_survive_a_reload(case: Case) -> Finding | None:
    """Whether a container keeps its GPUs when systemd is reloaded: those of CDI are in what the engine tells it."""
    gpu, daemon = case.host.gpu, case.host.engine.daemon
    if daemon is None or daemon.cgroup_driver != "systemd" or not gpu.devices:
        return None
    if case.host.engine.is_remote or _plan(gpu, daemon).access is GpuAccess.CDI:
        return None
    why = "`systemctl daemon-reload`, which upgrades run, takes them away: `Failed to initialize NVML: Unknown Error`"
    return note(
        "reload",
        "containers can lose their GPUs while they run",
        why,
        remedies.DEVICE_LINKS,
    )


def toolkit_is_safe(case: Case) -> Finding | None:
    toolkit = case.host.gpu.toolkit
    if not toolkit:
        return None
    try:
        version = Version(toolkit)
    except InvalidVersion:
        return unknown(
            "toolkit", f"whether NVIDIA Container Toolkit {toolkit} is safe is unknown"
        )
    advisories = [
        row
        for row in case.catalog.advisories
        if row.package == _TOOLKIT and version < row.fixed
    ]
    if not advisories:
        return fine("toolkit", f"NVIDIA Container Toolkit {toolkit}")
    last = max(
        advisories, key=lambda row: row.fixed
    )  # upgrading to what fixes it fixes the others
    ids = ", ".join(row.id for row in advisories)
    remedy = remedies.newer_toolkit(case.host)
    why = f"{last.advice}; run no untrusted images until then"
    return warning(
        "toolkit",
        f"NVIDIA Container Toolkit {toolkit}: {last.says} ({ids})",
        why,
        remedy,
    )


def gpus_must_be_requested(case: Case) -> Finding | None:
    daemon = case.host.engine.daemon
    if not case.host.gpu.devices or daemon is None or RUNTIME not in daemon.runtimes:
        return None
    if daemon.default_runtime == RUNTIME:
        return fine(
            "runtime", "every container gets the GPUs that its environment names"
        )
    why = f"the default runtime is {daemon.default_runtime}: a plain `docker run` trains on the CPU"
    return note(
        "runtime", "containers get GPUs only on request", why, remedies.ASK_FOR_GPU
    )


# --- texts and kinds -----------------------------------------------------------------------------------------------


def describe(gpu: GpuState) -> str:
    """The GPUs of a host: `2 × NVIDIA A100-SXM4-80GB (8.0)`."""
    kinds = Counter((device.name, device.capability) for device in gpu.devices or ())
    descriptions = []
    for (name, capability), count in kinds.items():
        description = f"{name} ({capability})" if capability else name
        if count > 1:
            description = f"{count} × {description}"
        descriptions.append(description)
    return ", ".join(descriptions)


def is_consumer(name: str) -> bool:
    """Whether a GPU is of a family without forward compatibility."""
    return any(word in name.lower() for word in _CONSUMER)


def is_jetson(host: Host, catalog: Catalog) -> bool:
    """Whether it is a Jetson on which wheels for servers do not run; without a model its GPU's capability tells."""
    if host.machine.jetson:
        return not _is_served_jetson(host.machine.jetson, catalog)
    for row in catalog.gpus:
        if row.capability in host.gpu.capabilities and not runs_server_wheels(
            row, catalog
        ):
            return True
    return False


def _is_served_jetson(model: str, catalog: Catalog) -> bool:
    """Whether it is one of the newer Jetsons, on which they do run."""
    for row in catalog.gpus:
        if (
            _code_name(row) in model
            and gpus.is_jetson(row)
            and runs_server_wheels(row, catalog)
        ):
            return True
    return False


def _code_name(row: GpuRow) -> str:
    """Thor of `Blackwell (Thor)`: it is part of a Jetson's model, as in `NVIDIA Jetson AGX Thor Developer Kit`."""
    return row.architecture.partition("(")[2].rstrip(")") or row.architecture
