"""Write tests/schemas/kubeflow/ from a checkout of Kubeflow Trainer: the schemas of its two kinds that we render.

    tools/kubeflow.py CHECKOUT TAG

Descriptions are left out: the schemas are for machines, and a tenth of the size without them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent.parent / "tests" / "schemas" / "kubeflow"
KINDS = ("trainingruntimes", "trainjobs")
VERSION = "v1alpha1"


def bare(schema: Any) -> Any:
    """A schema without descriptions. `description` as the name of a property stays."""
    if isinstance(schema, list):
        return [bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: bare(value) for key, value in part.items()}
        if name == "properties"
        else bare(part)
        for name, part in schema.items()
        if name != "description"
    }


def main() -> None:
    checkout, tag = sys.argv[1:]
    commit = subprocess.check_output(
        ["git", "-C", checkout, "rev-parse", f"{tag}^{{commit}}"], text=True
    ).strip()
    for kind in KINDS:
        path = f"{commit}:manifests/base/crds/trainer.kubeflow.org_{kind}.yaml"
        crd = yaml.safe_load(
            subprocess.check_output(["git", "-C", checkout, "show", path], text=True)
        )
        (version,) = (
            version for version in crd["spec"]["versions"] if version["name"] == VERSION
        )
        schema = bare(version["schema"]["openAPIV3Schema"])
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
        (FOLDER / f"{kind}.json").write_text(
            text + "\n", encoding="utf-8", newline="\n"
        )
    (FOLDER / "source.json").write_text(
        json.dumps(
            {
                "project": "kubeflow/trainer",
                "tag": tag,
                "commit": commit,
                "licence": "Apache-2.0",
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
        newline="\n",
    )


if __name__ == "__main__":
    main()
