"""Rules about NVIDIA's driver, its GPUs, and how containers get them."""

from collections import Counter

from packaging.version import InvalidVersion, Version

from envbuilder.catalog import gpus
from envbuilder.catalog.gpus import runs_server_wheels
from envbuilder.catalog.rows import Catalog
from envbuilder.catalog.rows import Gpu as GpuRow
from envbuilder.doctor import remedies
from envbuilder.doctor.finding import Case, Finding, error, fine, note, unknown, warning
from envbuilder.engine.gpu_access import RUNTIME, GpuAccess, GpuPlan, Offers, plan_gpu
from envbuilder.host.records import DESKTOP, Engine, Host

_TOOLKIT = "nvidia-container-toolkit"  # as advisories call it
_CONSUMER = ("geforce", "titan")
_SMI_SAYS = "nvidia-smi says: "


def jetson_is_no_server(case: Case) -> Finding | None:
    if not is_jetson(case.host, case.catalog):
        return None
    model = case.host.jetson or describe(case.host)
    return error(
        "jetson",
        f"this is a Jetson: {model}",
        "the wheels of the index have no kernels for its GPU; NVIDIA makes wheels and images for it",
        remedies.JETSON,
    )


def driver_works(case: Case) -> Finding | None:
    host = case.host
    if host.engine_is_elsewhere or is_jetson(host, case.catalog) or (host.hidden_by and not host.gpus):
        return None
    if _libraries_differ(host):
        return error(
            "driver",
            f"the kernel runs NVIDIA driver {host.driver or '?'}, and the libraries on disk are of another one",
            "an upgrade has not been loaded yet: no program can use the GPU, in a container or outside; "
            f"{_SMI_SAYS}{host.smi_said}",
            remedies.REBOOT,
        )
    if host.gpus:
        return _driver_with_gpus(host)
    return _driver_without_gpus(host) if host.driver else _no_driver(host)


def _driver_with_gpus(host: Host) -> Finding:
    if not host.driver:
        return unknown("gpu", f"{describe(host)}; its driver is unknown", "`--driver` names it")
    return fine("gpu", f"{describe(host)}, driver {host.driver}")


def _driver_without_gpus(host: Host) -> Finding:
    if host.smi_said:
        message = f"NVIDIA driver {host.driver} is loaded, and shows no GPU"
        return error("driver", message, f"{_SMI_SAYS}{host.smi_said}", remedies.SHOW_MODULE)
    return unknown("gpu", f"NVIDIA driver {host.driver}; which GPUs it has is unknown", "there is no `nvidia-smi`")


def _no_driver(host: Host) -> Finding:
    if host.gpus is None and host.driver is None:
        return unknown("gpu", "whether there is an NVIDIA GPU is unknown")
    if host.wsl:
        why = "training runs on the CPU; WSL2 gets GPUs from the driver of Windows, never from one of its own"
        return note("gpu", "WSL2 shows no NVIDIA GPU", why, remedies.WSL_DRIVER)
    cards = f"{host.cards} NVIDIA GPU{'s' if host.cards != 1 else ''}"
    if host.cards and host.nouveau:
        remedy = remedies.by_distribution(host, remedies.NO_NOUVEAU, remedies.NO_NOUVEAU_DNF)
        return error(
            "driver", f"nouveau holds {cards}", "CUDA needs NVIDIA's driver, which cannot load beside it", remedy
        )
    if host.cards:
        why = f"CUDA needs it{'; ' + _SMI_SAYS + host.smi_said if host.smi_said else ''}"
        return error("driver", f"{cards} and no NVIDIA driver loaded", why, remedies.driver(host))
    return note("gpu", "no NVIDIA GPU is here", "training runs on the CPU")


def cuda_starts(case: Case) -> Finding | None:
    host = case.host
    if _libraries_differ(host) or not (host.gpus or host.cuda_init in _CUDA_SAYS) or host.engine_is_elsewhere:
        return None
    if host.cuda_init is None:
        return unknown("cuda", "whether CUDA starts is unknown: libcuda.so.1 could not be asked")
    if host.cuda_init == 0:
        return fine("cuda", f"CUDA starts; the driver knows it up to {host.cuda_newest}")
    if host.hidden_by or any(gpu.mig for gpu in host.gpus or ()):
        return None
    says = _CUDA_SAYS.get(host.cuda_init)
    if says is None:
        why = "no program can use the GPU; the kernel's log may say why"
        return error("cuda", f"CUDA does not start: error {host.cuda_init}", why, remedies.SHOW_MODULE)
    message, why, remedy = says
    if host.cuda_init in _VERSIONS_CLASH and not host.compat:
        remedy = remedies.driver(host)
    driver = host.driver or "unknown"
    return error("cuda", f"CUDA does not start: error {host.cuda_init}, {message}", why.format(driver=driver), remedy)


_VERSIONS_CLASH = (803, 804)
_CUDA_SAYS = {  # https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
    802: (
        "the GPUs' fabric is not ready",
        "GPUs joined by NVSwitch wait for the fabric manager, which must be of the driver's version ({driver})",
        remedies.FABRIC,
    ),
    803: (
        "driver and libcuda do not go together",
        "driver {driver} is too old for the libcuda that is found first, or an upgrade has not been loaded",
        remedies.NO_COMPAT,
    ),
    804: (
        "forward compatibility on a GPU that has none",
        "a libcuda newer than driver {driver} is found first, as in images of nvidia/cuda (cuda-compat): "
        "that works on data-centre GPUs only",
        remedies.NO_COMPAT,
    ),
    999: (
        "unknown",
        "most often the module nvidia_uvm is not loaded, as after a suspend",
        remedies.LOAD_UVM,
    ),
}


def gpu_is_not_hidden(case: Case) -> Finding | None:
    host = case.host
    if not host.hidden_by:
        return None
    message = f"{host.hidden_by} hides the GPUs"
    if not host.gpus:
        why = "this is a container that was started without GPUs" if host.container else "nothing here can see one"
        return error("hidden", message, why, remedies.GIVE_GPUS if host.container else remedies.SHOW_GPUS)
    why = "compose.yaml passes it on to its containers, and so do programs started here"
    return warning("hidden", message, why, remedies.SHOW_GPUS)


def mig_has_instances(case: Case) -> Finding | None:
    host = case.host
    if not any(gpu.mig for gpu in host.gpus or ()):
        return None
    if host.mig_instances is None:
        return unknown("mig", "MIG is on; how many instances there are is unknown")
    if host.mig_instances == 0:
        why = "a GPU in MIG mode gives CUDA nothing but its instances"
        return error("mig", "MIG is on, and there is no instance", why, remedies.MIG_INSTANCES)
    why = "one process gets one instance: training on several GPUs is not possible with them"
    return note("mig", f"MIG is on, with {host.mig_instances} instances", why)


# --- containers ----------------------------------------------------------------------------------------------------


def containers_get_gpus(case: Case) -> Finding | None:
    host, engine = case.host, case.host.engine
    if not host.gpus or host.engine_is_elsewhere or _libraries_differ(host):
        return None
    if engine is None:
        return unknown("gpu-access", "whether containers get the GPUs is unknown")
    return _access(host, engine) if engine.program == "docker" else None


def _access(host: Host, engine: Engine) -> Finding:
    plan = _plan(host)
    if plan.access is GpuAccess.CDI and host.cdi_driver and host.driver and host.cdi_driver != host.driver:
        message = f"the CDI specification is for driver {host.cdi_driver}, and {host.driver} runs"
        why = "it names files that are gone: containers with a GPU do not start"
        return error("gpu-access", message, why, remedies.CDI_AGAIN)
    if plan.access in (GpuAccess.CDI, GpuAccess.RUNTIME):
        return fine("gpu-access", plan.reason)
    return fine("gpu-access", "Docker Desktop passes GPUs on") if engine.system == DESKTOP else _no_access(host, engine)


def _no_access(host: Host, engine: Engine) -> Finding:
    if host.cdi_files and not engine.cdi:
        message = f"a CDI specification is here ({host.cdi_files[0]}), and the engine does not read it"
        why = f"CDI is off in Docker {engine.version}: containers see no GPU"
        return error("gpu-access", message, why, remedies.CDI_ON)
    if host.toolkit is None:
        return unknown("gpu-access", "whether containers get the GPUs is unknown")
    if host.toolkit == "":
        remedy = remedies.by_distribution(host, remedies.INSTALL_TOOLKIT, remedies.INSTALL_TOOLKIT_DNF)
        why = '`docker run --gpus all` ends in `could not select device driver "" with capabilities: [[gpu]]`'
        return error("gpu-access", "containers see no GPU: the NVIDIA Container Toolkit is not here", why, remedy)
    why = "`--gpus all` works by a hook if the engine was started after the toolkit came; `--runtime nvidia` does not"
    return warning("gpu-access", "the engine has no NVIDIA runtime", why, remedies.CONFIGURE_RUNTIME)


def _plan(host: Host) -> GpuPlan:
    engine = host.engine
    assert engine is not None  # noqa: S101  (its callers have looked)
    return plan_gpu(
        Offers(runtimes=engine.runtimes, cdi_devices=engine.cdi_devices, device_nodes=bool(host.device_nodes))
    )


def rootless_engine_gets_gpus(case: Case) -> Finding | None:
    host, engine = case.host, case.host.engine
    if engine is None or not engine.rootless or not host.gpus or not host.toolkit or engine.program != "docker":
        return None
    if _plan(host).access is GpuAccess.CDI or host.toolkit_cgroups is False:
        return None
    message = "the engine is rootless, and NVIDIA's runtime wants to set up control groups"
    if host.toolkit_cgroups is None:
        return unknown("rootless", f"{message}, or not: its configuration could not be read")
    why = "containers with a GPU do not start: `bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted`"
    return error("rootless", message, why, remedies.ROOTLESS_GPU)


def toolkit_is_safe(case: Case) -> Finding | None:
    host = case.host
    if not host.toolkit:
        return None
    try:
        version = Version(host.toolkit)
    except InvalidVersion:
        return unknown("toolkit", f"whether NVIDIA Container Toolkit {host.toolkit} is safe is unknown")
    against = [row for row in case.catalog.advisories if row.package == _TOOLKIT and version < row.fixed]
    if not against:
        return fine("toolkit", f"NVIDIA Container Toolkit {host.toolkit}")
    last = max(against, key=lambda row: row.fixed)  # what mends it mends the others
    message = f"NVIDIA Container Toolkit {host.toolkit}: {last.says} ({', '.join(row.id for row in against)})"
    remedy = remedies.by_distribution(host, remedies.UPGRADE_TOOLKIT, remedies.UPGRADE_TOOLKIT_DNF)
    return warning("toolkit", message, f"{last.advice}; run no image of others until then", remedy)


def gpus_are_asked_for(case: Case) -> Finding | None:
    host, engine = case.host, case.host.engine
    if not host.gpus or engine is None or RUNTIME not in engine.runtimes:
        return None
    if engine.default_runtime == RUNTIME:
        return fine("runtime", "every container gets the GPUs that its environment names")
    why = f"the default runtime is {engine.default_runtime}: a plain `docker run` trains on the CPU"
    return note("runtime", "containers get GPUs only if they ask for them", why, remedies.ASK_FOR_GPU)


# --- words ---------------------------------------------------------------------------------------------------------


def describe(host: Host) -> str:
    """`2 × NVIDIA A100-SXM4-80GB (8.0)`."""
    kinds = Counter((gpu.name, gpu.capability) for gpu in host.gpus or ())
    return ", ".join(
        f"{f'{count} × ' if count > 1 else ''}{name}{f' ({capability})' if capability else ''}"
        for (name, capability), count in kinds.items()
    )


def is_consumer(name: str) -> bool:
    """Whether a GPU is of a family that has no forward compatibility."""
    return any(word in name.lower() for word in _CONSUMER)


def is_jetson(host: Host, catalog: Catalog) -> bool:
    """Whether it is a Jetson that servers' wheels do not run on; a GPU that is only named tells by its capability."""
    if host.jetson:
        served = (row for row in catalog.gpus if gpus.is_jetson(row) and runs_server_wheels(row, catalog))
        return not any(_code_name(row) in host.jetson for row in served)
    return any(row.capability in host.capabilities for row in catalog.gpus if not runs_server_wheels(row, catalog))


def _code_name(row: GpuRow) -> str:
    """Thor of `Blackwell (Thor)`: a Jetson's model has it, as `NVIDIA Jetson AGX Thor Developer Kit`."""
    return row.architecture.partition("(")[2].rstrip(")") or row.architecture


def _libraries_differ(host: Host) -> bool:
    return "version mismatch" in host.smi_said.lower()
