"""What depends on the GPU and not on the versions: is each feature there, and only there, where its table says so?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from acceptance.checks.features import compiled_frames, curve, promise
from acceptance.checks.gpu import Capability, torch_with_gpu
from acceptance.checks.inspection import Answer, Failure, Skipped
from acceptance.text import describe

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection


@dataclass(frozen=True)
class GpuFeature:
    """A feature, the first compute capability that has it, and the first torch in which it can be tried."""

    name: str
    capability: Capability
    torch: tuple[int, int]
    works: Callable[[Any], bool]  # tries it; an error says that it does not
    # By compute capability, where the first torch is a later one.
    torch_for: dict[Capability, tuple[int, int]] = field(default_factory=dict)


# --- trying one ----------------------------------------------------------------------------------------------------


def compiles(torch: Any) -> bool:
    """Triton makes a kernel for this GPU, and it computes what torch does."""
    before = compiled_frames()
    inputs = torch.linspace(-2, 2, 64, device="cuda")
    compiled = torch.compile(curve)
    seen = compiled(inputs)
    expected = curve(inputs)
    same: bool = torch.allclose(seen, expected, atol=1e-4)
    new_frames = compiled_frames() - before
    return same and new_frames > 0


def has_bf16(torch: Any) -> bool:
    """In hardware: emulated, everything works and is slow."""
    try:
        supported: bool = torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # older ones did not count emulation
        supported = torch.cuda.is_bf16_supported()
    return supported


def has_flash_attention(torch: Any) -> bool:
    """torch's own FlashAttention-2 kernel, with every other kernel switched off."""
    shape = (1, 2, 64, 64)
    query = torch.ones(shape, device="cuda", dtype=torch.float16)
    functional = torch.nn.functional
    with only_flash_attention(torch):
        seen = functional.scaled_dot_product_attention(
            query,
            query,
            query,
        )
    same: bool = torch.allclose(seen, query, atol=1e-2)
    return same


def only_flash_attention(torch: Any) -> Any:
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # torch 2.2
        return torch.backends.cuda.sdp_kernel(
            enable_flash=True,
            enable_math=False,
            enable_mem_efficient=False,
        )
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION)


def multiplies_fp8(torch: Any) -> bool:
    """A product of two float8 matrices."""
    ones = torch.ones(32, 32, device="cuda").to(torch.float8_e4m3fn)
    scale = torch.ones((), device="cuda")
    product = torch._scaled_mm(
        ones,
        ones.t(),
        scale_a=scale,
        scale_b=scale,
        out_dtype=torch.bfloat16,
    )
    same: bool = bool((product == 32).all())
    return same


# The ptxas that an older Triton brings does not know these.
NEWER_TRITON = {(10, 3): (2, 10), (11, 0): (2, 12), (12, 1): (2, 10)}
# Capabilities as in the catalog's gpu_features.json; a test compares the two.
GPU_FEATURES = (
    GpuFeature("torch.compile", (7, 0), (2, 0), compiles, NEWER_TRITON),
    GpuFeature("bf16", (8, 0), (1, 13), has_bf16),
    GpuFeature("FlashAttention-2", (8, 0), (2, 2), has_flash_attention),
    # Two older ones can multiply them, too, by functions with other arguments.
    GpuFeature("FP8", (8, 9), (2, 5), multiplies_fp8),
)


# --- the check -----------------------------------------------------------------------------------------------------


def check_gpu_features(inspection: Inspection) -> Answer:
    """Each feature works on this GPU exactly if its compute capability is in the table."""
    torch = torch_with_gpu(inspection)
    capability = torch.cuda.get_device_capability(0)
    expected = []
    working = []
    findings = []
    for feature in GPU_FEATURES:
        if is_too_old(torch, feature, capability):
            continue
        if not is_promised(feature, inspection):
            continue
        if capability >= feature.capability:
            expected.append(feature.name)
        works, finding = try_feature(feature, torch)
        if works:
            working.append(feature.name)
        if finding:
            findings.append(finding)
    value = " ".join(working) or "none"
    bound = " ".join(expected) or "none"
    if value == bound:
        return Answer(value=value, bound=bound, findings=findings)
    major, minor = capability
    raise Failure(
        f"on a GPU of compute capability {major}.{minor}: {'; '.join(findings) or 'more works than is known'}",
        value=value,
        bound=bound,
        remedy=remedy_for(findings),
    )


def is_too_old(torch: Any, feature: GpuFeature, capability: Capability) -> bool:
    """Whether this torch does not have it on a GPU of this compute capability."""
    first = feature.torch_for.get(capability, feature.torch)
    numbers = []
    for part in torch.__version__.split(".")[:2]:
        number = int(part)
        numbers.append(number)
    return tuple(numbers) < first


def is_promised(feature: GpuFeature, inspection: Inspection) -> bool:
    """Whether the stack does not say that it is broken on any GPU."""
    if feature.name != "torch.compile":
        return True
    try:
        promised = promise(inspection, feature.name)
    except Skipped:
        return False
    return promised is None or promised["available"]


def try_feature(feature: GpuFeature, torch: Any) -> tuple[bool, str]:
    """Whether it works, and the error if it raises one."""
    try:
        return feature.works(torch), ""
    except Exception as error:
        return False, f"{feature.name}: {describe(error)}"


def remedy_for(findings: list[str]) -> str:
    if "ptxas" in " ".join(findings).lower():
        return "Triton's own ptxas is older than this GPU: set TRITON_PTXAS_PATH to the ptxas of a newer CUDA"
    return "do not use them on this GPU, and report it"
