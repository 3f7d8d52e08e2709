"""Output of --target kubernetes: strictly valid by the real schemas and the rules of the API server."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from marks import few
from packaging.version import Version
from presets import read_preset

from envbuilder import catalog
from envbuilder.errors import UsageError
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.render.targets import MARK, Project, render_targets

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "tests" / "schemas" / "kubeflow"
PRESETS = sorted((ROOT / "docker" / "images").iterdir())
VERSIONS = ["1.29", "1.31", "1.33", "1.35", "1.37"]
FREE = {"labels", "selector", "requests", "limits"}  # anything may be a key in these

Document = dict[str, Any]
Place = tuple[str | int, ...]


CAPABILITIES = tuple(gpu.capability for gpu in catalog.load().gpus)
CU117 = ROOT / "docker" / "images" / "cu117-torch2.0.1-py3.9-debian11"


def project(preset: Path = CU117, **settings: str) -> Project:
    lock = read_preset(preset / LOCK_FILE)
    image = f"envbuilder:{lock.stack.name}"
    return Project(
        lock=lock,
        image=image,
        context="docker",
        settings={k.replace("_", "-"): v for k, v in settings.items()},
        capabilities=CAPABILITIES,
    )


def documents(**settings: str) -> dict[str, Document]:
    """Kind → document, of all files."""
    files = render_targets(project(**settings), "kubernetes").files
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return {
        document["kind"]: document
        for text in texts
        for document in yaml.safe_load_all(text)
    }


CPU = documents()
GPU = documents(gpus="8", cpus="64", arguments="--epochs 3 --model 'a model'")


def strict(schema: Any) -> Any:
    """A structural schema that refuses what it does not name, unless it says that it keeps unknown fields."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: strict(part) for name, part in value.items()}
        if key == "properties"
        else strict(value)
        for key, value in schema.items()
    }
    if isinstance(schema.get("properties"), dict) and not schema.get(
        "x-kubernetes-preserve-unknown-fields"
    ):
        made.setdefault("additionalProperties", False)
    return made


KUBEFLOW = {
    "TrainingRuntime": Draft202012Validator(
        strict(json.loads((SCHEMAS / "trainingruntimes.json").read_text()))
    ),
    "TrainJob": Draft202012Validator(
        strict(json.loads((SCHEMAS / "trainjobs.json").read_text()))
    ),
}


def refusal(document: Document, version: str = VERSIONS[0]) -> str:
    """What the schema says against a document; nothing if it is valid."""
    try:
        if document["kind"] in KUBEFLOW:
            KUBEFLOW[document["kind"]].validate(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)
    except (ValidationError, kubernetes_validate.ValidationError) as error:
        return str(error.message)
    return ""


def keys(document: Any, place: Place = ()) -> Iterator[Place]:
    """Where every key of a document is."""
    if isinstance(document, list):
        for number, part in enumerate(document):
            yield from keys(part, (*place, number))
    if isinstance(document, dict):
        for key, part in document.items():
            if not (place and place[-1] in FREE):
                yield (*place, key)
            yield from keys(part, (*place, key))


def misspelt(document: Document, place: Place) -> Document:
    wrong = copy.deepcopy(document)
    holder: Any = wrong
    for step in place[:-1]:
        holder = holder[step]
    holder[f"{place[-1]}s"] = holder.pop(place[-1])
    return wrong


# --- the schemas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", few(VERSIONS))
@pytest.mark.parametrize("made", [CPU, GPU], ids=["cpu", "gpu"])
def test_every_document_is_valid(made: dict[str, Document], version: str) -> None:
    assert set(made) == {
        "Service",
        "Job",
        "PersistentVolumeClaim",
        "TrainingRuntime",
        "TrainJob",
    }
    assert {
        kind: refusal(document, version) for kind, document in made.items()
    } == dict.fromkeys(made, "")


@pytest.mark.parametrize("kind", few(GPU))
def test_every_misspelt_field_is_refused(kind: str) -> None:
    """But in metadata of Kubeflow's kinds, which their schemas leave to the API server."""
    document = GPU[kind]
    places = [
        place for place in keys(document) if place not in {("kind",), ("apiVersion",)}
    ]
    loose = [
        place
        for place in places
        if kind in KUBEFLOW and place[0] == "metadata" and len(place) > 1
    ]
    passed = [place for place in places if not refusal(misspelt(document, place))]
    assert passed == loose
    assert len(places) - len(loose) > 5


def test_a_wrong_type_and_a_wrong_word_are_refused() -> None:
    job, run = copy.deepcopy(CPU["Job"]), copy.deepcopy(CPU["TrainJob"])
    job["spec"]["completions"] = "2"
    run["spec"]["trainer"]["numNodes"] = "2"
    assert "is not of type" in refusal(job)
    assert "is not of type" in refusal(run)
    del run["spec"]["runtimeRef"]["name"]
    run["spec"]["trainer"]["numNodes"] = 2
    assert "'name' is a required property" in refusal(run)


# --- what the schemas do not say -----------------------------------------------------------------------------------


def specs(made: dict[str, Document]) -> list[Document]:
    """The job specs: of the Job, and of the TrainJob's runtime."""
    (replicated,) = made["TrainingRuntime"]["spec"]["template"]["spec"][
        "replicatedJobs"
    ]
    return [made["Job"]["spec"], replicated["template"]["spec"]]


@pytest.mark.parametrize("made", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_job_is_all_or_none(made: dict[str, Document]) -> None:
    assert made["Job"]["spec"]["completions"] == made["Job"]["spec"]["parallelism"] == 2
    for spec in specs(made):
        assert spec["completionMode"] == "Indexed"  # backoffLimitPerIndex requires it
        assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (3, 0)
        assert (
            "backoffLimit" not in spec
        )  # one death of index 0 would spend one for each node
        pod = spec["template"]["spec"]
        assert pod["restartPolicy"] == "Never"  # podFailurePolicy requires it
        ignore, fail = spec["podFailurePolicy"]["rules"]
        assert (ignore["action"], fail["action"]) == (
            "Ignore",
            "FailJob",
        )  # the first that matches counts
        assert fail["onExitCodes"]["values"] == [
            2,
            126,
            127,
        ]  # 2: argparse's, of train and of torchrun
        assert (
            fail["onExitCodes"]["containerName"]
            == pod["containers"][0]["name"]
            == "node"
        )


@pytest.mark.parametrize("made", [CPU, GPU], ids=["cpu", "gpu"])
def test_pod_has_minimal_permissions(made: dict[str, Document]) -> None:
    """Kubernetes' Pod Security standard "restricted", and a root that is not written."""
    for spec in specs(made):
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert {
            pod["securityContext"][name]
            for name in ("runAsUser", "runAsGroup", "fsGroup")
        } == {1000}
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        mounted = {
            mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]
        }
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert set(mounted) == {"/runs", "/home/trainer", "/tmp", "/dev/shm"}
        assert sorted(mounted.values()) == sorted(volumes)
        assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
        assert (
            volumes["runs"]["persistentVolumeClaim"]["claimName"]
            == made["PersistentVolumeClaim"]["metadata"]["name"]
        )


def test_the_service_names_the_pods_of_the_job() -> None:
    service, job = CPU["Service"], CPU["Job"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {
        "batch.kubernetes.io/job-name": job["metadata"]["name"]
    }
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert "--rendezvous=envbuilder-train-0.envbuilder-train:29400" in job_words(CPU)


def test_the_trainjob_names_the_first_pod_as_jobset_does() -> None:
    assert (
        "--rendezvous=envbuilder-train-node-0-0.envbuilder-train:29400"
        in train_job_words(CPU)
    )
    runtime, run = CPU["TrainingRuntime"], CPU["TrainJob"]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    assert replicated["template"]["metadata"]["labels"] == {
        "trainer.kubeflow.org/trainjob-ancestor-step": "trainer"
    }
    assert run["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": runtime["kind"],
        "name": runtime["metadata"]["name"],
    }


def job_words(made: dict[str, Document]) -> list[str]:
    return list(made["Job"]["spec"]["template"]["spec"]["containers"][0]["args"])


def train_job_words(made: dict[str, Document]) -> list[str]:
    return list(made["TrainJob"]["spec"]["trainer"]["args"])


def launch(first: str) -> list[str]:
    return [
        "launch",
        "--nodes=2",
        "--processes=1",
        f"--rendezvous=envbuilder-train-{first}.envbuilder-train:29400",
        "--domain=envbuilder-train",
        "--id=envbuilder-train",
        "train",
        "--output=/runs/envbuilder-train",
        "--resume",
    ]


def test_command_of_a_pod() -> None:
    """Whole, as it is: the entrypoint starts the launcher, which tests/payload/test_programs.py runs."""
    assert job_words(CPU) == launch("0")
    assert train_job_words(CPU) == launch("node-0-0")
    assert CPU["TrainJob"]["spec"]["trainer"]["command"] == [
        "/opt/envbuilder/payload/entrypoint"
    ]
    assert (
        "command" not in CPU["Job"]["spec"]["template"]["spec"]["containers"][0]
    )  # the image's entrypoint


# --- settings ------------------------------------------------------------------------------------------------------


def test_gpu_job_requests_gpus_that_have_kernels() -> None:
    pod = GPU["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {
        "cpu": 64,
        "memory": "16Gi",
        "nvidia.com/gpu": 8,
    }
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert (
        GPU["TrainJob"]["spec"]["trainer"]["resourcesPerNode"] == container["resources"]
    )
    assert GPU["TrainJob"]["spec"]["trainer"]["numProcPerNode"] == 8
    assert container["env"] == [{"name": "OMP_NUM_THREADS", "value": "8"}]
    (term,) = pod["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    (rule,) = term["matchExpressions"]
    assert (rule["key"], rule["operator"]) == ("nvidia.com/gpu.compute.major", "NotIn")
    assert {"9", "10", "12"} <= set(rule["values"])
    assert not {"7", "8"} & set(rule["values"])
    assert "--processes=8" in job_words(GPU)


def test_gpu_job_uses_the_custom_catalog() -> None:
    own = replace(project(gpus="8"), capabilities=(Version("8.6"), Version("11.0")))
    text = render_targets(own, "kubernetes").files["kubernetes/job.yaml"]
    assert text.count("- '11'") + text.count('- "11"') + text.count('["11"]') == 1
    assert '"9"' not in text


def test_cpu_job_requests_no_gpus() -> None:
    texts = [
        text
        for name, text in render_targets(project(), "kubernetes").files.items()
        if name.endswith(".yaml")
    ]
    assert not any("nvidia" in text for text in texts)
    assert "--processes=1" in job_words(CPU)


def test_arguments_stay_words() -> None:
    assert job_words(GPU)[-5:] == ["--resume", "--epochs", "3", "--model", "a model"]
    # Kubernetes makes $ of $$, where $(NAME) would be a variable.
    words = job_words(
        documents(arguments="--data '$(touch /tmp/x)' --model \"a'b: c\"")
    )
    assert words[-4:] == ["--data", "$$(touch /tmp/x)", "--model", "a'b: c"]


def test_one_node_needs_no_shared_storage() -> None:
    assert documents(nodes="1")["PersistentVolumeClaim"]["spec"]["accessModes"] == [
        "ReadWriteOnce"
    ]
    assert CPU["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_all_problems_are_reported_together() -> None:
    settings = {
        "name": "No_Name",
        "image": "a b",
        "nodes": "0",
        "memory": "16Gi",
        "job": "python",
        "arguments": "--data 'x",
    }
    with pytest.raises(UsageError) as caught:
        render_targets(project(**settings), "kubernetes")
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "nodes", "memory", "name", "image", "job", "arguments",
    ]  # fmt: skip


def test_a_cluster_runs_finetune_as_it_runs_train() -> None:
    files = render_targets(project(job="finetune"), "kubernetes", "slurm").files
    same = render_targets(project(job="train"), "kubernetes", "slurm").files
    assert "- finetune\n" in files["kubernetes/job.yaml"]
    assert '\n  finetune --output "/runs/' in files["slurm/train.sbatch"]
    assert same == render_targets(project(), "kubernetes", "slurm").files


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        render_targets(project(node="4"), "kubernetes", "slurm")
    assert caught.value.problems[0].startswith("unknown setting 'node'")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_files_are_ours_and_the_same_every_time(preset: Path) -> None:
    first, second = (
        render_targets(project(preset, gpus="2"), "kubernetes", "slurm")
        for _ in range(2)
    )
    assert first == second
    assert first.executable == {"slurm/train.sbatch"}
    for name, text in first.files.items():
        assert MARK in text, name
        assert text.endswith("\n"), name
        assert not text.endswith("\n\n"), name
        assert not [line for line in text.splitlines() if line != line.rstrip()], name


def test_the_schemas_say_where_they_are_from() -> None:
    source = json.loads((SCHEMAS / "source.json").read_text())
    assert set(source) == {"project", "tag", "commit", "licence"}
    assert (SCHEMAS / "LICENSE").read_text().lstrip().startswith("Apache License")
    assert Version(source["tag"]) >= Version("2.3")
