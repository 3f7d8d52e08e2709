"""Does arithmetic come out right? The guide's formulas, written down once more, against torch's own operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from acceptance.checks.inspection import Answer, Inspection

SEED = 1234
EPSILON = 1e-5
WRONG_RESULTS = "this torch build gives wrong results on this machine: use another"


def random_tensors(
    *shapes: tuple[int, ...], dtype: Any, device: str = "cpu"
) -> list[Any]:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    tensors = []
    for shape in shapes:
        tensor = torch.randn(*shape, generator=generator)
        tensors.append(tensor.to(device=device, dtype=dtype))
    return tensors


def relative_difference(seen: Any, expected: Any) -> float:
    """The largest difference relative to the largest expected value."""
    seen = seen.double()
    expected = expected.double()
    largest_difference = (seen - expected).abs().max()
    difference: float = (largest_difference / expected.abs().max()).item()
    return difference


# --- the guide's formulas ------------------------------------------------------------------------------------------


def attention_difference(dtype: Any, device: str = "cpu") -> float:
    """softmax(Q Kᵀ / √d) V against torch's attention (before torch 2: against its multi-head attention's core)."""
    from torch.nn import functional

    shape = (2, 4, 16, 32)
    scale = math.sqrt(shape[-1])
    q, k, v = random_tensors(
        shape,
        shape,
        shape,
        dtype=dtype,
        device=device,
    )
    if hasattr(functional, "scaled_dot_product_attention"):
        seen = functional.scaled_dot_product_attention(q, k, v)
    else:
        scores = q @ k.transpose(-2, -1)
        weights = functional.softmax(scores / scale, dim=-1)
        seen = weights @ v
    expected = attention(
        q.double(),
        k.double(),
        v.double(),
        scale,
    )
    return relative_difference(seen, expected)


def attention(q: Any, k: Any, v: Any, scale: float) -> Any:
    scores = q @ k.transpose(-2, -1) / scale
    return softmax(scores) @ v


def softmax(scores: Any) -> Any:
    largest = scores.max(-1, keepdim=True)[0]
    powers = (scores - largest).exp()
    return powers / powers.sum(-1, keepdim=True)


def feed_forward_difference(dtype: Any, device: str = "cpu") -> float:
    """max(0, x W₁ + b₁) W₂ + b₂ against two linear layers."""
    from torch.nn import functional

    x, w1, b1, w2, b2 = random_tensors(
        (8, 32),
        (32, 64),
        (64,),
        (64, 32),
        (32,),
        dtype=dtype,
        device=device,
    )
    hidden = functional.relu(functional.linear(x, w1.t(), b1))
    seen = functional.linear(hidden, w2.t(), b2)
    exact_hidden = x.double() @ w1.double() + b1.double()
    expected = exact_hidden.clamp(min=0) @ w2.double() + b2.double()
    return relative_difference(seen, expected)


def layer_norm_difference(dtype: Any, device: str = "cpu") -> float:
    """(x - mean) / √(variance + ε) · γ + β against torch's layer normalization."""
    from torch.nn import functional

    x, gamma, beta = random_tensors(
        (8, 64),
        (64,),
        (64,),
        dtype=dtype,
        device=device,
    )
    seen = functional.layer_norm(x, (64,), gamma, beta, EPSILON)
    exact = x.double()
    centered = exact - exact.mean(-1, keepdim=True)
    variance = (centered**2).mean(-1, keepdim=True)
    normalized = centered / (variance + EPSILON).sqrt()
    expected = normalized * gamma.double() + beta.double()
    return relative_difference(seen, expected)


def operator_differences(dtype: Any, device: str = "cpu") -> dict[str, float]:
    """The guide's three formulas against torch's operators, by name."""
    return {
        "attention": attention_difference(dtype, device),
        "feed-forward": feed_forward_difference(dtype, device),
        "layer normalization": layer_norm_difference(dtype, device),
    }


# --- the checks ----------------------------------------------------------------------------------------------------


def check_operators(dtype: str) -> Callable[[Inspection], Answer]:
    """A check of the three formulas in one precision; its value is the largest relative difference."""

    def check(inspection: Inspection) -> Answer:
        import torch

        differences = operator_differences(getattr(torch, dtype))
        worst = max(differences, key=lambda name: differences[name])
        return inspection.require(
            f"numerics.{dtype}",
            differences[worst],
            detail=f"{worst} is off by {differences[worst]:.2g} of its size",
            remedy=WRONG_RESULTS,
        )

    return check


def check_matmul(inspection: Inspection) -> Answer:
    """A float32 product against the same in float64."""
    import torch

    shape = (256, 256)
    a, b = random_tensors(shape, shape, dtype=torch.float32)
    return inspection.require(
        "numerics.matmul",
        relative_difference(a @ b, a.double() @ b.double()),
        detail="the matrix product is off",
        remedy=WRONG_RESULTS,
    )


def check_gradients(inspection: Inspection) -> Answer:
    """What backward gives against finite differences, in float64."""
    import torch

    x, w = random_tensors((4, 8), (8, 8), dtype=torch.float64)
    x.requires_grad_(True)

    def function(point: Any) -> Any:
        hidden = torch.nn.functional.layer_norm(point @ w, (8,))
        return (torch.softmax(hidden, -1) * torch.tanh(hidden)).sum()

    function(x).backward()
    with torch.no_grad():
        slopes = finite_differences(function, x)
    largest = (slopes - x.grad).abs().max().item()
    return inspection.require(
        "numerics.gradients",
        largest,
        detail="gradients differ from finite differences",
        remedy=WRONG_RESULTS,
    )


def finite_differences(
    function: Callable[[Any], Any], x: Any, step: float = 1e-6
) -> Any:
    """The slope of `function` at `x` in the direction of each of its numbers."""
    import torch

    slopes = []
    for index in range(x.numel()):
        nudge = torch.zeros_like(x)
        nudge.view(-1)[index] = step
        above = function(x + nudge)
        below = function(x - nudge)
        slope = (above - below) / (2 * step)
        slopes.append(slope)
    return torch.stack(slopes).reshape(x.shape)
