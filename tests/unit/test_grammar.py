"""Text from outside passes a closed grammar: a hostile value is refused, and is never a line of what is rendered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marks import few

from envbuilder import catalog, config, grammar
from envbuilder.cli.doctor_command import read_host
from envbuilder.cli.settings import own_checks, setting
from envbuilder.engine.bootstrap import bootstrap_argv
from envbuilder.engine.buildx import BuildOptions, build_argv
from envbuilder.errors import CatalogError, UsageError
from envbuilder.lock.lock_file import parse_lock
from envbuilder.network import Network

ROOT = Path(__file__).parents[2]
LOCKS = {
    path.parent.name: path.read_text(encoding="utf-8")
    for path in ROOT.glob("docker/images/*/envbuilder.lock")
}
TEXT = LOCKS["cu117-torch2.0.1-py3.9-debian11"]

HOSTILE = [
    "--setup-hook=touch /tmp/x",
    "-x",
    "a\nRUN id",
    "a\n",
    "a\r",
    "$(id)",
    "`id`",
    "a;id",
    "a b",
    'a"b',
    "a'b",
    "a\\",
    "${IFS}",
    "{{ 7 }}",
    "a\x1b]0;t\x07",
    "a\x9bm",
    "a\u202eb",
    "a\u2028b",
    "a\x00",
    "../../x",
    "/etc/x",
    "é",
    "٢",
    "x" * 5000,
]
PROSE = (
    "notes",
    "reason",
    "source",
    "features",
)  # prose for people may contain any printable text


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every text in a document, of the first item of a list only."""
    if isinstance(value, dict):
        return [
            path
            for key, inner in value.items()
            for path in places(inner, (*place, key))
        ]
    if isinstance(value, list):
        return places(value[0], (*place, 0)) if value else []
    return [place] if isinstance(value, str) else []


def put(document: Any, place: tuple[Any, ...], value: object) -> None:
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value


SPACED = ("stack", "base", "os")  # "debian forky"


def is_prose(place: tuple[Any, ...]) -> bool:
    return any(key in PROSE for key in place)


@pytest.mark.parametrize(
    "place", places(json.loads(TEXT)), ids=lambda place: ".".join(map(str, place))
)
def test_no_field_of_a_lock_takes_text_that_means_something(
    place: tuple[Any, ...],
) -> None:
    for text in HOSTILE:
        document = json.loads(TEXT)
        put(document, place, text)
        prose = (
            is_prose(place) and text.isprintable() and len(text) <= grammar.LONGEST_TEXT
        )
        if prose or (place == SPACED and text == "a b"):
            continue
        with pytest.raises(UsageError) as caught:
            parse_lock(json.dumps(document), source="x.lock")
        assert len(caught.value.message) + sum(map(len, caught.value.problems)) < 12_000


@pytest.mark.parametrize(
    "value", [None, "HUGE", 7, -1, 1.5, True, [], {}, [[]]], ids=str
)
@pytest.mark.parametrize(
    "place", places(json.loads(TEXT))[::3], ids=lambda place: ".".join(map(str, place))
)
def test_lock_fields_refuse_wrong_types(place: tuple[Any, ...], value: object) -> None:
    document = json.loads(TEXT)
    put(document, place, value)
    text = json.dumps(document).replace('"HUGE"', "9" * 5000)
    try:
        parse_lock(text, source="x.lock")
    except UsageError:
        return
    assert value is None, "only an optional field may be empty"


@pytest.mark.parametrize("size", [-1, 1 << 45, 10**30, "1", 1.5])
def test_size_is_a_possible_number_of_bytes(size: object) -> None:
    document = json.loads(TEXT)
    document["wheels"][0]["size"] = size
    with pytest.raises(UsageError, match=r"wheels\[0\]\.size"):
        parse_lock(json.dumps(document), source="x.lock")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '"\ud800"',
        "\x00",
        "9" * 5000,
        '{"schema": 1e400}',
        "\ufeff{}",
        "nul",
        "[]",
    ],
    ids=[
        "deep list",
        "deep object",
        "surrogate",
        "NUL",
        "digits",
        "infinity",
        "byte order mark",
        "word",
        "list",
    ],
)
def test_damaged_json_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_lock(text, source="x.lock")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda wheel: wheel.update(file="six-1.17.0-py2.py3-none-any.whl"),
            "file of another package or version",
        ),
        (
            lambda wheel: wheel.update(file=wheel["file"].replace("-py3-", "-cp27-")),
            "does not install on Python 3.9",
        ),
        (
            lambda wheel: wheel.update(version="9.9"),
            "file of another package or version",
        ),
    ],
)
def test_wheel_file_matches_its_package_and_stack(
    change: Callable[[Any], None], problem: str
) -> None:
    document = json.loads(TEXT)
    wheel = next(wheel for wheel in document["wheels"] if wheel["name"] == "accelerate")
    change(wheel)
    with pytest.raises(UsageError) as caught:
        parse_lock(json.dumps(document), source="x.lock")
    assert any(problem in line for line in caught.value.problems)


def test_every_committed_lock_is_of_the_grammar() -> None:
    for name, text in LOCKS.items():
        assert parse_lock(text, source=name).stack.name == name


def test_values_of_a_lock_follow_the_options_of_programs() -> None:
    base = parse_lock(TEXT, source="x.lock").stack.base
    words = bootstrap_argv(base, Path("/tmp/base.tar"))
    assert words[-3:] == ["--", "bullseye", "/tmp/base.tar"]
    argv = build_argv(
        Path("-x"),
        dockerfile="D",
        iidfile=Path("i"),
        metadata=Path("m"),
        options=BuildOptions(),
        network=Network(),
    )
    assert argv[-2:] == ["--", "-x"]


def test_comma_in_a_path_adds_no_build_secret_field() -> None:
    network = Network(ca=Path('/c,env=TOKEN"x'))
    argv = build_argv(
        Path("c"),
        dockerfile="D",
        iidfile=Path("i"),
        metadata=Path("m"),
        options=BuildOptions(),
        network=network,
    )
    assert argv[argv.index("--secret") + 1] == 'id=ca,"src=/c,env=TOKEN""x"'


# --- a catalog of the user's ---------------------------------------------------------------------------------------


def overlay(folder: Path, table: catalog.Table[Any], row: dict[str, Any]) -> Path:
    file = folder / "facts" / table.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"date": "2026-11-24", "rows": [row]}), encoding="utf-8")
    return folder


FREE = {
    "source",
    "says",
    "advice",
    "more_pythons",
    "architecture",
    "architectures",
    "kind",
    "subject",
    "topic",
    "name",
}
FREE |= {"compile_source", "numpy2_source", "setuptools_source"}


@pytest.mark.parametrize(
    "table", few(catalog.TABLES, fast=5), ids=lambda table: table.file
)
def test_no_field_of_a_catalog_takes_text_that_means_something(
    tmp_path: Path, table: catalog.Table[Any]
) -> None:
    row = json.loads(json.dumps(catalog.written(table)[0], default=str))
    for place in places(row):
        for text in ["a\nRUN id", "a\x1b[2J", "\u202e", "x" * 5000]:
            document = json.loads(json.dumps(row))
            put(document, place, text)
            with pytest.raises(CatalogError):
                catalog.read(table, own=overlay(tmp_path, table, document))
        for text in () if place[0] in FREE else ("--setup-hook=id", "$(id)", "a;b"):
            document = json.loads(json.dumps(row))
            put(document, place, text)
            with pytest.raises(CatalogError):
                catalog.read(table, own=overlay(tmp_path, table, document))


@pytest.mark.parametrize(
    "text",
    [
        '[bootstrap]\nsystem_packages = ["--help"]',
        '[bootstrap]\nsystem_packages = ["a b"]',
        '[bootstrap]\nreference = "x\\nRUN id"',
        '[registry]\nreference = "{python.__class__}"',
        '[registry]\nreference = "a {python}"',
        '[registry]\nrelease = "-x"',
        '[registry]\nsystem_packages = ["$(id)"]',
        '[packages]\nrequirements = ["numpy --index-url https://x.example"]',
        '[packages]\nrequirements = ["numpy @ https://x.example/numpy.whl"]',
        '[packages]\nmoving = ["a\\nb"]',
        "[as_of]\nsettle_days = -1",
        "[as_of]\nsettle_days = 1000000000000",
        "a = " + "[" * 5000,
        "a = " + "9" * 5000,
    ],
)
def test_no_key_of_a_policy_takes_text_that_means_something(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "policy.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError):
        catalog.load(own=tmp_path)


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tag", '"a:b; id"'),
        ("tag", '"a:b\\nRUN id"'),
        ("tag", '"$(id):b"'),
        ("tag", '"a"'),
        ("builder", '"--load"'),
        ("cache-to", '["type=local,dest=x y"]'),
        ("cache-from", '["-x"]'),
        ("index-url", '"--help"'),
        ("index-url", '"https://x.example/\\u001b"'),
        ("index-url", '"ftp://x.example"'),
        ("ca-bundle", '"a\\u0000b"'),
        ("gpu-access", '"x"'),
        ("catalog", '""'),
        ("cuda", '"11.7\\n"'),
        ("base", '"x\\nRUN id"'),
        ("package", '["numpy; id"]'),
        ("package", '["numpy @ https://x.example/n.whl"]'),
        ("as-of", '"tomorrow"'),
    ],
)
def test_a_setting_passes_the_parser_of_its_option(
    tmp_path: Path, key: str, value: str
) -> None:
    (tmp_path / config.FILE).write_text(f"{key} = {value}\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        config.find(tmp_path)
    [problem] = caught.value.problems
    assert problem.startswith(f"{key} = ")
    assert problem.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        '[render]\ntargets = ["-x"]',
        '[render]\nstack = "../x"',
        '[render.settings]\narguments = "a\\nb"',
        '[render.settings]\narguments = "a\\u009bb"',
        '[accept]\nchecks = ["a\\u0000"]',
    ],
)
def test_a_table_of_the_settings_has_a_grammar_too(tmp_path: Path, text: str) -> None:
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="contains invalid settings"):
        config.find(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '[accept]\nchecks = ["/home/me/.ssh/id_rsa"]',
        '[accept]\nchecks = ["../../.ssh/id_rsa"]',
        '[accept]\nchecks = ["a/../../x.py"]',
        'cache-to = ["type=local,dest=/home/me/.config"]',
        'cache-to = ["type=local,DEST=../x"]',
        'cache-from = ["type=local,src=/etc"]',
    ],
)
def test_settings_name_no_place_out_of_the_project(tmp_path: Path, text: str) -> None:
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="contains invalid settings"):
        config.find(tmp_path)


def test_settings_name_places_in_the_project(tmp_path: Path) -> None:
    text = 'cache-to = ["type=local,dest=build/cache"]\ncache-from = ["a/b:c"]\n[accept]\nchecks = ["checks/a.py"]\n'
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    found = config.find(tmp_path)
    assert found is not None
    assert found[1]["cache_to"] == ("type=local,dest=build/cache",)
    assert found[1]["checks"] == ("checks/a.py",)


def test_check_in_the_settings_must_not_be_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    (site / "a.py").symlink_to(tmp_path / "secret")
    (site / "b.py").write_text("", encoding="utf-8")
    (site / config.FILE).write_text('[accept]\nchecks = ["b.py"]', encoding="utf-8")
    monkeypatch.chdir(site)
    assert own_checks({"checks": ()}) == (site / "b.py",)
    (site / config.FILE).write_text('[accept]\nchecks = ["a.py"]', encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.py leads out of"):
        own_checks({"checks": ()})
    assert own_checks({"checks": ("a.py",)}) == (Path("a.py"),), (
        "on the command line it is the user's own word"
    )


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "{a=" * 5000,
        "a = " + "9" * 5000,
        "\x00",
        "a = 1\n" * 2,
    ],
)
def test_damaged_toml_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        config.find(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("index_url", "--help"),
        ("builder", "a b"),
        ("cache_to", ("-x",)),
        ("tag", "a:b c"),
    ],
)
def test_an_option_of_the_command_line_passes_the_same_parser(
    name: str, value: object
) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        setting({name: value}, name)


# --- hosts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        ("machine", "clock", 1e300),
        ("machine", "clock", -1.0),
        ("machine", "uid", -1),
        ("engine", "disk_free", 10**30),
        ("machine", "os", "a\x1b]0;t\x07"),
        ("gpu", "driver", "x" * 5000),
        ("gpu", "devices", [{"name": "H100", "capability": 9}]),
        ("gpu", "devices", [{"name": "H100", "capability": "9" * 5000}]),
        (
            "engine",
            "daemon",
            {"program": "docker", "version": "1", "local": True, "clock": "now"},
        ),
        ("gpu", "drivers", "550.54.15"),  # misspelt
        ("gpus", "driver", "550.54.15"),
    ],
)
def test_a_host_with_an_invalid_field_is_refused(
    tmp_path: Path, record: str, field: str, value: object
) -> None:
    file = tmp_path / "host.json"
    file.write_text(json.dumps({"host": {record: {field: value}}}), encoding="utf-8")
    with pytest.raises(UsageError, match="describes no host"):
        read_host(str(file))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"host": {"clock": 1e999}}', '{"host": 7}', "[]", '{"host": NaN}'],
)
def test_a_damaged_host_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "host.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="describes no host"):
        read_host(str(tmp_path / "host.json"))


def test_output_of_local_programs_becomes_printable() -> None:
    assert grammar.printable("a\x1b[2J\u202eb\nc") == "a?[2J?b?c"
    assert grammar.matches(grammar.Prose, grammar.printable("\ud800" + "x" * 9000))
