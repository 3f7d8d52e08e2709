"""The JSON Schemas of what each command prints with `--json`: `make schema` writes them to docs/reference/schemas/.

The nouns are read from the code by msgspec. How a command wraps them is written down here, and
tests/golden/test_json_documents.py holds real output against it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from envbuilder import serialize
from envbuilder.acceptance.inspect_image import Distribution, HistoryStep
from envbuilder.catalog.observations import CudaImage
from envbuilder.catalog.rows import Advisory
from envbuilder.doctor import Finding
from envbuilder.host.records import Host
from envbuilder.model import SCHEMA, Receipt, Stack
from envbuilder.resolve.explain import Explanation
from envbuilder.resolve.project_files.combination import Outcome

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_OPEN: Schema = {"type": "object"}


def described(schema: Schema, text: str) -> Schema:
    """The schema with a sentence for its reader."""
    return {**schema, "description": text}


def or_null(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(
    fields: Mapping[str, Schema], *, optional: Mapping[str, Schema] | None = None
) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
        "additionalProperties": False,
    }


def noun(name: str) -> Schema:
    """A reference to a noun of the code."""
    return {"$ref": f"#/$defs/{name}"}


def _nouns() -> Schema:
    """The schemas of all nouns; versions and paths are text."""
    types = [
        Advisory,
        CudaImage,
        Distribution,
        Explanation,
        Finding,
        Host,
        Receipt,
        Stack,
        HistoryStep,
    ]
    _, made = msgspec.json.schema_components(
        types, schema_hook=lambda _: _TEXT, ref_template="#/$defs/{name}"
    )
    return dict(made)


_NOUNS = _nouns()
_STACK_FIELDS = _NOUNS["Stack"]["properties"]

_STACK = record(
    {
        "name": described(_TEXT, "Name of preset, context folder and tag."),
        **{
            name: _STACK_FIELDS[name]
            for name in (
                "python",
                "torch",
                "torchvision",
                "torchaudio",
                "cuda",
                "cudnn",
                "nccl",
                "index",
            )
        },
        **{name: _STACK_FIELDS[name] for name in ("arch_list", "driver_floor")},
        "base": described(_TEXT, "Reference of the base image."),
        "os": _TEXT,
        "as_of": _STACK_FIELDS["as_of"],
        "packages": described(_TEXTS, "Requirements (PEP 508), the user's own last."),
        "companions": described(
            _STACK_FIELDS["companions"],
            "Packages bound to torch, CUDA or the GPU that were requested, and what is installed for each.",
        ),
        "apt": described(_TEXTS, "The distribution's packages that were requested."),
        "base_source": {"enum": ["registry", "bootstrap"]},
        "flavour": {"enum": ["runtime", "devel", "cpu"]},
        **{
            name: _STACK_FIELDS[name]
            for name in (
                "triton",
                "platform",
                "excluded",
                "features",
                "notes",
                "evidence",
            )
        },
        "index_url": described(
            _TEXT, 'Address of the index, "" for PyPI or if the catalog has none.'
        ),
    }
)

_OK: dict[str, Schema] = {"schema": {"const": SCHEMA}, "ok": {"const": True}}
_JUDGED: dict[str, Schema] = {"schema": {"const": SCHEMA}, "ok": _FLAG}

_ERROR = record(
    {
        "schema": {"const": SCHEMA},
        "ok": {"const": False},
        "error": described(_TEXT, "What is wrong, in one sentence."),
        "problems": described(_TEXTS, "Details, one a line."),
        "hint": described(
            _TEXT, "What to do; commands are in backticks. Can be empty."
        ),
    }
)

_CONFLICT = record(
    {
        "schema": {"const": SCHEMA},
        "ok": {"const": False},
        "conflict": described(
            {"type": "array", "items": record({"option": _TEXT, "value": _TEXT})},
            "The smallest set of options that no stack fits.",
        ),
        "reasons": described(_TEXTS, "The facts behind it, with their sources."),
        "suggestions": described(
            {"type": "array", "items": record({"command": _TEXT})},
            "Commands that resolve, nearest first.",
        ),
    },
    optional={"explanation": noun("Explanation")},
)

_RECEIPT_IN_BRIEF = record(
    {
        "verdict": {"enum": ["passed", "failed", "incomplete"]},
        "started": _TEXT,
        "seconds": _SECONDS,
        "suite": _OPEN,
        "host": _OPEN,
        "training": _OPEN,
        "checks": _COUNT,
        "failed": {
            "type": "array",
            "items": record(
                {"id": _TEXT, "title": _TEXT, "value": {}, "detail": _TEXT}
            ),
        },
    }
)

_LOCK_IN_BRIEF = record(
    {
        "sha256": _TEXT,
        "agrees": described(
            _FLAG,
            "Whether the lock has the hash that the label names, and can be read.",
        ),
        "problems": _TEXTS,
        "wheels": or_null(_COUNT),
        "bytes": or_null(_COUNT),
        "as_of": or_null(_TEXT),
        "catalog": or_null(_TEXT),
        "base": or_null(_TEXT),
        "base_digest": or_null(_TEXT),
    }
)

_LAYER = {
    "type": "object",
    "properties": {
        **_NOUNS["HistoryStep"]["properties"],
        "share": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["size", "instruction", "holds", "share"],
    "additionalProperties": False,
}

_PACKAGES = record(
    {
        "bytes": _COUNT,
        "python": _TEXT,
        "folders": _TEXTS,
        "distributions": {"type": "array", "items": noun("Distribution")},
        "unclaimed": described(
            _COUNT, "Bytes in the folders that belong to no distribution."
        ),
    }
)

_REQUIREMENTS: dict[str, Schema] = {
    "requirements": {
        "type": "array",
        "description": "With `--requirements` or `--from`: what became of each line of the project's files.",
        "items": record(
            {
                "file": _TEXT,
                "line": described(or_null(_COUNT), "null: of the whole file."),
                "text": _TEXT,
                "outcome": {"enum": [outcome.value for outcome in Outcome]},
                "detail": described(_TEXT, "The options it became, or the reason."),
            }
        ),
    }
}

DOCUMENTS: Mapping[str, Schema] = {
    "error": _ERROR,
    "conflict": _CONFLICT,
    "resolve": record(
        {
            **_OK,
            "stack": _STACK,
            "advisories": {"type": "array", "items": noun("Advisory")},
        },
        optional={
            "explanation": described(noun("Explanation"), "With `--explain`."),
            **_REQUIREMENTS,
        },
    ),
    "lock": record(
        {**_OK, "file": _TEXT, "wheels": _COUNT, "stack": _TEXT},
        optional={
            "bytes": described(_COUNT, "To download; not with `--check`."),
            **_REQUIREMENTS,
            "base": described(_TEXT, "The base image; only with `--upgrade-base`."),
            "before": described(
                _TEXT, "Its digest until now, empty if the lock had none."
            ),
            "digest": described(_TEXT, "Its digest now."),
        },
    ),
    "render": record(
        {
            **_JUDGED,
            "differing": described(
                _TEXTS, "With `--check`: stale, missing and foreign files."
            ),
        },
        optional={
            "folder": described(
                _TEXT, "The build context; not for the files of a whole repository."
            ),
            "dockerfile": _TEXT,
            "files": _TEXTS,
        },
    ),
    "base": record(
        {
            **_OK,
            "base": _TEXT,
            "image": described(_TEXT, "Id, sha256:…."),
            "bytes": _COUNT,
        }
    ),
    "build-plan": record(
        {
            **_OK,
            "stack": _TEXT,
            "base": _TEXT,
            "wheels": described(
                or_null(_COUNT), "Null if nothing is locked yet; as_of is the day then."
            ),
            "as_of": _STACK_FIELDS["as_of"],
            "context": _TEXT,
            "dockerfile": _TEXT,
            "command": described(_TEXTS, "What builds the image, word by word."),
            "tag": _TEXT,
            "push": _FLAG,
        }
    ),
    "build": record(
        {
            **_OK,
            "image": described(_TEXT, "Id, sha256:…."),
            "tag": _TEXT,
            "bytes": _COUNT,
            "build_seconds": _SECONDS,
            "cached_steps": _COUNT,
            "steps": _COUNT,
            "digest": described(or_null(_TEXT), "In the registry, with `--push`."),
            "receipt": noun("Receipt"),
        }
    ),
    "inspect": record(
        {
            "schema": {"const": SCHEMA},
            "image": described(_TEXT, "Id, sha256:…."),
            "reference": _TEXT,
            "digest": or_null(_TEXT),
            "created": or_null(_TEXT),
            "platform": _TEXT,
            "config": _OPEN,
            "labels": {"type": "object", "additionalProperties": _TEXT},
            "size": described(_COUNT, "Bytes."),
            "stack": or_null(_STACK),
            "lock": or_null(_LOCK_IN_BRIEF),
            "layers": {"type": "array", "items": _LAYER},
            "packages": or_null(_PACKAGES),
            "system_packages": described(
                _TEXTS, "NAME=VERSION of each that `--apt` brought."
            ),
            "receipt": or_null(_RECEIPT_IN_BRIEF),
        }
    ),
    "init": record(
        {
            **_OK,
            "stack": _TEXT,
            "targets": _TEXTS,
            "written": described(_TEXTS, "Paths relative to the repository."),
            "next": described(_TEXTS, "Commands to run next."),
        },
        optional=_REQUIREMENTS,
    ),
    "catalog-verify": record(
        {**_OK, "rows": _COUNT, "date": _TEXT, "online": _FLAG, "not_reached": _TEXTS}
    ),
    "catalog-images": record(
        {
            **_OK,
            "images": {
                "type": "array",
                "items": {
                    **_NOUNS["CudaImage"],
                    "properties": {**_NOUNS["CudaImage"]["properties"], "tags": _TEXTS},
                    "additionalProperties": False,
                },
            },
        }
    ),
    "catalog-page": record({**_OK, "file": _TEXT, "bytes": _COUNT}),
    "doctor": record(
        {
            "schema": {"const": SCHEMA},
            "ok": described(_FLAG, "False if a finding is an error."),
            "findings": {"type": "array", "items": noun("Finding")},
            "host": described(
                noun("Host"),
                "What was found out about the machine; `--target FILE` reads it.",
            ),
        }
    ),
}
"""Name of a document → its schema. `accept` prints a receipt, whose schema is receipt.schema.json."""


def references(value: Any) -> set[str]:
    """The names of all nouns that a schema refers to."""
    if isinstance(value, dict):
        names = {value["$ref"].rsplit("/", 1)[1]} if "$ref" in value else set()
        return names.union(*(references(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(references(inner) for inner in value))
    return set()


def schema_of(name: str) -> str:
    """One schema as text, with the nouns that it needs."""
    document = DOCUMENTS[name]
    needed = references(document)
    while not needed >= (
        more := set().union(*(references(_NOUNS[other]) for other in needed))
    ):
        needed |= more
    definitions = (
        {"$defs": {other: _NOUNS[other] for other in sorted(needed)}} if needed else {}
    )
    return serialize.dumps(
        {
            "$schema": _DIALECT,
            "title": f"envbuilder: {name} --json",
            **document,
            **definitions,
        }
    )
