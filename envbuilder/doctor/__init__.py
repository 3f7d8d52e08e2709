"""Case → Findings: pure rules over what `host.collect` found. What could not be asked is unknown, never fine.

The rules are in the order in which one thing needs another: no build without an engine, no training without a driver.
Findings are sorted by severity and keep that order within it, so the first one is what to fix first.
"""

from dataclasses import replace

from envbuilder.doctor import (
    engine_rules,
    feature_rules,
    gpu_rules,
    machine_rules,
    network_rules,
    stack_rules,
)
from envbuilder.doctor.finding import Case, Finding, Rule, Severity

__all__ = ["RULES", "Case", "Finding", "Severity", "diagnose"]

RULES: tuple[Rule, ...] = (
    engine_rules.engine_answers,
    engine_rules.engine_is_docker,
    engine_rules.engine_is_new_enough,
    engine_rules.engine_is_local,
    network_rules.clock_is_right,
    network_rules.network_is_up,
    engine_rules.buildx_is_installed,
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
    engine_rules.buildkit_is_on,
    engine_rules.engine_is_no_snap,
    engine_rules.compose_is_v2,
    network_rules.containers_trust_the_ca,
    gpu_rules.gpus_must_be_requested,
    gpu_rules.gpus_survive_a_reload,
    engine_rules.files_belong_to_the_user,
    engine_rules.control_groups_are_current,
    machine_rules.shared_memory_is_enough,
    network_rules.builds_trust_the_ca,
    network_rules.bases_can_be_bootstrapped,
    feature_rules.gpu_has_features,
)

_ORDER = list(Severity)


def diagnose(case: Case) -> list[Finding]:
    """The findings of all rules, most severe first."""
    case = replace(case, host=stack_rules.with_capabilities(case.host, case.catalog))
    findings = []
    for rule in RULES:
        finding = rule(case)
        if finding:
            findings.append(finding)
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
