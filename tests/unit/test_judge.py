"""What each check of the host says, to the letter."""

import pytest

from envbuilder.acceptance import suite, verdict
from envbuilder.model import Check, Status

LABELS = {
    "dev.envbuilder.python": "3.10", "dev.envbuilder.torch": "2.0.1", "dev.envbuilder.torchvision": "0.15.2",
    "dev.envbuilder.torchaudio": "", "dev.envbuilder.cuda": "11.7.99", "dev.envbuilder.cudnn": "8.5.0.96",
    "dev.envbuilder.nccl": "2.14.3", "dev.envbuilder.arch-list": "sm_37 sm_86", "dev.envbuilder.os": "debian 12",
    "dev.envbuilder.lock": "sha256:1",
}  # fmt: skip
FACTS = {
    "python": "3.10", "torch": "2.0.1", "torchvision": "0.15.2", "torchaudio": "2.0.2", "cuda": "11.7",
    "cudnn": "8.5.0", "nccl": "2.14.3", "arch_list": ["sm_37", "sm_86"], "os": "debian 12", "lock": "sha256:1",
}  # fmt: skip
OCI = {
    f"org.opencontainers.image.{name}": "x"
    for name in ("title", "description", "base.name")
}
RENDER = "render the context and build it again: `envbuilder build`"


def labels_check(status: Status, **rest: object) -> Check:
    return Check(
        id="identity.labels", title="labels say what is inside", status=status, **rest
    )  # type: ignore[arg-type]


def test_labels_that_are_true() -> None:
    assert verdict.check_labels(LABELS, FACTS) == labels_check(
        Status.PASSED, value=0, bound={"max": 0}
    )
    custom = {**LABELS, "dev.envbuilder.os": "custom"}
    assert (
        verdict.check_labels(custom, {**FACTS, "os": "alpine 3"}).status
        is Status.PASSED
    )
    assert verdict.check_labels(LABELS, {**FACTS, "nccl": None}).status is Status.PASSED


@pytest.mark.parametrize(
    "name", [name.removeprefix("dev.envbuilder.") for name in LABELS]
)
def test_each_label_is_compared_with_its_fact(name: str) -> None:
    label, key = f"dev.envbuilder.{name}", name.replace("-", "_")
    found = verdict.check_labels({**LABELS, label: "9"}, FACTS)
    inside = FACTS[key] if name != "arch-list" else "sm_37 sm_86"
    detail = f"{label} says 9; inside is {inside}"
    assert found == labels_check(
        Status.FAILED, value=1, bound={"max": 0}, detail=detail, remedy=RENDER
    )
    missing = {other: value for other, value in LABELS.items() if other != label}
    found = verdict.check_labels(missing, FACTS)
    detail = f"the label {label} is missing"
    assert found == labels_check(
        Status.FAILED, value=1, bound={"max": 0}, detail=detail, remedy=RENDER
    )


def test_a_number_is_not_the_beginning_of_a_longer_one() -> None:
    found = verdict.check_labels(LABELS, {**FACTS, "cuda": "11", "cudnn": "8.5.0.9"})
    assert (found.status, found.value) == (Status.FAILED, 1)
    assert found.detail == "dev.envbuilder.cudnn says 8.5.0.96; inside is 8.5.0.9"


def test_labels_that_cannot_be_compared() -> None:
    detail = "nothing was read inside to compare the labels with"
    assert verdict.check_labels(LABELS, {}) == labels_check(Status.ERROR, detail=detail)
    detail = "this image was not built by envbuilder: its labels are its own"
    assert verdict.check_labels({"a": "b"}, FACTS, ours=False) == labels_check(
        Status.NOT_RUN, value=1, detail=detail
    )
    without = {
        key: value for key, value in FACTS.items() if key not in ("lock", "torch")
    }
    found = verdict.check_labels({**LABELS, "dev.envbuilder.python": "2"}, without)
    assert found.value == 2
    assert found.detail == (
        "dev.envbuilder.python says 2; inside is 3.10; there is no lock inside to compare the labels with"
    )


def layers_check(status: Status, **rest: object) -> Check:
    title = "no secret is in a layer, a label, the environment or the history"
    return Check(
        id="contract.layers", title=title, status=status, bound={"max": 0}, **rest
    )  # type: ignore[arg-type]


SECRETS = [
    f"hf_{'a' * 20}", f"ghp_{'b' * 30}", f"ghs_{'B' * 30}", f"glpat-{'c' * 16}", f"AKIA{'D' * 16}", f"sk-{'e' * 32}",
    "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----", "https://me:secret@x.example/",
    "http://me:secret@x.example/", "TOKEN=abcd", "MY_SECRET=1234", "PASSWORD=abcd", "PASSWD=abcd",
    "API_KEY=abcd", "APIKEY=abcd",
]  # fmt: skip
HARMLESS = [
    f"hf_{'a' * 19}", f"ghp_{'b' * 29}", f"glpat-{'c' * 15}", f"AKIA{'D' * 15}", f"sk-{'e' * 31}", "TOKEN=abc",
    "TOKEN=$HF_TOKEN", "https://x.example/a:b@c", "-----BEGIN PUBLIC KEY-----", "PASSWORD=", "token=abcd",
]  # fmt: skip


def test_an_image_without_a_secret() -> None:
    assert verdict.check_layers(OCI, HARMLESS, HARMLESS, []) == layers_check(
        Status.PASSED, value=0
    )
    assert verdict.check_layers({}, [], [], [], ours=False) == layers_check(
        Status.PASSED, value=0
    )


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_found_everywhere(text: str) -> None:
    remedy = "pass it as a build secret (`--secret`) and rotate it: it has been exposed"
    for place, where in (("a label", 0), ("the environment", 1), ("the history", 2)):
        texts = [dict(OCI), [], []]
        texts[where] = (
            {**OCI, "x": f"a {text}"} if where == 0 else ["PATH=/bin", f"a {text}"]
        )
        found = verdict.check_layers(texts[0], texts[1], texts[2], [])  # type: ignore[arg-type]
        assert found == layers_check(
            Status.FAILED, value=1, detail=f"a secret is in {place}", remedy=remedy
        )


def test_at_most_five_labels_and_files_are_listed() -> None:
    found = verdict.check_layers({}, [SECRETS[0]], [], ["/root/.netrc", "/a"])
    assert found.value == 6
    assert found.detail == (
        "a secret is in the environment; a secret is in the layers, as /root/.netrc; a secret is in the layers, as /a; "
        "the label org.opencontainers.image.title is missing; the label org.opencontainers.image.description is missing"
    )


def size_check(status: Status, **rest: object) -> Check:
    title = "the image is as small as its wheels allow"
    return Check(id="contract.size", title=title, status=status, **rest)  # type: ignore[arg-type]


def test_the_size_of_an_image() -> None:
    bound = {"max": 2.0}
    assert verdict.check_size(2000, {"wheel_bytes": 1000}, bound) == size_check(
        Status.PASSED, value=2.0, bound=bound
    )
    found = verdict.check_size(3_210_000_000, {"wheel_bytes": 1_600_000_000}, bound)
    assert found == size_check(
        Status.FAILED,
        value=2.006,
        bound=bound,
        detail="3.21 GB for 1.60 GB of wheels",
        remedy="see `docker history IMAGE` for the layer that grew: a cache, a second CUDA, byte-code?",
    )
    detail = "there is no lock inside with the size of every wheel"
    for facts in ({}, {"wheel_bytes": 0}):
        assert verdict.check_size(7, facts, bound) == size_check(
            Status.NOT_RUN, value=7, unit="B", detail=detail
        )


def complete(status: Status, **rest: object) -> Check:
    return Check(
        id="suite.complete", title="the suite ran to its end", status=status, **rest
    )  # type: ignore[arg-type]


def test_a_suite_that_answered_everything() -> None:
    checks = [Check(id=name, title=name, status=Status.PASSED) for name in ("a", "b")]
    assert verdict.check_answered(["a", "b"], checks, "", "") == complete(Status.PASSED)
    again = "run it again; if it persists, build the image again"
    found = verdict.check_answered(
        ["d", "a", "c"], checks, "2 lines are odd", "it ended with 1"
    )
    detail = "it ended with 1; 2 lines are odd; no answer to c, d"
    assert found == complete(Status.ERROR, detail=detail, remedy=again)
    found = verdict.check_answered(["a", "b", "c"], checks, "", "", only=["a"])
    assert found == complete(
        Status.ERROR, detail="only a ran", remedy="run the whole suite"
    )
    found = verdict.check_answered(["a"], checks, "", "", only=["a", "z"])
    assert found.detail == "only a, z ran; no answer to z"


def test_a_custom_base_and_system_packages_do_not_count() -> None:
    history = [
        (1000, "a layer of the base"),
        (200, "RUN /bin/sh -c sh /system/base.sh 3.9 2.31 x86_64 g++ # buildkit"),
        (40, "RUN /bin/sh -c python3 /install/wheels.py /requirements.txt # buildkit"),
        (3, "RUN /bin/sh -c sh /system/packages.sh libgl1 # buildkit"),
    ]
    assert suite.system_bytes(history) == 1203
    assert suite.system_bytes(history[2:3]) == 0
