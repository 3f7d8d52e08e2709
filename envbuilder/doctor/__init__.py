"""Case → Findings: pure judgement of what `host.ask` was told. What could not be asked is unknown, never fine.

The rules stand in the order in which one thing needs another: no build without an engine, no training without a
driver. Findings are sorted by severity and keep that order within, so the first one is what to mend first.
"""

from dataclasses import replace

from envbuilder.doctor import engine_rules, gpu_rules, machine_rules, network_rules, stack_rules
from envbuilder.doctor.finding import Case, Finding, Rule, Severity

__all__ = ["RULES", "Case", "Finding", "Severity", "diagnose"]

RULES: tuple[Rule, ...] = (
    engine_rules.engine_answers,
    engine_rules.engine_is_docker,
    engine_rules.engine_is_here,
    network_rules.clock_is_right,
    network_rules.network_is_there,
    engine_rules.buildx_is_there,
    machine_rules.disk_has_room,
    network_rules.proxy_reaches_the_engine,
    network_rules.index_answers,
    network_rules.registry_answers,
    gpu_rules.jetson_is_no_server,
    gpu_rules.driver_works,
    gpu_rules.cuda_starts,
    gpu_rules.gpu_is_not_hidden,
    gpu_rules.mig_has_instances,
    gpu_rules.containers_get_gpus,
    gpu_rules.rootless_engine_gets_gpus,
    stack_rules.stack_runs_here,
    gpu_rules.toolkit_is_safe,
    engine_rules.engine_is_no_snap,
    engine_rules.compose_is_v2,
    network_rules.containers_trust_the_ca,
    gpu_rules.gpus_are_asked_for,
    engine_rules.files_belong_to_the_user,
    engine_rules.control_groups_are_current,
    machine_rules.shared_memory_is_enough,
    network_rules.builds_trust_the_ca,
    network_rules.bases_can_be_made,
)

_ORDER = list(Severity)


def diagnose(case: Case) -> list[Finding]:
    """What every rule has to say, what blocks first in front."""
    case = replace(case, host=stack_rules.with_capabilities(case.host, case.catalog))
    said = (rule(case) for rule in RULES)
    return sorted((finding for finding in said if finding), key=lambda finding: _ORDER.index(finding.severity))
