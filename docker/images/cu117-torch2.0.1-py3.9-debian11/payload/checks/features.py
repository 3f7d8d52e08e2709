"""Does what the stack promises work: compiling, quantizing, functional transforms, several processes?"""

from checks.inspection import Failure, NotRun


def check_compile(inspection):
    """torch.compile does what the stack declares: it matches eager, or it raises."""
    import torch

    promised = [feature for feature in inspection.stack("features") if feature["name"] == "torch.compile"]
    if not promised:
        raise NotRun("the stack says nothing of it")
    inputs = torch.linspace(-2, 2, 64)
    expected = _curve(inputs)
    try:
        seen = torch.compile(_curve)(inputs)
    except Exception as error:
        if not promised[0]["available"]:
            return {"value": "raises", "bound": "raises", "findings": [promised[0]["reason"]]}
        remedy = "a C++ compiler and Python's headers must be in the image; see the traceback in `accept`'s output"
        detail = str(error).strip()[-300:]
        raise Failure(value="raises", bound="matches eager", detail=detail, remedy=remedy) from error
    if not promised[0]["available"]:
        detail = "it works, and the stack says that it does not"
        raise Failure(value="works", bound="raises", detail=detail, remedy="mend the catalog")
    largest = (seen - expected).abs().max().item()
    return inspection.judge(
        "features.compile", largest, "compiled and eager results differ", "turn it off and report it"
    )


def _curve(x):
    return (x.sin() * x.cos() + x.exp()).relu().sum() + x
