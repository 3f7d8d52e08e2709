"""The JSON Schema of a receipt, made from the nouns themselves; published as docs/reference/receipt.schema.json."""

from typing import Any

import msgspec

from envbuilder import serialize
from envbuilder.model import SCHEMA, Receipt

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DESCRIPTIONS = {
    "Receipt": {
        "schema": "Version of this document.",
        "image": "The image's id, sha256:….",
        "suite": "The acceptance suite: its version, and a hash over everything in it that decides.",
        "host": "The machine and the engine on which it ran, and how it was given GPUs.",
        "verdict": "Derived from the checks: failed if any failed, incomplete if any is an error or none passed.",
        "checks": "Every check, inside and outside of the image.",
        "facts": "What was read inside the image: versions, the lock's hash, …",
        "training": "The fine-tune: accuracy, losses of every step, held-out accuracy of every epoch, seconds, …",
        "lm": "The small causal model: accuracy and losses of the whole training and of LoRA; absent before suite 4.",
        "stack": "Name of the stack; empty for an image that is not envbuilder's.",
        "reference": "What the image was called by.",
        "started": "ISO 8601, UTC.",
        "seconds": "How long the whole suite took.",
    },
    "Check": {
        "id": "Family, a dot, and a name: training.accuracy.",
        "title": "What is true of an image that passes.",
        "value": "What was found; on not_run, what was observed.",
        "bound": 'An object with "min", "max" or both, in which the value lies; or the very value that is expected.',
        "unit": "Of value and bound: B, s; empty for a number without one, and for text.",
        "detail": "What is wrong, or why it was not run.",
        "remedy": "What to do.",
        "seconds": "How long the check took.",
        "findings": "Warnings that do not decide.",
    },
}


def receipt_schema() -> str:
    """The schema as text. Receipts may get further fields; those that are here keep their meaning."""
    schema = msgspec.json.schema(Receipt)
    definitions: dict[str, Any] = schema["$defs"]
    for noun, descriptions in _DESCRIPTIONS.items():
        properties = definitions[noun]["properties"]
        for name, description in descriptions.items():
            properties[name]["description"] = description
    definitions["Receipt"]["properties"]["schema"]["const"] = SCHEMA
    document = {"$schema": _DIALECT, "title": "Receipt of envbuilder", **schema}
    return serialize.dumps(document)
