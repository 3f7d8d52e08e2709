"""The options of a request: all that the resolver knows of one is one row of one table.

Whatever has to go through the options (parsing, the candidate index, refusals, suggestions, settings) goes through
`OPTIONS`. To add one:

1. a field of `model.Request`, whose default asks for nothing;
2. a parser in `parsers.py`, and a rule in `rules.py` with the key of what decides its verdict;
3. its row here, and its `click.option` in `cli/shared_options.py`.

A companion (`--with`) is an option too, one for each that a request names: `every_option` has them in addition.

Then `tests/unit/test_rules.py` wants a value for it, and the oracle in `tests/oracle/` a rule of its own.
"""

from packaging.version import Version

from envbuilder.catalog.lookup import (
    known_builds,
    known_cuda,
    known_gpus,
    known_pythons,
    known_systems,
    tested_transformers,
)
from envbuilder.grammar import PLATFORMS
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Flavour, Request
from envbuilder.resolve import parsers, refusal, rules, suggest
from envbuilder.resolve.candidates import Candidate
from envbuilder.resolve.companion_option import companion_option
from envbuilder.resolve.companion_rules import together_objection
from envbuilder.resolve.option_row import Option
from envbuilder.resolve.refusal import Diagnosis
from envbuilder.resolve.request_rows import RequestRows
from envbuilder.resolve.rules import Reason, Rule
from envbuilder.versions import driver_text, minor_line

OPTIONS: tuple[Option, ...] = (
    Option(
        name="cuda",
        parse=parsers.parse_cuda,
        known=known_cuda,
        rule=rules.cuda_objection,
        key=rules.build_key,
        phrase="CUDA {}",
        diagnose_unknown=refusal.diagnose_unknown_line,
        diagnose_unavailable=refusal.diagnose_unavailable_cuda,
        version_of=lambda candidate: Version(candidate.cuda_line),
        try_instead=suggest.cuda_to_try,
    ),
    Option(
        name="cudnn",
        parse=parsers.parse_cudnn,
        known=lambda catalog: known_builds("cudnn", catalog),
        rule=rules.cudnn_objection,
        key=rules.build_key,
        phrase="cuDNN {}",
        diagnose_unknown=refusal.diagnose_unknown_line,
        version_of=lambda candidate: Version(minor_line(candidate.build.cudnn)),
        try_instead=suggest.cudnn_to_try,
    ),
    Option(
        name="python",
        parse=parsers.parse_version,
        known=known_pythons,
        rule=rules.python_objection,
        key=rules.python_key,
        phrase="Python {}",
        diagnose_unknown=refusal.diagnose_unknown_python,
        diagnose_unavailable=refusal.diagnose_unavailable_python,
        version_of=lambda candidate: candidate.python,
        try_instead=suggest.python_to_try,
    ),
    Option(
        name="torch",
        parse=parsers.parse_version,
        known=lambda catalog: known_builds("torch", catalog),
        rule=rules.torch_objection,
        key=rules.build_key,
        phrase="torch {}",
        diagnose_unknown=refusal.diagnose_unknown_version,
        version_of=lambda candidate: candidate.build.torch,
        try_instead=suggest.torch_to_try,
    ),
    Option(
        name="torchvision",
        parse=parsers.parse_version,
        known=lambda catalog: known_builds("torchvision", catalog),
        rule=rules.torchvision_objection,
        key=rules.build_key,
        phrase="torchvision {}",
        diagnose_unknown=refusal.diagnose_unknown_version,
        version_of=lambda candidate: candidate.build.torchvision,
        try_instead=suggest.torchvision_to_try,
    ),
    Option(
        name="transformers",
        parse=parsers.parse_version,
        known=tested_transformers,
        rule=rules.transformers_objection,
        key=rules.wheels_key,
        phrase="transformers {}",
        diagnose_unknown=refusal.diagnose_unknown_transformers,
        try_instead=suggest.transformers_to_try,
    ),
    Option(
        name="gpu",
        parse=parsers.parse_gpu,
        known=known_gpus,
        rule=rules.gpu_objection,
        key=rules.build_key,
        allowed_ranges=rules.ranges_of_gpu,
        phrase="GPU {}",
        diagnose_unknown=refusal.diagnose_unknown_gpu,
        diagnose_unavailable=refusal.diagnose_unavailable_gpu,
    ),
    Option(
        name="driver",
        parse=parsers.parse_version,
        format=driver_text,
        rule=rules.driver_objection,
        key=rules.build_key,
        allowed_ranges=rules.ranges_of_driver,
        phrase="driver {}",
        diagnose_unavailable=refusal.diagnose_unavailable_driver,
        distance=lambda candidate: Version(candidate.build.driver_floor),
        try_instead=suggest.drivers_to_try,
        advice="after upgrading the driver",
    ),
    Option(
        name="base",
        parse=parsers.parse_base,
        known=lambda _: (BASE_AUTO, BASE_BOOTSTRAP),
        rule=rules.base_objection,
        key=rules.glibc_key,
        phrase="--base {}",
        diagnose_unknown=refusal.diagnose_unusable_base,
    ),
    Option(
        name="os",
        parse=parsers.parse_os,
        known=known_systems,
        rule=rules.os_objection,
        key=rules.glibc_key,
        phrase="{}",
        diagnose_unknown=refusal.diagnose_unknown_os,
        diagnose_unavailable=refusal.diagnose_unavailable_os,
    ),
    Option(
        name="flavour",
        spellings=("flavor",),
        parse=parsers.parse_flavour,
        known=lambda _: tuple(Flavour),
        rule=rules.flavour_objection,
        key=rules.flavour_key,
        phrase="--flavour {}",
    ),
    Option(
        name="platform",
        parse=parsers.parse_platform,
        known=lambda _: PLATFORMS,
        rule=rules.platform_objection,
        key=rules.build_key,
        phrase="{}",
    ),
    Option(
        name="as_of",
        parse=parsers.parse_day,
        rule=rules.as_of_objection,
        key=rules.build_key,
        phrase="--as-of {}",
        diagnose_unavailable=refusal.diagnose_unavailable_day,
    ),
)


def every_option(request: Request) -> tuple[Option, ...]:
    """The options of a request: those of the table, and one for each of its companions."""
    if not request.companions:
        return OPTIONS
    companions = [companion_option(text) for text in request.companions]
    return (*OPTIONS, *companions)


def find_option(name: str) -> Option | None:
    """The option of this name, in any of its spellings: `flavor` is flavour."""
    for option in OPTIONS:
        if name == option.name or name in option.spellings:
            return option
    return None


def objections_to(rows: RequestRows, candidate: Candidate) -> list[Reason]:
    """Every reason against a candidate; none if it answers the request."""
    every_rule: list[Rule] = [option.rule for option in every_option(rows.request)]
    every_rule += [
        rules.glibc_objection,
        rules.driver_and_gpu_objection,
        together_objection,
    ]
    reasons = []
    for rule in every_rule:
        objection = rule(rows, candidate)
        if objection is not None:
            reasons.append(objection)
    return reasons


def diagnose_unknown(rows: RequestRows) -> dict[str, Diagnosis]:
    """The options whose values the catalog cannot judge, and why. Unknown is not incompatible."""
    diagnoses = {}
    for option in every_option(rows.request):
        diagnosis = option.diagnose(rows)
        if diagnosis:
            diagnoses[option.name] = diagnosis
    return diagnoses
