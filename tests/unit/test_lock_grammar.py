"""The grammar of a lock: every field of every wheel, what is refused, and the order."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from envbuilder import catalog
from envbuilder.errors import LockError, NoStackError, UsageError
from envbuilder.lock.creation import create_lock
from envbuilder.lock.index_answer import yanked_releases
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.requirements import requirements_text
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.validation import find_problems
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import Layer, Lock, Stack, Wheel
from envbuilder.processes import Completed
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

PRESET = sorted(
    (Path(__file__).parents[2] / "docker" / "images").glob("*/" + LOCK_FILE)
)[0]
TEXT = PRESET.read_text()
LOCK = parse_lock(TEXT, source="x")
HASH = "0123456789abcdef" * 4


def stack(*packages: str, **changes: object) -> Stack:
    wanted = parse_request({"cuda": "11.7", "base": "bootstrap"}, packages)
    return replace(resolve(wanted, catalog.load()), **changes)  # type: ignore[arg-type]


def wheel(name: str, version: str = "1.0", **changes: object) -> Wheel:
    made = Wheel(
        name=name,
        version=Version(version),
        file=f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
        size=1,
        sha256=HASH,
        layer=Layer.LIBRARIES,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def lock(*wheels: Wheel, **changes: object) -> Lock:
    small = stack(requirements=("torch==2.0.1",), extras=(), **changes)
    return replace(LOCK, stack=small, wheels=(wheel("torch", "2.0.1"), *wheels))


def problems(made: Lock) -> list[str]:
    return list(find_problems(made))


def test_a_good_lock_has_no_problems() -> None:
    assert problems(lock(wheel("a"), wheel("nvidia-cuda-runtime-cu11"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        HASH[1:],
        f"{HASH}0",
        f"{HASH}\n",
        f" {HASH}",
        HASH.upper(),
        HASH.replace("a", "g"),
        f"sha256:{HASH}",
    ],
)
def test_hash_is_64_hexadecimal_digits(text: str) -> None:
    assert problems(lock(wheel("a", sha256=text))) == [f"a: {text!r} is not a sha256"]


@pytest.mark.parametrize(
    "file",
    ["a-1.0.tar.gz", "x/a-1.0-py3-none-any.whl", "/a.whl", "../a.whl", "a.whl.asc", ""],
)
def test_wheel_is_a_plain_file_name(file: str) -> None:
    assert problems(lock(wheel("a", file=file))) == [
        f"a: {file!r} is not a wheel's file name"
    ]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "b-1.0-py3-none-any.whl",
            "a 1.0: {} is the file of another package or version",
        ),
        (
            "a-1.1-py3-none-any.whl",
            "a 1.0: {} is the file of another package or version",
        ),
        (
            "a-1.0-py3-none-win_amd64.whl",
            "{} does not install on Python 3.9 for linux/amd64",
        ),
        (
            "a-1.0-cp310-cp310-manylinux2014_x86_64.whl",
            "{} does not install on Python 3.9 for linux/amd64",
        ),
    ],
)
def test_a_locked_file_belongs_to_its_wheel(file: str, said: str) -> None:
    assert problems(lock(wheel("a", file=file))) == [said.format(file)]


def test_invalid_requirement_is_reported() -> None:
    made = lock()
    bad = replace(made, stack=replace(made.stack, extras=("a b",)))
    assert problems(bad) == ["'a b' is not a package with an optional version"]


def test_a_package_is_locked_once() -> None:
    assert problems(lock(wheel("a"), wheel("a", "2.0"))) == [
        "a package is locked twice"
    ]


def test_other_schema_is_reported_with_both_numbers() -> None:
    assert problems(replace(lock(), schema=99)) == [
        "it has schema 99; this envbuilder reads 1"
    ]


def test_all_requirements_are_locked() -> None:
    made = lock(wheel("b", "2.0"))
    small = replace(
        made.stack,
        requirements=("torch==2.0.1", "Some.Package>=1"),
        extras=("b<2", "c[x]==1"),
    )
    assert problems(replace(made, stack=small)) == [
        "Some.Package is required but missing from the lock",
        "b 2.0 is locked; the stack requires <2",
        "c is required but missing from the lock",
    ]
    whole = replace(
        made,
        stack=small,
        wheels=(*made.wheels[:1], wheel("some-package"), wheel("b", "1.0"), wheel("c")),
    )
    assert problems(whole) == []


def test_a_pre_release_satisfies_its_requirement() -> None:
    made = lock(wheel("a", "2.0rc1"))
    assert problems(replace(made, stack=replace(made.stack, extras=("a>=1",)))) == []


@pytest.mark.parametrize(
    "name", ["nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "nvidia-cudnn-cu12"]
)
def test_stack_without_cuda_has_no_cuda_wheels(name: str) -> None:
    assert problems(lock(wheel(name), cuda=None)) == [
        f"{name} is locked; the stack has no CUDA"
    ]
    assert problems(lock(wheel("nvidia-ml-py"), cuda=None)) == []


def test_all_superfluous_cuda_wheels_are_named() -> None:
    made = lock(
        wheel("nvidia-cudnn-cu12"), wheel("nvidia-cuda-runtime-cu12"), cuda=None
    )
    said = "nvidia-cuda-runtime-cu12 and nvidia-cudnn-cu12 is locked; the stack has no CUDA"
    assert problems(made) == [said]


# --- uv's answer → wheels ------------------------------------------------------------------------------------------


def package(
    name: str, version: str | None = "1.0", **changes: object
) -> dict[str, object]:
    file = {
        "name": f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
        "url": "https://mirror.example/x",
        "size": 7,
        "hashes": {"sha256": HASH},
    }
    for key, value in changes.items():
        file[key] = value
    whole = {
        "name": name,
        "wheels": [{key: value for key, value in file.items() if value is not None}],
    }
    return whole if version is None else whole | {"version": version}


def document(*packages: Mapping[str, object]) -> dict[str, object]:
    return {"lock-version": "1.0", "created-by": "test", "packages": list(packages)}


def test_a_wheel_is_taken_over_field_by_field() -> None:
    [found] = select_wheels(document(package("typing-extensions", "4.9.0")), stack())
    assert found == Wheel(
        name="typing-extensions",
        version=Version("4.9.0"),
        file="typing_extensions-4.9.0-py3-none-any.whl",
        size=7,
        sha256=HASH,
        layer=Layer.LIBRARIES,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"size": None},
        {"hashes": {"sha512": "0" * 128}},
        {"size": None, "hashes": {"md5": "0" * 32}},
    ],
)
def test_an_index_must_give_size_and_hash(changes: dict[str, object]) -> None:
    with pytest.raises(LockError) as caught:
        select_wheels(document(package("a", **changes)), stack())
    assert (
        caught.value.message
        == "the index gives no size or no sha256 for a-1.0-py3-none-any.whl"
    )
    hint = "use an index that follows PEP 503 and PEP 691, or a mirror of one (`--index-url URL`)"
    assert caught.value.hint == hint


def test_packages_without_a_wheel_are_refused() -> None:
    sdist = {
        "name": "a-1.0.tar.gz",
        "url": "https://mirror.example/x",
        "size": 7,
        "hashes": {"sha256": HASH},
    }
    with pytest.raises(LockError) as caught:
        select_wheels(
            document({"name": "a", "version": "1.0", "sdist": sdist}), stack()
        )
    assert caught.value.message == "a has no wheel"
    assert caught.value.hint == "only wheels can be locked; choose another version"


def test_wheels_are_in_their_layer_and_sorted() -> None:
    """Slow to change comes first; the user's packages move, however their names are written."""
    names = [
        "peft",
        "tokenizers",
        "numpy",
        "some-package",
        "torchvision",
        "torchaudio",
        "torch",
        "triton",
    ]
    names += ["nvidia-cublas-cu11", "cuda-bindings", "zipp"]
    wanted = stack("Some_Package[x]>=0.1", "peft", moving=("tokenizers",))
    found = select_wheels(document(*(package(name) for name in names)), wanted)
    assert [(str(wheel.layer), wheel.name) for wheel in found] == [
        ("nvidia", "cuda-bindings"), ("nvidia", "nvidia-cublas-cu11"),
        ("torch", "torch"), ("torch", "torchaudio"), ("torch", "torchvision"), ("torch", "triton"),
        ("libraries", "numpy"), ("libraries", "zipp"),
        ("stack", "peft"), ("stack", "some-package"), ("stack", "tokenizers"),
    ]  # fmt: skip


def test_package_for_another_python_is_omitted() -> None:
    other = package("tomli") | {"marker": "python_version < '3.9'"}
    assert select_wheels(document(other), stack()) == ()
    own = package("tomli") | {"marker": "python_version == '3.9'"}
    assert [wheel.name for wheel in select_wheels(document(own), stack())] == ["tomli"]


# --- the whole way -------------------------------------------------------------------------------------------------


def again(packages: Sequence[str]) -> str:
    return " ".join(["again", *packages])


def answering(text: str) -> Uv:
    def run(argv: Sequence[str]) -> Completed:
        Path(argv[5]).write_text(text)
        return Completed(returncode=0, stdout="", stderr="")

    return Uv(program="uv", run=run)


PYLOCK = f"""
lock-version = "1.0"
created-by = "test"

[[packages]]
name = "torch"
version = "2.0.1"

[[packages.wheels]]
name = "torch-2.0.1-cp39-cp39-manylinux2014_x86_64.whl"
url = "https://mirror.example/torch"
size = 9
hashes = {{ sha256 = "{HASH}" }}
"""


def test_lock_contains_the_stack_and_its_wheels() -> None:
    wanted = stack(requirements=("torch==2.0.1",))
    made = create_lock(
        wanted,
        uv=answering(PYLOCK),
        catalog="2026-11-23",
        command_for=again,
        base_digest="sha256:1",
    )
    assert made == Lock(
        schema=1,
        catalog="2026-11-23",
        stack=wanted,
        base_digest="sha256:1",
        wheels=(
            wheel(
                "torch",
                "2.0.1",
                file="torch-2.0.1-cp39-cp39-manylinux2014_x86_64.whl",
                size=9,
                layer=Layer.TORCH,
            ),
        ),
    )


def test_a_custom_index_serves_what_pypi_lacks() -> None:
    local = PYLOCK.replace("2.0.1", "2.0.1+cu117")
    wanted = stack(requirements=("torch==2.0.1+cu117",), index="pytorch-cu117")
    uv = replace(answering(local), index_url="https://mirror.example/simple")
    [torch] = create_lock(wanted, uv=uv, catalog="x", command_for=again).wheels
    assert str(torch.version) == "2.0.1+cu117"


def test_an_answer_that_is_not_the_stack_is_refused() -> None:
    with pytest.raises(LockError) as caught:
        create_lock(
            stack(requirements=("torch==2.1",)),
            uv=answering(PYLOCK),
            catalog="x",
            command_for=again,
        )
    assert (
        caught.value.message == "the resolved wheels do not make up the requested stack"
    )
    assert list(caught.value.problems) == [
        "torch 2.0.1 is locked; the stack requires ==2.1"
    ]


def test_missing_wheels_are_reported_in_uvs_words() -> None:
    uv = Uv(
        program="uv",
        run=lambda argv: Completed(
            returncode=1, stdout="", stderr="error: no wheels\n"
        ),
    )
    for packages in ((), ("a",)):
        with pytest.raises(LockError) as caught:
            create_lock(stack(*packages), uv=uv, catalog="x", command_for=again)
        assert (
            caught.value.message
            == "there is no complete set of wheels for torch 2.0.1 here"
        )
        assert list(caught.value.problems) == ["no wheels"]


def clashing(*bad: str) -> Uv:
    """A uv that finds no solution if any of `bad` is requested."""

    def run(argv: Sequence[str]) -> Completed:
        if {*bad} & {*Path(argv[3]).read_text().split()}:
            return Completed(
                returncode=1,
                stdout="",
                stderr="  × No solution found\n  ╰─▶ Because a needs b",
            )
        Path(argv[5]).write_text(
            'lock-version = "1.0"\ncreated-by = "test"\npackages = []\n'
        )
        return Completed(returncode=0, stdout="", stderr="")

    return Uv(program="uv", run=run)


def test_a_clash_is_reported_with_reasons_and_a_fix() -> None:
    wanted = stack("bad[y,x]==1", "fine")
    with pytest.raises(NoStackError) as caught:
        create_lock(wanted, uv=clashing("bad[x,y]==1"), catalog="x", command_for=again)
    error = caught.value
    assert (
        error.message
        == "bad[x,y]==1 cannot be installed with torch 2.0.1 for CUDA 11.7 on Python 3.9"
    )
    assert error.conflict == (("package", "bad[x,y]==1"),)
    assert list(error.reasons) == [
        "No solution found",
        "Because a needs b",
        f"packages are resolved as of {wanted.as_of}; torch and its family stay as they are",
    ]
    assert error.suggestions == ("again fine bad[x,y]",)


# --- files ---------------------------------------------------------------------------------------------------------


def edited(number: int, field: str, value: object) -> str:
    table = json.loads(TEXT)
    table["wheels"][number][field] = value
    return json.dumps(table)


def test_a_damaged_lock_names_the_wheel_and_a_command() -> None:
    name = LOCK.wheels[3].name
    for number, text in (
        (3, edited(3, "size", "big")),
        (3, edited(3, "layer", "no layer")),
    ):
        with pytest.raises(UsageError) as caught:
            parse_lock(text, source="my.lock")
        assert caught.value.message.startswith(
            "my.lock is not a lock of envbuilder's: "
        )
        assert caught.value.message.endswith(f"(the wheel of {name})"), number
        assert (
            caught.value.hint == "create it again: `envbuilder lock --output my.lock`"
        )


@pytest.mark.parametrize(
    "row", ["a wheel", {"version": "1.0"}, {"name": 7}, {"name": "no name\n"}]
)
def test_a_wheel_without_a_valid_name_is_reported_by_number(row: object) -> None:
    table = json.loads(TEXT)
    table["wheels"][2] = row
    with pytest.raises(UsageError, match=r"\$\.wheels\[2\][^(]*$"):
        parse_lock(json.dumps(table), source="x")


def test_a_lock_that_contradicts_itself_is_damaged() -> None:
    name, version = LOCK.wheels[0].name, LOCK.wheels[0].version
    with pytest.raises(UsageError) as caught:
        parse_lock(edited(0, "file", "other-1.0-py3-none-any.whl"), source="my.lock")
    assert caught.value.message == "my.lock is damaged"
    said = f"{name} {version}: other-1.0-py3-none-any.whl is the file of another package or version"
    assert list(caught.value.problems) == [said]
    assert caught.value.hint == "create it again: `envbuilder lock --output my.lock`"


def test_invalid_json_is_reported() -> None:
    with pytest.raises(UsageError) as caught:
        parse_lock("{", source="my.lock")
    assert caught.value.message.startswith("my.lock cannot be read as a lock: ")
    assert caught.value.hint == "create it again: `envbuilder lock --output my.lock`"


def test_requirements_are_these_bytes() -> None:
    made = lock(wheel("a", layer=Layer.STACK), wheel("nvidia-x", layer=Layer.NVIDIA))
    lines = [
        f"torch==2.0.1 --hash=sha256:{HASH}",
        f"a==1.0 --hash=sha256:{HASH}",
        f"nvidia-x==1.0 --hash=sha256:{HASH}",
    ]
    assert requirements_text(made) == "\n".join(["--only-binary :all:", *lines]) + "\n"
    assert requirements_text(made, Layer.STACK) == f"--only-binary :all:\n{lines[1]}\n"


@pytest.mark.parametrize(
    ("stderr", "found"),
    [
        ("", {}),
        ("warning: `a==1.0` is yanked", {"a": "was yanked"}),
        (
            'warning: `A_b==1.0` is yanked (reason: "broken")',
            {"a-b": "was yanked: broken"},
        ),
        (
            f'warning: `a==1.0` is yanked (reason: "{"x" * 300}")',
            {"a": f"was yanked: {'x' * 200}"},
        ),
    ],
)
def test_yanked_releases_are_reported(stderr: str, found: dict[str, str]) -> None:
    assert yanked_releases(stderr) == found
