"""The check of what depends on the GPU, on GPUs of straw."""

from types import SimpleNamespace
from typing import Any

import pytest

from acceptance.checks import gpu_features
from acceptance.checks.gpu_features import GPU_FEATURES, GpuFeature
from acceptance.checks.inspection import Failure, Inspection

PTXAS = "ptxas fatal: Value 'sm_121a' is not defined for option 'gpu-name'"


def check_on(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    broken: str = "",
    *,
    version: str = "2.15.0+cu132",
    error: str = "no",
) -> Any:
    """What the check says of a GPU that has the features of the table but one."""
    torch = SimpleNamespace(
        __version__=version,
        cuda=SimpleNamespace(get_device_capability=lambda number: capability),
    )

    def works(feature: GpuFeature) -> Any:
        def try_it(torch: Any) -> bool:
            if feature.name == broken:
                raise RuntimeError(error)
            return capability >= feature.capability

        return try_it

    table = [
        GpuFeature(row.name, row.capability, row.torch, works(row), row.torch_for)
        for row in GPU_FEATURES
    ]
    monkeypatch.setattr(gpu_features, "GPU_FEATURES", table)
    monkeypatch.setattr(gpu_features, "torch_with_gpu", lambda inspection: torch)
    return gpu_features.check_gpu_features(Inspection(limits=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capability", "features"),
    [
        ((6, 1), "none"),
        ((7, 5), "torch.compile"),
        ((8, 6), "torch.compile bf16 FlashAttention-2"),
        ((12, 0), "torch.compile bf16 FlashAttention-2 FP8"),
    ],
)
def test_features_by_compute_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], features: str
) -> None:
    answer = check_on(monkeypatch, capability)
    assert (answer.value, answer.bound) == (features, features)


def test_a_feature_that_is_missing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure) as failure:
        check_on(monkeypatch, (9, 0), "FlashAttention-2")
    answer = failure.value.answer
    assert "FlashAttention-2: " in answer.detail
    assert answer.value == "torch.compile bf16 FP8"


def test_an_old_ptxas_has_its_own_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure) as failure:
        check_on(monkeypatch, (12, 1), "torch.compile", error=PTXAS)
    assert "TRITON_PTXAS_PATH" in failure.value.answer.remedy


def test_a_triton_older_than_the_gpu_need_not_compile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = check_on(monkeypatch, (12, 1), version="2.9.1+cu130")
    assert answer.value == "bf16 FlashAttention-2 FP8"


def test_an_older_torch_is_not_asked_for_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = check_on(monkeypatch, (9, 0), version="1.13.1")
    assert answer.value == "bf16"
