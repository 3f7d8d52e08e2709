"""Packages by the place that they come from: what is read of a requirement, and of a folder's metadata."""

from pathlib import Path

import pytest

from envbuilder import config, grammar
from envbuilder.errors import UsageError
from envbuilder.lock.sources.folder_metadata import with_folder_name
from envbuilder.lock.sources.location import parse_location
from envbuilder.model import SourceKind
from envbuilder.resolve.command_line import command, parse_request
from envbuilder.resolve.parsers import parse_package

CANONICAL = {
    "git+https://github.com/o/peft.git@v0.12": "peft @ git+https://github.com/o/peft.git@v0.12",
    "git+https://host/o/r@main#egg=Foo&subdirectory=py/foo": "foo @ git+https://host/o/r@main#subdirectory=py/foo",
    "git+ssh://git@github.com/o/r.git": "r @ git+ssh://git@github.com/o/r.git",
    "git+file:///srv/r@main": "r @ git+file:///srv/r@main",
    "my_lib[b, a]@./x/../mylib/": "my-lib[a,b] @ ./mylib",
    "mylib @ file:///srv/mylib": "mylib @ file:///srv/mylib",
    "./dist/a_b-1.0.tar.gz": "a-b @ ./dist/a_b-1.0.tar.gz",
    "r @ https://host/o/r/archive/v1.zip": "r @ https://host/o/r/archive/v1.zip",
    "https://host/f_a-2.5%2Bcu12-cp310-cp310-linux_x86_64.whl": (
        "f-a @ https://host/f_a-2.5%2Bcu12-cp310-cp310-linux_x86_64.whl"
    ),
}
WRONG = {
    "git@github.com:o/r.git": "a repository is written git+https://",
    "git+ext::sh -c id": "a repository is written git+https://",
    "git+https://host/o/../r": "a repository is written git+https://",
    "git+https://host/o/r@--upload-pack=id": "is not a commit, a tag or a branch",
    "m @ git+https://host/o/r@a..b": "is not a commit, a tag or a branch",
    "git+https://me:secret@host/o/r": "no password and no query",
    "https://host/a-1-py3-none-any.whl?token=1": "no password and no query",
    "git+https://host/o/r#subdirectory=../x": "is not a path below a folder",
    "git+https://host/o/r#sha256=0": "behind # there can be subdirectory=FOLDER",
    "git+https://host/o/r#subdirectory=py": "write its name in front",
    "https://host/page.html": "an address is that of a wheel or a source archive",
    "x @ https://host/a-1-py3-none-any.whl": "is a file of a, not of x",
    "./a b": "a folder is a path that begins with",
    "m @ ./a;id": "a folder is a path that begins with",
    "m @ ./$(id)": "a folder is a path that begins with",
    "./a\u202eb": "a folder is a path that begins with",
}


def test_places_have_one_canonical_text() -> None:
    for text, canonical in CANONICAL.items():
        assert parse_package(text) == canonical
        assert parse_package(canonical) == canonical
        assert grammar.matches(grammar.PackageSpec, canonical), canonical


def test_hostile_and_odd_places_are_refused_with_a_reason() -> None:
    for text, reason in WRONG.items():
        with pytest.raises(ValueError, match=reason.replace("+", r"\+")):
            parse_package(text)


def test_a_repository_is_read_with_ref_and_folder() -> None:
    location = parse_location("m @ git+ssh://git@host/o/r@v1.0#subdirectory=a")
    assert (location.kind, location.origin) == (
        SourceKind.GIT,
        "ssh://git@host/o/r",
    )
    assert (location.ref, location.subdirectory) == ("v1.0", "a")


def test_a_suggested_command_repeats_the_place() -> None:
    request = parse_request({"cuda": "11.7"}, ["m @ ./m", "peft<0.12"])
    assert "--package 'm @ ./m'" in command(request)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        folder.joinpath(name.replace("_", ".")).write_text(text)
    return folder


def test_a_folder_is_named_by_its_metadata(tmp_path: Path) -> None:
    write(tmp_path / "a", pyproject_toml='[project]\nname = "My.Lib"\n')
    write(tmp_path / "b", pyproject_toml='[tool.poetry]\nname = "poet"\n')
    write(tmp_path / "c", setup_cfg="[metadata]\nname = configured\n")
    write(tmp_path / "d", setup_py='import setuptools\nsetuptools.setup(name="d-d")\n')
    names = {"a": "my-lib", "b": "poet", "c": "configured", "d": "d-d"}
    for folder, name in names.items():
        text = with_folder_name(f"./{folder}", start=tmp_path, project=tmp_path)
        assert text == f"{name} @ ./{folder}"
    below = tmp_path / "a"
    assert with_folder_name("../b[x]", start=below, project=tmp_path) == (
        "poet[x] @ ./b"
    )
    assert with_folder_name("peft<1", start=below, project=tmp_path) == "peft<1"


def test_a_folder_without_a_package_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "empty")
    write(tmp_path / "computed", setup_py="import x\nx.setup(name=x.name())\n")
    write(tmp_path / "broken", pyproject_toml="name =")
    reasons = {
        "./missing": "is not a folder",
        "./empty": "has no pyproject.toml",
        "./computed": "does not say what the package is called",
        "./broken": "cannot be read",
        "./a-1-py3-none-any.whl": "does not exist",
    }
    for text, reason in reasons.items():
        with pytest.raises(UsageError, match=reason):
            with_folder_name(text, start=tmp_path, project=tmp_path)


def test_settings_name_packages_of_their_project_alone(tmp_path: Path) -> None:
    parse = config._FILE_PARSERS["package"]
    assert parse("./mylib") == "./mylib"
    for text in ("../mylib", "m @ file:///etc", "/etc", "m @ git+file:///srv/m"):
        with pytest.raises(ValueError, match="must be in the folder of this file"):
            parse(text)
    (tmp_path / "out").symlink_to("/etc")
    with pytest.raises(UsageError, match="leads out of"):
        with_folder_name("./out", start=tmp_path, project=tmp_path, inside=True)
