"""Case → Findings: pure judgement of what `host.ask` was told. What could not be asked is unknown, never fine.

The rules stand in the order in which one thing needs another: no build without an engine, no training without a
driver. Findings are sorted by severity and keep that order within, so the first one is what to mend first.
"""

from dataclasses import replace

from envbuilder.doctor import engine, gpu, machine, network, stack
from envbuilder.doctor.finding import Case, Finding, Rule, Severity

__all__ = ["RULES", "Case", "Finding", "Severity", "diagnose"]

RULES: tuple[Rule, ...] = (
    engine.engine_answers,
    engine.engine_is_docker,
    engine.engine_is_here,
    network.clock_is_right,
    network.network_is_there,
    engine.buildx_is_there,
    machine.disk_has_room,
    network.proxy_reaches_the_engine,
    network.index_answers,
    network.registry_answers,
    gpu.jetson_is_no_server,
    gpu.driver_works,
    gpu.cuda_starts,
    gpu.gpu_is_not_hidden,
    gpu.mig_has_instances,
    gpu.containers_get_gpus,
    gpu.rootless_engine_gets_gpus,
    stack.stack_runs_here,
    gpu.toolkit_is_safe,
    engine.engine_is_no_snap,
    engine.compose_is_v2,
    network.containers_trust_the_ca,
    gpu.gpus_are_asked_for,
    engine.files_belong_to_the_user,
    engine.control_groups_are_current,
    machine.shared_memory_is_enough,
    network.builds_trust_the_ca,
    network.bases_can_be_made,
)

_ORDER = list(Severity)


def diagnose(case: Case) -> list[Finding]:
    """What every rule has to say, what blocks first in front."""
    case = replace(case, host=stack.with_capabilities(case.host, case.catalog))
    said = (rule(case) for rule in RULES)
    return sorted((finding for finding in said if finding), key=lambda finding: _ORDER.index(finding.severity))
