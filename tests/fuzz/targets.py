"""What is fuzzed: one function for each edge. Each draws a case, runs it, and says whether it was accepted."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import hosts
from hypothesis import strategies as st
from standin import suite_output
from standin.engine import says
from standin.suite_output import IMAGE

from envbuilder import catalog, cli, config, serialize
from envbuilder.acceptance.report import form_of
from envbuilder.errors import EnvbuilderError, NoStackError
from envbuilder.format.page import receipt_summary
from envbuilder.host.collect import collect
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Context, Lock, Receipt
from envbuilder.render import project, targets
from envbuilder.render.context import render_context
from envbuilder.render.settings_file import settings_text
from envbuilder.render.targets import render_targets
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

from . import grammars, harmless, reports
from .sandbox import CODES, ROOT, Engine, Finding, Sandbox
from .shapes import shape
from .values import copied, damaged, encoded, hostile, json_text, toml_text

Draw = Callable[[st.SearchStrategy[Any]], Any]
Fuzz = Callable[[Sandbox, Draw], bool]

PRESETS = {
    path.parent.name: path.read_text()
    for path in sorted(ROOT.glob("docker/images/*/envbuilder.lock"))
}
PRESET = "cu117-torch2.0.1-py3.9-debian11"
LOCKS = tuple(json.loads(text) for text in PRESETS.values())
SHARED = ("install/", "payload/")  # files that are copied, not rendered
CONSTANT = ("/trim.txt", "notebook/requirements.txt", "/allocator")


# --- rendered files ------------------------------------------------------------------------------------------------


def same_shape(context: Context, twin: Context) -> None:
    """Raises `Finding` for the first file that is not what its harmless twin is."""
    ours = [name for name in context.files if _is_rendered(name)]
    theirs = [name for name in twin.files if _is_rendered(name)]
    if len(ours) != len(theirs):
        raise Finding(f"shape: {len(ours)} files, {len(theirs)} in the harmless render")
    for name, other in zip(ours, theirs, strict=True):
        wanted = shape(other, twin.files[other])
        try:
            found = shape(name, context.files[name])
        except ValueError as error:
            raise Finding(
                f"shape: {name} is not of its language: {str(error)[:300]}"
            ) from error
        if found != wanted:
            raise Finding(f"shape: {name}: {_difference(found, wanted)}")


def _is_rendered(name: str) -> bool:
    return not name.startswith(SHARED) and not name.endswith(CONSTANT)


def _difference(found: Any, wanted: Any) -> str:
    if (
        isinstance(found, list | tuple)
        and isinstance(wanted, list | tuple)
        and len(found) == len(wanted)
    ):
        for one, other in zip(found, wanted, strict=True):
            if one != other:
                return _difference(one, other)
    if (
        isinstance(found, dict)
        and isinstance(wanted, dict)
        and found.keys() == wanted.keys()
    ):
        for key, one in found.items():
            if one != wanted[key]:
                return f"{key}: {_difference(one, wanted[key])}"
    return f"{str(found)[:300]} for {str(wanted)[:300]}"


def check_renders(
    lock: Lock, *, tag: str | None = None, settings: Mapping[str, str] | None = None
) -> bool:
    """Render everything of a lock and its settings, and of their harmless twins; False if it is refused."""
    twin, names = harmless.lock(lock), list(targets.TARGETS)
    try:
        if lock is not PARSED:
            same_shape(render_context(lock), render_context(twin))
        ours = render_targets(
            project.describe(lock, tag=tag, settings=settings), *names
        )
    except EnvbuilderError as error:
        _known(error)
        return False
    wanted = harmless.settings(settings or {})
    theirs = render_targets(
        project.describe(twin, tag=tag and "a:b", settings=wanted), *names
    )
    same_shape(ours, theirs)
    text = settings_text(lock, names, settings or {}, lock.stack.as_of)
    same_shape(
        Context(files={config.FILE: text}),
        Context(
            files={config.FILE: settings_text(twin, names, wanted, twin.stack.as_of)}
        ),
    )
    return True


def _known(error: EnvbuilderError) -> None:
    if error.exit_code not in CODES:
        raise Finding(f"exit {error.exit_code}: {error.message}")


# --- the command line ----------------------------------------------------------------------------------------------

PLAUSIBLE: Mapping[str, tuple[str, ...]] = {
    "--cuda": ("11.7", "12", "cu118", "13.0", "any", "9"),
    "--cudnn": ("8.5", "9"),
    "--python": ("3.10", "3.9", "3.14"),
    "--torch": ("2.0.1", "2", "2.10"),
    "--torchvision": ("0.15",),
    "--transformers": ("4.40", "5"),
    "--gpu": ("RTX 3090", "8.6", "H100", "sm_120"),
    "--driver": ("535", "450.80.02"),
    "--base": (
        "auto",
        "bootstrap",
        "python:3.10-slim",
        "registry.example:5000/a/b@sha256:" + "0" * 64,
    ),
    "--os": ("debian12", "bookworm", "ubuntu 22.04", "ubi 9"),
    "--flavour": ("runtime", "devel", "cpu"),
    "--package": ("peft<0.12", "numpy", "a[b]==1"),
    "--requirements": ("requirements.txt", "Dockerfile", "missing.txt", "."),
    "--from": ("requirements.txt", "pyproject.toml[train]", "../x.txt"),
    "--platform": ("linux/arm64", "arm64", "linux/amd64"),
    "--as-of": ("2025-01-31", "2026-11-01"),
    "--catalog": ("own", "."),
    "--index-url": ("https://x.example/simple", "https://me:secret@x.example/simple"),
    "--torch-index": (
        "https://x.example/whl",
        "find-links+https://me:secret@x.example/{tag}",
    ),
    "--ca-bundle": ("ca.pem",),
    "--lock": ("envbuilder.lock", "missing.lock", "."),
    "--output": ("out", "-", "."),
    "--target": (*targets.TARGETS, "host.json"),
    "--set": (
        "nodes=4",
        "gpus=8",
        "name=a",
        "image=a:b",
        "arguments=--epochs 3",
        "make=lint",
        "shm-size=2g",
    ),
    "--tag": ("registry.example/team/train:1", "a:b"),
    "--builder": ("default",),
    "--cache-to": ("type=registry,ref=a/b",),
    "--cache-from": ("a/b:c",),
    "--check": ("check.py",),
    "--report": ("r.html", "r.xml", "r.md", "r.json", "r.txt"),
    "--only": ("training.accuracy", "contract.user,contract.layers"),
    "--deadline": ("77", "1e9", "nan", "inf", "-1", "0"),
    "--user": ("7", "7:7", "root"),
    "--memory": ("2g", "64m"),
    "--gpu-access": ("none", "auto", "cdi"),
    "--format": ("lock", "requirements"),
    "--source": ("envbuilder @ git+https://x.example/e@0123", "./wheels/e.whl"),
}
COMMANDS = (*cli.COMMANDS, "catalog verify", "catalog images")
_SLOW = frozenset({"page"})  # computes the whole grid: takes seconds for any input


def command_line(box: Sandbox, draw: Draw) -> bool:
    """Every command with its options in any order, and words that are none."""
    folder = box.fresh()
    (folder / "envbuilder.lock").write_text(
        PRESETS[draw(st.sampled_from(sorted(PRESETS)))]
    )
    (folder / "host.json").write_text(json.dumps(HOSTS[0]))
    (folder / "check.py").write_text('"""A check."""\n')
    (folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (folder / "own").mkdir()
    (folder / "requirements.txt").write_text(
        "torch>=2.0\npeft; python_version<'3.12'\n"
    )
    (folder / "Dockerfile").write_text("FROM python:3.10\nRUN pip install tqdm\n")
    name = draw(st.sampled_from(COMMANDS))
    words = [word for group in draw(_shuffled(name)) for word in group]
    prefix = draw(st.sampled_from([(), (), (), ("--help",), ("--version",), ("-x",)]))
    answer = box.run(*prefix, *map(_contained, [*name.split(), *words]))
    _check_started(answer.started)
    return answer.accepted


@st.composite
def _shuffled(draw: st.DrawFn, name: str) -> list[list[str]]:
    """Options of a command with values, its arguments, and words that are none, in some order."""
    known = _options(name)
    some = draw(st.lists(st.sampled_from(known), max_size=5)) if known else []
    groups = [draw(_given(option)) for option in some]
    for argument in _arguments(name):
        values = (IMAGE.id, "11.7", "verify", "images")
        groups.append(
            [draw(st.one_of(st.sampled_from(values), _argv_text("11.7")))]
            if argument
            else []
        )
    groups += [[word] for word in draw(st.lists(_argv_text("--x"), max_size=1))]
    return list(draw(st.permutations(groups)))


@st.composite
def _given(draw: st.DrawFn, option: click.Option) -> list[str]:
    name = draw(st.sampled_from(option.opts))
    if option.is_flag:
        return [name]
    plausible = PLAUSIBLE.get(option.opts[0], ("a",))
    first = draw(st.sampled_from(plausible))
    value = draw(st.one_of(st.just(first), st.just(first), _argv_text(first)))
    if name.startswith("--") and draw(st.booleans()):
        return [f"{name}={value}"]
    return [name, value]


def _command(name: str) -> click.Command:
    context = click.Context(cli.cli)
    found: click.Command = cli.cli
    for word in name.split():
        assert isinstance(found, click.Group)
        inner = found.get_command(context, word)
        assert inner is not None
        found = inner
    return found


def _options(name: str) -> list[click.Option]:
    return [item for item in _command(name).params if isinstance(item, click.Option)]


def _arguments(name: str) -> list[str]:
    found = _command(name)
    names = [
        str(item.name) for item in found.params if isinstance(item, click.Argument)
    ]
    return names or (["command"] if isinstance(found, click.Group) else [])


def _argv_text(plausible: str) -> st.SearchStrategy[str]:
    """A possible argument: no NUL, and only surrogates that represent bytes."""
    return hostile(plausible).map(
        lambda text: re.sub("[\x00\ud800-\udc7f\udd00-\udfff]", "?", text)
    )


def _contained(word: str) -> str:
    """The user may write where they like; this user writes into the sandbox."""
    if word in _SLOW:
        return "x"
    return re.sub(r"(^|=)/", r"\1", word).replace("..", ".")


OPTIONS_OF_PROGRAMS = frozenset(
    "--progress --load --platform --iidfile --metadata-file --builder --no-cache --cache-to --cache-from --secret "
    "--build-arg --file --variant --include --mode --aptopt --hook-dir --setup-hook --customize-hook --format "
    "--quiet --verbose --keyring --dpkgopt".split()
)


def _check_started(started: tuple[tuple[str, ...], ...]) -> None:
    """Only options begin with a hyphen; positional arguments follow `--`."""
    for all_words in started:
        start = (
            all_words.index("mmdebstrap") if "mmdebstrap" in all_words else 0
        )  # it is contained by others
        words = all_words[start:]
        if words[0] not in ("docker", "mmdebstrap") or words[1:2] in (
            ("version",),
            ("--version",),
        ):
            continue
        if words[:3] != ("docker", "buildx", "build") and words[0] != "mmdebstrap":
            continue
        if "--" not in words:
            raise Finding(f"words: no -- in {words}")
        before = words[: words.index("--")]
        for number, word in enumerate(before):
            is_value = (
                number > 0
                and before[number - 1].startswith("--")
                and "=" not in before[number - 1]
            )
            if (
                word.startswith("-")
                and not is_value
                and word.partition("=")[0] not in OPTIONS_OF_PROGRAMS
            ):
                raise Finding(f"words: {word!r} of {words[0]}")


# --- settings ------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "cuda": "11.7", "python": "3.9", "torch": "2.0.1", "gpu": "RTX 3090", "driver": "535", "os": "debian11",
    "base": "bootstrap", "flavour": "runtime", "platform": "linux/amd64", "as-of": "2026-11-01",
    "package": ["peft<0.12"], "index-url": "https://x.example/simple", "ca-bundle": "ca.pem", "tag": "a/b:c",
    "torch-index": "https://x.example/whl", "builder": "default",
    "cache-to": ["type=registry,ref=a/b"], "cache-from": ["a/b"], "gpu-access": "auto",
    "catalog": "own", "accept": {"checks": ["check.py"]},
    "render": {"targets": ["compose", "devcontainer"], "stack": PRESET, "settings": {"shm-size": "2g"}},
}  # fmt: skip
_CHANGES = {
    "nodes": "4", "gpus": "1", "cpus": "4", "memory": "16", "shared-memory": "1", "storage": "10", "hours": "24",
    "name": "a", "image": "a:b", "job": "finetune", "arguments": "--epochs 3", "make": "lint test", "envbuilder": "e @ git+https://x",
    "shm-size": "2g",
}  # fmt: skip
_USERS_OF_SETTINGS = (
    ("resolve",), ("render",), ("render", "--check"), ("build", "--dry-run"), ("accept", IMAGE.id), ("lock",),
    ("doctor", "--target", "host.json"), ("build", "--lock", "envbuilder.lock"),
    ("render", "--target", "compose", "--lock", "envbuilder.lock"),
)  # fmt: skip


@st.composite
def _settings(draw: st.DrawFn) -> dict[str, Any]:
    some = draw(st.lists(st.sampled_from(sorted(SETTINGS)), unique=True, max_size=5))
    document = {name: copied(SETTINGS[name]) for name in some}
    document["render"] = copied(SETTINGS["render"]) | {
        "settings": draw(_changed_settings())
    }
    found: dict[str, Any] = draw(
        st.one_of(st.just(document), damaged(document, (SETTINGS,)))
    )
    return found


@st.composite
def _changed_settings(draw: st.DrawFn) -> dict[str, str]:
    """What targets let people change, plausible and not."""
    names = draw(st.lists(st.sampled_from(sorted(_CHANGES)), unique=True, max_size=4))
    kinds = {
        name: st.one_of(st.just(_CHANGES[name]), hostile(_CHANGES[name]))
        for name in names
    }
    kinds |= {
        name: st.one_of(kinds[name], st.from_regex(pattern, fullmatch=True))
        for name, pattern in _ODD
        if name in kinds
    }
    return {name: draw(kind) for name, kind in kinds.items()}


_ODD = (
    ("name", r"[a-z]([a-z0-9-]{0,5}[a-z0-9])?"),
    ("make", r"([a-z]{1,3}[0-9_-]?( |$)){1,3}"),
    ("arguments", r"[ -~]{0,30}"),
    ("envbuilder", r"[ -~]{1,30}"),
    ("image", r"[a-z0-9._/:@-]{1,30}"),
    ("shm-size", r"[0-9]{1,3}[bkmg]?"),
)


def settings(box: Sandbox, draw: Draw) -> bool:
    """envbuilder.toml and pyproject.toml, and every command that reads them."""
    folder = box.fresh()
    document = draw(_settings())
    text = (
        toml_text({"tool": {"envbuilder": document}})
        if draw(st.booleans())
        else toml_text(document)
    )
    name = (
        "pyproject.toml"
        if text.startswith("[") and '"tool"' in text[:10]
        else config.FILE
    )
    (folder / name).write_bytes(draw(encoded(text)))
    (folder / "host.json").write_text(json.dumps(HOSTS[0]))
    (folder / "check.py").write_text("")
    (folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (folder / "own").mkdir()
    (folder / "envbuilder.lock").write_text(PRESETS[PRESET])
    image = folder / "docker" / "images" / PRESET
    image.mkdir(parents=True)
    (image / "envbuilder.lock").write_text(PRESETS[PRESET])
    answer = box.run(*draw(st.sampled_from(_USERS_OF_SETTINGS)))
    _check_started(answer.started)
    try:
        found = config.find(folder)
    except EnvbuilderError:
        return False
    if found:
        table = found[1].get("render", {})
        check_renders(
            PARSED, tag=found[1].get("tag"), settings=table.get("settings", {})
        )
    return answer.accepted


def set_option(box: Sandbox, draw: Draw) -> bool:
    """`--set NAME=VALUE` of every target."""
    folder = box.fresh()
    (folder / "envbuilder.lock").write_text(PRESETS[PRESET])
    names = draw(
        st.lists(
            st.sampled_from(sorted(targets.TARGETS)),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    changes = draw(_changed_settings())
    words = ["render", "--lock", "envbuilder.lock", "--output", "out"]
    for name in names:
        words += ["--target", name]
    for name, value in changes.items():
        words += [
            "--set",
            re.sub("[\x00\ud800-\udc7f\udd00-\udfff]", "?", f"{name}={value}"),
        ]
    answer = box.run(*words)
    if answer.code:
        return False
    lock, wanted = PARSED, harmless.settings(changes)
    capabilities = [gpu.capability for gpu in catalog.load().gpus]
    described = project.describe(
        harmless.lock(lock), settings=wanted, capabilities=capabilities
    )
    twin = render_targets(described, *names)
    written = {name: (folder / "out" / name).read_text() for name in twin.files}
    same_shape(Context(files=written), twin)
    return True


# --- locks ---------------------------------------------------------------------------------------------------------

_USERS_OF_LOCKS = (
    ("render", "--lock", "x.lock", "--output", "out"),
    (
        "render",
        "--lock",
        "x.lock",
        *(word for name in targets.TARGETS for word in ("--target", name)),
    ),
    ("lock", "--check", "--output", "x.lock"),
    ("base", "--lock", "x.lock"),
    ("build", "--lock", "x.lock"),
    ("build", "--lock", "x.lock", "--dry-run"),
    ("init", "--lock", "x.lock"),
)


@st.composite
def _lock_documents(draw: st.DrawFn) -> Any:
    """A lock with fewer wheels than real ones, so that a case is quick; damaged, or odd and of the grammar."""
    document = copied(draw(st.sampled_from(LOCKS)))
    if draw(st.booleans()):
        return draw(damaged(document, LOCKS))
    return draw(grammars.odd_lock(document))


def lock(box: Sandbox, draw: Draw) -> bool:
    """Locks: damaged ones, and odd ones that the grammar takes; what they render has the shape of a harmless lock."""
    folder = box.fresh()
    content = draw(encoded(json_text(draw(_lock_documents()))))
    (folder / "x.lock").write_bytes(content)
    answer = box.run(*draw(st.sampled_from(_USERS_OF_LOCKS)))
    _check_started(answer.started)
    try:
        parsed = parse_lock(content.decode(), source="x.lock")
    except (EnvbuilderError, UnicodeDecodeError):
        return False
    return check_renders(parsed)


# --- catalogs ------------------------------------------------------------------------------------------------------

ROWS = {
    table.file: copied(json.loads(json.dumps(catalog.written(table), default=str)))
    for table in catalog.TABLES
}
POLICY: dict[str, Any] = json.loads(
    json.dumps(
        tomllib.loads((catalog.FOLDER / "policy.toml").read_text(encoding="utf-8")),
        default=str,
    )
)
_USERS_OF_CATALOGS = (
    ("resolve",), ("resolve", "--cuda", "11.7"), ("resolve", "--cuda", "13.0", "--flavour", "devel", "--explain"),
    ("resolve", "--cuda", "11.7", "--base", "bootstrap", "--json"), ("base", "--cuda", "11.7", "--base", "bootstrap"),
    ("catalog", "verify"), ("catalog", "images"), ("catalog", "images", "12.4"), ("lock", "--cuda", "11.7"),
    ("build", "--dry-run", "--cuda", "12.4"), ("doctor", "--gpu", "H100"),
    ("resolve", "--gpu", "H100", "--os", "debian12"),
)  # fmt: skip


@st.composite
def _catalogs(draw: st.DrawFn) -> dict[str, bytes]:
    """Files of a custom catalog: rows of a table, a policy, or both."""
    files: dict[str, bytes] = {}
    for table in draw(
        st.lists(
            st.sampled_from(catalog.TABLES),
            min_size=0,
            max_size=2,
            unique_by=lambda t: t.file,
        )
    ):
        rows = ROWS[table.file]
        row = draw(st.sampled_from(rows[:40] + rows[-10:]))
        changed = draw(
            st.one_of(damaged(row, tuple(rows[:20])), grammars.odd(table.row, row))
        )
        document = {"date": "2026-11-24", "rows": [changed]}
        if draw(st.integers(0, 9)) == 0:
            document = draw(damaged(document))
        files[f"facts/{table.file}"] = draw(encoded(json_text(document)))
    if not files or draw(st.booleans()):
        some = draw(
            st.lists(
                st.sampled_from(sorted(POLICY)), min_size=1, max_size=3, unique=True
            )
        )
        policy = draw(
            st.one_of(
                damaged({name: POLICY[name] for name in some}, (POLICY,)),
                grammars.odd_policy(POLICY),
            )
        )
        files["policy.toml"] = draw(
            encoded(toml_text(policy if isinstance(policy, dict) else {"a": policy}))
        )
    return files


def catalogs(box: Sandbox, draw: Draw) -> bool:
    """Rows of the user's own and a policy; what is resolved by them renders as by ours."""
    folder = box.fresh()
    for name, content in draw(_catalogs()).items():
        path = folder / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    words = draw(st.sampled_from(_USERS_OF_CATALOGS))
    answer = box.run(*words, "--catalog", "own")
    _check_started(answer.started)
    if answer.code == 0 and words[0] == "resolve":
        _check_resolved(words, folder / "own")
    return answer.accepted


def _check_resolved(words: tuple[str, ...], own: Path) -> None:
    """A stack from a custom catalog renders like its harmless twin."""
    said = dict(zip(words[1::2], words[2::2], strict=False))
    request = parse_request(
        {
            name: said.get(f"--{name}")
            for name in ("cuda", "flavour", "base", "gpu", "os")
        }
    )
    try:
        facts = catalog.load(own=own)
        found = resolve(request, facts)
    except NoStackError:
        return  # the command asks with what this machine has
    except EnvbuilderError as error:
        _known(error)
        return
    made = replace(
        PARSED,
        stack=replace(found, index="pypi"),
        wheels=(),
        catalog=facts.date.isoformat(),
    )
    check_renders(made)
    text = serialize.dumps(made)
    serialize.loads(text, Lock)  # what is written can be read


# --- hosts ---------------------------------------------------------------------------------------------------------

HOSTS: tuple[dict[str, Any], ...] = tuple(
    {
        "schema": 1,
        "ok": True,
        "findings": [],
        "host": serialize.plain(collect(hosts.play(hosts.read(name)))),
    }
    for name in hosts.NAMES
)


def host(box: Sandbox, draw: Draw) -> bool:
    """The document of another machine, judged by `doctor --target`."""
    folder = box.fresh()
    document = draw(st.sampled_from(HOSTS))
    kind = draw(st.sampled_from(["damaged", "odd"]))
    changed = (
        draw(damaged(document, HOSTS))
        if kind == "damaged"
        else {"host": draw(grammars.odd_host(document["host"]))}
    )
    (folder / "host.json").write_bytes(draw(encoded(json_text(changed))))
    words = ["doctor", "--target", "host.json"]
    words += draw(
        st.sampled_from(
            [
                [],
                ["--cuda", "11.7"],
                ["--gpu", "H100"],
                ["--torch", "2", "--json"],
                ["--json"],
            ]
        )
    )
    return box.run(*words).accepted


# --- images --------------------------------------------------------------------------------------------------------

PASSING = [json.loads(line) for line in suite_output.passing()]
_FAILING_LINES = suite_output.passing(
    changed=dict.fromkeys(suite_output.INSIDE[::3], "failed")
)
FAILING = [json.loads(line) for line in _FAILING_LINES]
PROGRESS = [
    {"event": "progress", "done": 1, "total": 2, "text": "step"},
    {
        "event": "result", "id": "own.x", "title": "x", "status": "failed", "value": 0.5, "bound": {"min": 1, "max": 2},
        "unit": "B", "detail": "d", "remedy": "r", "findings": ["f"], "seconds": 1.5,
    },
    {"event": "training", "accuracy": 0.5, "loss": 0.1, "losses": [3.0, 2.0, 1.0], "seconds": 3.0},
]  # fmt: skip


_PRINTABLE = (
    "é",
    "a b",
    "x" * 100,
    "<b>x</b>",
    "a|b",
    "[a](b)",
    "`a`",
    "$(id)",
    "{{ 7 }}",
    "-x",
    "]]>",
    "&#60;",
)


@st.composite
def _odd_events(draw: st.DrawFn) -> list[str]:
    """A whole run whose texts are odd and printable: the image is accepted, and its texts get into the reports."""
    events = copied(PASSING)
    results = [event for event in events if event["event"] == "result"]
    for event in draw(
        st.lists(
            st.sampled_from(results),
            min_size=1,
            max_size=4,
            unique_by=lambda event: event["id"],
        )
    ):
        field = draw(
            st.sampled_from(["title", "detail", "remedy", "unit", "value", "findings"])
        )
        text = draw(st.sampled_from(_PRINTABLE))
        event[field] = [text] if field == "findings" else text
    return [json_text(event) for event in events]


@st.composite
def _events(draw: st.DrawFn) -> list[str]:
    """What the suite in an image may write: damaged events, other events, lines that are none."""
    events = [*copied(draw(st.sampled_from([PASSING, FAILING])))]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(events)))
        kind = draw(
            st.sampled_from(
                ["damage", "damage", "damage", "insert", "drop", "twice", "cut"]
            )
        )
        if kind == "insert" or place == len(events):
            events.insert(place, draw(damaged(draw(st.sampled_from(PROGRESS)))))
        elif kind == "damage":
            events[place] = draw(damaged(events[place]))
        elif kind == "drop":
            del events[place]
        elif kind == "twice":
            events.insert(place, events[place])
        else:
            events = events[:place]
    lines = [json_text(item) for item in events]
    for _ in range(draw(st.integers(0, 2))):
        lines.insert(
            draw(st.integers(0, len(lines))),
            draw(st.one_of(hostile("{}"), st.just("[" * 100_000))),
        )
    return [
        re.sub("[\r\n]", " ", line).encode(errors="replace").decode() for line in lines
    ]


def events(box: Sandbox, draw: Draw) -> bool:
    """The output of an image in `accept`, and its reports in every form."""
    folder = box.fresh()
    if draw(st.integers(0, 3)) == 0:
        script = says(draw(_odd_events()))
    else:
        code = draw(st.sampled_from([0, 7, 1, 137, 255, -1]))
        errors = draw(st.lists(hostile("no such file"), max_size=2))
        script = says(
            draw(_events()), code, out_of_memory=draw(st.booleans()), errors=errors
        )
    box.engine = Engine(scripts={"suite": script})
    words = ["accept", IMAGE.id, "--fresh", *draw(st.sampled_from([[], ["--json"]]))]
    for ending in reports.ENDINGS:
        words += ["--report", f"r.{ending}"]
    answer = box.run(*words)
    for ending in reports.ENDINGS:
        path = folder / f"r.{ending}"
        if path.exists():
            reports.check(ending, path.read_text(encoding="utf-8"))
    return answer.code == 0


@st.composite
def _images(draw: st.DrawFn) -> tuple[Any, list[str], bytes | None, list[str] | None]:
    """Labels, history, lock and packages as an image says them."""
    texts = {"name": IMAGE.labels["dev.envbuilder.name"]}
    labels = dict(IMAGE.labels)
    for name in draw(st.lists(st.sampled_from(sorted(labels)), max_size=3)):
        labels[name] = draw(hostile(labels[name]))
    if draw(st.booleans()):
        labels[f"dev.envbuilder.{draw(hostile('name'))}"] = draw(hostile(texts["name"]))
    facts = replace(
        IMAGE,
        labels=labels,
        env=tuple(draw(st.lists(hostile("A=1"), max_size=2))),
        created=draw(st.one_of(st.just("2026-01-01T00:00:00Z"), hostile("2026"))),
        user=draw(st.one_of(st.just("1000"), hostile("me"))),
        entrypoint=tuple(draw(st.lists(hostile("sh"), max_size=1))),
    )
    history = draw(
        st.lists(
            st.one_of(st.just("RUN /bin/sh -c id # buildkit"), hostile("COPY a")),
            max_size=3,
        )
    )
    content = draw(
        st.one_of(st.none(), _lock_documents().map(json_text).flatmap(encoded))
    )
    packages = {
        "python": "3.9",
        "folders": ["/x"],
        "distributions": [{"name": "a", "version": "1", "bytes": 5}],
        "unclaimed": 1,
    }
    lines = draw(
        st.one_of(st.none(), damaged(packages).map(lambda found: [json_text(found)]))
    )
    return facts, history, content, lines


def image(box: Sandbox, draw: Draw) -> bool:
    """An image's labels, history, lock and packages in `inspect` and `accept`."""
    box.fresh()
    facts, history, content, packages = draw(_images())
    box.engine = Engine(images={IMAGE.id: facts}, history=history)
    box.engine.lock, box.engine.packages = content, packages
    if content is not None:  # what a reader of /opt/envbuilder is given
        box.engine.files = {
            LOCK_FILE: content,
            "requirements.txt": draw(st.binary(max_size=40)),
        }
    words = draw(
        st.sampled_from(
            [
                ["inspect", IMAGE.id],
                ["inspect", IMAGE.id, "--json"],
                ["accept", IMAGE.id],
            ]
        )
    )
    return box.run(*words).code == 0


# --- receipts ------------------------------------------------------------------------------------------------------

RECEIPTS = tuple(
    json.loads(path.read_text())
    for path in sorted((ROOT / "tests" / "samples").glob("*.json"))
)


def receipts(box: Sandbox, draw: Draw) -> bool:
    """Receipts in the folder and in the user's state, in `inspect`, `accept`, reports and the catalog's page."""
    folder = box.fresh()
    document = copied(draw(st.sampled_from(RECEIPTS)))
    document["image"] = IMAGE.id
    text = draw(encoded(json_text(draw(damaged(document, RECEIPTS)))))
    state = box.home / "state" / "receipts"
    state.mkdir(parents=True, mode=0o700)
    (folder / "receipts").mkdir()
    for place in (state, folder / "receipts"):
        (place / "x.json").write_bytes(text)
    box.engine = Engine()
    answer = box.run(
        *draw(
            st.sampled_from(
                [
                    ("inspect", IMAGE.id),
                    ("inspect", IMAGE.id, "--json"),
                    ("accept", IMAGE.id),
                ]
            )
        )
    )
    with box.watched():
        try:
            receipt_summary.read(folder / "receipts")
        except EnvbuilderError as error:
            _known(error)
    try:
        receipt = serialize.loads(text, Receipt)
    except (ValueError, RecursionError, UnicodeError):
        return False
    for ending in reports.ENDINGS:
        with box.watched():
            reports.check(ending, form_of(f".{ending}")(receipt))
    return answer.code == 0


TARGETS: Mapping[str, Fuzz] = {
    "command line": command_line,
    "settings": settings,
    "--set": set_option,
    "lock": lock,
    "catalog": catalogs,
    "host file": host,
    "events of an image": events,
    "image": image,
    "receipt": receipts,
}
PARSED = parse_lock(PRESETS[PRESET], source=PRESET)
