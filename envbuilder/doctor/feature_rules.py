"""The rule about what the GPUs can do, whatever the versions: half precisions, compiling, fast attention."""

from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.doctor.finding import Case, Finding, fine, note
from envbuilder.doctor.gpu_rules import describe, is_jetson
from envbuilder.versions import listed


def gpu_has_features(case: Case) -> Finding | None:
    gpu = case.host.gpu
    if not gpu.capabilities:
        return None
    if is_jetson(case.host, case.catalog):
        return None
    gpus = describe(gpu)
    oldest = min(gpu.capabilities)
    reasons = []
    missing = _missing(oldest, case.catalog)
    if not missing:
        names = listed(row.feature for row in case.catalog.gpu_features)
        return fine("features", f"{gpus}: {names} are supported")
    for name, reason in missing.items():
        reasons.append(f"{name}: {reason}")
    why = "; ".join(reasons)
    return note("features", f"{gpus}: no {listed(missing)}", why)


def _missing(capability: Version, catalog: Catalog) -> dict[str, str]:
    """Feature → why GPUs of this compute capability do not have it."""
    missing = {}
    for row in catalog.gpu_features:
        if capability < row.capability:
            missing[row.feature] = row.says
    return missing
