"""Does arithmetic come out right? The guide's formulas, written down once more, against torch's own operators."""

import math

SEED = 1234


def tensors(*shapes, dtype, device="cpu"):
    import torch

    generator = torch.Generator().manual_seed(SEED)
    return [torch.randn(*shape, generator=generator).to(device=device, dtype=dtype) for shape in shapes]


def distance(seen, expected):
    """The largest difference relative to the largest expected value."""
    seen, expected = seen.double(), expected.double()
    return ((seen - expected).abs().max() / expected.abs().max()).item()


def attention_distance(dtype, device="cpu"):
    """softmax(Q Kᵀ / √d) V against torch's attention (before torch 2: against its multi-head attention's core)."""
    import torch
    from torch.nn import functional

    q, k, v = tensors((2, 4, 16, 32), (2, 4, 16, 32), (2, 4, 16, 32), dtype=dtype, device=device)
    scores = q.double() @ k.double().transpose(-2, -1) / math.sqrt(q.shape[-1])
    expected = torch.exp(scores - scores.max(-1, keepdim=True)[0])
    expected = expected / expected.sum(-1, keepdim=True) @ v.double()
    if hasattr(functional, "scaled_dot_product_attention"):
        seen = functional.scaled_dot_product_attention(q, k, v)
    else:
        seen = functional.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1) @ v
    return distance(seen, expected)


def feed_forward_distance(dtype, device="cpu"):
    """max(0, x W₁ + b₁) W₂ + b₂ against two linear layers."""
    from torch.nn import functional

    x, w1, b1, w2, b2 = tensors((8, 32), (32, 64), (64,), (64, 32), (32,), dtype=dtype, device=device)
    hidden = (x.double() @ w1.double() + b1.double()).clamp(min=0)
    expected = hidden @ w2.double() + b2.double()
    seen = functional.linear(functional.relu(functional.linear(x, w1.t(), b1)), w2.t(), b2)
    return distance(seen, expected)


def layer_norm_distance(dtype, device="cpu"):
    """(x − mean) / √(variance + ε) · γ + β against torch's layer normalisation."""
    from torch.nn import functional

    x, gamma, beta = tensors((8, 64), (64,), (64,), dtype=dtype, device=device)
    wide = x.double()
    variance = ((wide - wide.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
    expected = (wide - wide.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt() * gamma.double() + beta.double()
    return distance(functional.layer_norm(x, (64,), gamma, beta, 1e-5), expected)


def operator_distances(dtype, device="cpu"):
    """The guide's three formulas against torch's operators, by name."""
    return {
        "attention": attention_distance(dtype, device),
        "feed-forward": feed_forward_distance(dtype, device),
        "layer normalisation": layer_norm_distance(dtype, device),
    }


def check_operators(dtype):
    """A check of the three formulas in one precision; its value is the largest relative difference."""

    def check(inspection):
        import torch

        found = operator_distances(getattr(torch, dtype))
        worst = max(found, key=found.get)
        detail = "%s is off by %.2g of its size" % (worst, found[worst])
        return inspection.judge(
            "numerics." + dtype, found[worst], detail, "this torch computes wrongly here: use another"
        )

    return check


def check_matmul(inspection):
    """A float32 product against the same in float64."""
    import torch

    a, b = tensors((256, 256), (256, 256), dtype=torch.float32)
    found = distance(a @ b, a.double() @ b.double())
    return inspection.judge(
        "numerics.matmul", found, "the product is off", "this torch computes wrongly here: use another"
    )


def check_gradients(inspection):
    """What backward gives against finite differences, in float64."""
    import torch

    x, w = tensors((4, 8), (8, 8), dtype=torch.float64)
    x.requires_grad_(True)

    def function(point):
        hidden = torch.nn.functional.layer_norm(point @ w, (8,))
        return (torch.softmax(hidden, -1) * torch.tanh(hidden)).sum()

    function(x).backward()
    step, worst = 1e-6, 0.0
    with torch.no_grad():
        for index in range(x.numel()):
            nudge = torch.zeros(x.numel(), dtype=torch.float64)
            nudge[index] = step
            nudge = nudge.reshape(x.shape)
            slope = (function(x + nudge) - function(x - nudge)) / (2 * step)
            worst = max(worst, abs(slope.item() - x.grad.reshape(-1)[index].item()))
    return inspection.judge(
        "numerics.gradients", worst, "backward is off", "this torch computes wrongly here: use another"
    )
