"""Locks: what uv is asked, which wheel is taken, what is refused. uv itself is played by a function here."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from packaging.version import Version

from envbuilder import catalog, pipeline, serialize
from envbuilder.cli.session import repeatable_flags
from envbuilder.console import Console
from envbuilder.errors import EngineError, LockError, NoStackError, UsageError
from envbuilder.lock.creation import create_lock
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.requirements import requirements_text
from envbuilder.lock.uv_compile import Uv, compile_argv
from envbuilder.lock.validation import find_problems
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import Lock, Request, Stack, Wheel
from envbuilder.network import Network
from envbuilder.pipeline import Session
from envbuilder.processes import Completed
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

PRESET = sorted(
    (Path(__file__).parents[2] / "docker" / "images").glob("*/" + LOCK_FILE)
)[0]
TEXT = PRESET.read_text()


def stack(*packages: str) -> Stack:
    wanted: Request = parse_request({"cuda": "11.7", "base": "bootstrap"}, packages)
    return resolve(wanted, catalog.load())


def failing(stderr: str) -> Uv:
    return Uv(
        program="uv", run=lambda argv: Completed(returncode=1, stdout="", stderr=stderr)
    )


def again(packages: Sequence[str]) -> str:
    return " ".join(["again", *packages])


def asked(argv: Sequence[str]) -> set[str]:
    return set(Path(argv[3]).read_text().split())


def clashing(*bad: str) -> Uv:
    """A uv that finds no solution if all of `bad` are requested together."""

    def run(argv: Sequence[str]) -> Completed:
        if set(bad) <= asked(argv):
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


def test_uv_command_contains_all_inputs() -> None:
    words = compile_argv(failing(""), stack(), Path("f"))
    for option, value in {
        "--python-version": "3.9", "--python-platform": "x86_64-manylinux_2_31", "--only-binary": ":all:",
        "--exclude-newer": "2025-03-21T00:00:00Z", "--index-strategy": "first-index",
    }.items():  # fmt: skip
        assert words[words.index(option) + 1] == value
    assert "--no-config" in words


def test_a_network_failure_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="cannot be reached"):
        create_lock(
            stack(),
            uv=failing("error: Request failed after 3 retries\n  cause: dns error"),
            catalog="x",
            command_for=again,
        )


def elsewhere() -> Stack:
    return resolve(
        parse_request({"cuda": "11.8", "torch": "2.5.1", "python": "3.11"}),
        catalog.load(),
    )


def torch_wheel(version: str, index: str = "pytorch-cu118") -> Wheel:
    found = next(wheel for wheel in lock().wheels if wheel.name == "torch")
    return replace(
        found,
        version=Version(version),
        file=f"torch-{version}-cp311-cp311-manylinux_2_28_x86_64.whl",
        index=index,
    )


def test_build_for_another_cuda_is_not_accepted() -> None:
    stack = replace(elsewhere(), requirements=("torch==2.5.1",))
    wrong = replace(lock(), stack=stack, wheels=(torch_wheel("2.5.1"),))
    assert list(find_problems(wrong)) == [
        "torch 2.5.1 is locked; on the index pytorch-cu118 it is 2.5.1+cu118"
    ]
    right = replace(wrong, wheels=(torch_wheel("2.5.1+cu118"),))
    assert list(find_problems(right)) == []


def test_cpu_lock_requires_the_local_version() -> None:
    cpu = resolve(
        parse_request({"flavour": "cpu", "torch": "2.13", "python": "3.11"}),
        catalog.load(),
    )
    wrong = replace(
        lock(),
        stack=replace(cpu, requirements=("torch==2.13.0",)),
        wheels=(torch_wheel("2.13.0", "pytorch-cpu"),),
    )
    assert list(find_problems(wrong)) == [
        "torch 2.13.0 is locked; on the index pytorch-cpu it is 2.13.0+cpu"
    ]


def test_a_stack_without_wheels_is_a_lock_error() -> None:
    with pytest.raises(LockError, match="no complete set of wheels"):
        create_lock(
            stack(), uv=failing("× No solution found"), catalog="x", command_for=again
        )


def test_a_clash_names_the_culprit_and_only_it() -> None:
    with pytest.raises(NoStackError) as caught:
        create_lock(
            stack("fine", "torch==2.6.0"),
            uv=clashing("torch==2.6.0"),
            catalog="x",
            command_for=again,
        )
    assert caught.value.conflict == (("package", "torch==2.6.0"),)
    assert caught.value.exit_code == 4


def test_two_packages_that_clash_only_together_are_both_named() -> None:
    with pytest.raises(NoStackError) as caught:
        create_lock(
            stack("a==1", "b==2", "c"),
            uv=clashing("a==1", "b==2"),
            catalog="x",
            command_for=again,
        )
    assert {line for _, line in caught.value.conflict} == {"a==1", "b==2"}
    assert caught.value.suggestions == ("again c a b",)


def test_clashing_packages_are_dropped_if_unbounded_ones_clash_too() -> None:
    with pytest.raises(NoStackError) as caught:
        create_lock(
            stack("fine", "worse"), uv=clashing("worse"), catalog="x", command_for=again
        )
    assert caught.value.suggestions == ("again fine",)


def new_session(
    uv: Uv, *, today: date = date(2026, 11, 27), said: tuple[str, ...] = ()
) -> Session:
    return Session(
        catalog=catalog.load(),
        network=Network(),
        environ={},
        uv=uv,
        console=Console(),
        today=today,
        said=said,
    )


def test_the_command_to_try_is_the_whole_request() -> None:
    wanted = parse_request(
        {
            "cuda": "11.7",
            "torch": "2.0",
            "platform": "amd64",
            "base": "bootstrap",
            "os": "debian11",
            "driver": "535",
        },
        ["a==1", "b"],
    )
    said = repeatable_flags(
        {
            "index_url": "https://mirror.example/simple",
            "own_catalog": "our own",
            "ca_bundle": None,
        }
    )
    session = new_session(clashing("a==1", "b"), said=said)
    with pytest.raises(NoStackError) as caught:
        pipeline.make_lock(wanted, session)
    assert caught.value.suggestions == (
        "envbuilder lock --cuda 11.7 --torch 2.0 --driver 535 --base bootstrap --os 'debian 11' "
        "--package a --package b --catalog 'our own' --index-url https://mirror.example/simple",
    )


def test_a_day_that_has_not_settled_is_noted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = parse_request({"cuda": "11.7", "base": "bootstrap", "as_of": "2026-11-14"})
    for today, noted in ((date(2026, 11, 27), True), (date(2026, 11, 28), False)):
        with pytest.raises(LockError):
            pipeline.make_lock(
                wanted, new_session(failing("× No solution found"), today=today)
            )
        text = " ".join(capsys.readouterr().err.split())
        assert ("2026-11-14 is less than 14 days ago" in text) is noted


def test_a_day_in_the_future_is_refused() -> None:
    wanted = parse_request({"cuda": "11.7", "as_of": "2026-11-28"})
    with pytest.raises(UsageError, match="--as-of 2026-11-28 is in the future"):
        pipeline.make_lock(wanted, new_session(clashing()))


def test_a_password_is_not_repeated() -> None:
    assert repeatable_flags(
        {"index_url": "https://me:secret@mirror.example/simple"}
    ) == ("--index-url URL",)
    assert repeatable_flags(
        {"index_url": "https://mirror.example/simple?token=secret"}
    ) == ("--index-url URL",)


def lock() -> Lock:
    return parse_lock(TEXT, source="x")


def test_lock_is_unchanged_after_writing_and_reading() -> None:
    assert serialize.dumps(lock()) == TEXT


def edited(change: Callable[[dict[str, object]], object]) -> str:
    document = json.loads(TEXT)
    change(document)
    return json.dumps(document)


def without_a_hash(document: dict[str, object]) -> None:
    document["wheels"][17].pop("sha256")  # type: ignore[index]


def with_a_short_hash(document: dict[str, object]) -> None:
    document["wheels"][0]["sha256"] = "abc"  # type: ignore[index]


def with_another_torch(document: dict[str, object]) -> None:
    next(w for w in document["wheels"] if w["name"] == "torch")["version"] = "2.6.0"  # type: ignore[index,attr-defined]


def of_another_schema(document: dict[str, object]) -> None:
    document["schema"] = 99


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("{}", "missing required field"),
        ('{"name": "package-lock"}', "is not a lock of envbuilder's"),
        ("numpy==1.26.4", "cannot be read"),
        (edited(without_a_hash), "(the wheel of "),
        (
            edited(with_a_short_hash),
            "Expected a sha256 in hexadecimal digits - at `$.wheels[0].sha256` (the wheel of ",
        ),
        (
            edited(with_another_torch),
            "torch 2.6.0 is locked; the stack requires ==2.0.1",
        ),
        (edited(of_another_schema), "schema 99"),
    ],
    ids=[
        "empty",
        "nothing",
        "foreign",
        "requirements",
        "no hash",
        "short hash",
        "other torch",
        "other schema",
    ],
)
def test_a_bad_lock_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_lock(text, source="x.lock")
    told = " ".join([caught.value.message, *caught.value.problems])
    assert said in told
    assert "x.lock" in told
    assert caught.value.hint


def test_requirements_are_hashed_wheels_only() -> None:
    lines = requirements_text(lock()).splitlines()
    assert lines[0] == "--only-binary :all:"
    assert len(lines) == len(lock().wheels) + 1
    assert all("==" in line and "--hash=sha256:" in line for line in lines[1:])


def test_torch_family_matches_the_stack() -> None:
    by_name = {wheel.name: str(wheel.version) for wheel in lock().wheels}
    assert by_name["torch"] == "2.0.1"
    assert "cmake" not in by_name
    assert "lit" not in by_name


def test_wheel_for_another_platform_is_not_used() -> None:
    document = {
        "lock-version": "1.0",
        "created-by": "test",
        "packages": [
            {
                "name": "numpy",
                "version": "1.0",
                "wheels": [
                    {
                        "name": f"numpy-1.0-cp39-cp39-{tag}.whl",
                        "size": 1,
                        "hashes": {"sha256": "0" * 64},
                        "url": "x:/",
                    }
                    for tag in (
                        "manylinux_2_34_x86_64",
                        "manylinux_2_28_x86_64",
                        "manylinux_2_17_x86_64",
                        "win_amd64",
                    )
                ],
            }
        ],
    }
    assert [wheel.file for wheel in select_wheels(document, stack())] == [
        "numpy-1.0-cp39-cp39-manylinux_2_28_x86_64.whl"
    ]
    with pytest.raises(LockError, match="no wheel"):
        select_wheels(document, replace(stack(), platform="linux/arm64"))
