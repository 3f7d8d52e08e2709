"""Custom catalogs: rows replace or add, the policy overrides, and an error names file, row and field."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from envbuilder import catalog, cli
from envbuilder.catalog.gpu_names import find_gpu
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import CatalogError
from envbuilder.model import Request
from envbuilder.resolve import resolve

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "reference" / "catalog.md").read_text()
GPU = {
    "capability": "13.0", "architecture": "Rubin", "names": ["R100"], "families": {"data centre": ["R100"]},
    "status": "documented", "source": "our data sheet",
}  # fmt: skip


def write(folder: Path, file: str, *rows: dict[str, Any], **more: Any) -> Path:
    (folder / "facts").mkdir(parents=True, exist_ok=True)
    (folder / "facts" / file).write_text(
        json.dumps({"date": "2026-11-24", "rows": rows, **more})
    )
    return folder


def said_by(folder: Path) -> str:
    with pytest.raises(CatalogError) as caught:
        catalog.load(own=folder)
    assert "a custom catalog has files like the built-in one" in caught.value.hint
    return "\n".join([caught.value.message, *caught.value.problems])


def test_a_row_is_added(tmp_path: Path, facts: Catalog) -> None:
    loaded = catalog.load(own=write(tmp_path, "gpus.json", GPU))
    assert len(loaded.gpus) == len(facts.gpus) + 1
    assert find_gpu("R100", loaded) == loaded.gpus[-1]
    assert loaded.gpus[-1].checked.isoformat() == "2026-11-24"
    assert loaded.date == facts.date


def test_a_row_is_replaced_by_its_key(tmp_path: Path, facts: Catalog) -> None:
    own = write(tmp_path, "gpus.json", {**GPU, "capability": "9.0"})
    loaded = catalog.load(own=own)
    assert len(loaded.gpus) == len(facts.gpus)
    assert next(
        row for row in loaded.gpus if row.capability == Version("9.0")
    ).names == ("R100",)


def test_a_table_that_is_read_on_demand_is_covered_too(tmp_path: Path) -> None:
    row = {
        "cuda": "99.0.0", "os": "ubuntu24.04", "flavours": ["base"], "state": "recent", "listed": None, "pulled": [],
        "cudnn": None, "nccl": None, "status": "verified", "source": "our registry",
    }  # fmt: skip
    images = catalog.load_images(own=write(tmp_path, "nvidia_images.json", row))
    assert images[-1].tags == ("99.0.0-base-ubuntu24.04",)


def test_policy_is_overridden_key_by_key(tmp_path: Path, facts: Catalog) -> None:
    (tmp_path / "policy.toml").write_text(
        'preference = ["torch"]\n[registry]\nrelease = "trixie"\n'
    )
    policy = catalog.load(own=tmp_path).policy
    assert policy.preference == ("torch",)
    assert policy.registry.release == "trixie"
    assert policy.registry.pythons == facts.policy.registry.pythons


def test_custom_build_is_resolved_and_needs_its_index(tmp_path: Path) -> None:
    rows = json.loads((catalog.FOLDER / "facts" / "torch.json").read_text())["rows"]
    row = next(
        row
        for row in rows
        if (row["torch"], row["index"]) == ("2.0.1", "pytorch-cu118")
    )
    own = write(
        tmp_path,
        "torch.json",
        {**row, "index": "ours", "cuda": "11.3", "source": "our build farm"},
    )
    stack = resolve(Request(cuda=Version("11.3")), catalog.load(own=own))
    assert (str(stack.torch), stack.index) == ("2.0.1", "ours")


@pytest.mark.parametrize(
    ("file", "row", "said"),
    [
        (
            "gpus.json",
            {**GPU, "nmes": []},
            r"gpus\.json, row 1 of 1: unknown field 'nmes'; did you mean 'names'\?",
        ),
        (
            "gpus.json",
            {**GPU, "capability": "new"},
            r"gpus\.json, row 1 of 1: 'new' is not a version - at `\$\.capability",
        ),
        (
            "gpus.json",
            {**GPU, "status": "sure"},
            r"gpus\.json, row 1 of 1: Invalid enum value 'sure' - at `\$\.status",
        ),
        ("gpus.json", {"names": []}, r"gpus\.json, row 1 of 1: no capability"),
        (
            "gpu.json",
            GPU,
            r"gpu\.json is not a file of facts; did you mean 'gpus\.json'\?",
        ),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, file: str, row: dict[str, Any], said: str
) -> None:
    told = said_by(write(tmp_path, file, row))
    assert re.search(said, told), told
    assert str(tmp_path) in told


def test_a_file_without_a_date_is_named(tmp_path: Path) -> None:
    assert "gpus.json cannot be read" in said_by(
        write(tmp_path, "gpus.json", GPU, date=None)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prefrence = []", "unknown key 'prefrence'; did you mean 'preference'?"),
        (
            "preference = 3",
            "policy.toml: Expected `array`, got `int` - at `$.preference`",
        ),
        ("preference = [", "policy.toml cannot be read"),
    ],
)
def test_a_bad_policy_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    told = said_by(tmp_path)
    assert said in told
    assert str(tmp_path) in told


def test_missing_catalog_directory_is_named(tmp_path: Path) -> None:
    assert "is not a folder" in said_by(tmp_path / "nowhere")


def test_a_folder_that_is_no_catalog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    assert "has neither facts/ nor policy.toml" in said_by(tmp_path)


def of_command(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = cli.run(["resolve", *words])
    told = capsys.readouterr()
    return told.out.splitlines()[0] if code == 0 else told.err


def test_the_command_line_the_environment_and_the_settings_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "policy.toml").write_text('[registry]\nrelease = "trixie"\n')
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert of_command(capsys, "--cuda", "11.7").endswith("-debian12")
    assert of_command(capsys, "--cuda", "11.7", "--catalog", "../own").endswith(
        "-debian13"
    )
    with monkeypatch.context() as patch:
        patch.setenv("ENVBUILDER_CATALOG", str(tmp_path / "own"))
        assert of_command(capsys, "--cuda", "11.7").endswith("-debian13")
    (tmp_path / "envbuilder.toml").write_text(
        'catalog = "own"\n'
    )  # next to the file, in any working directory
    assert of_command(capsys, "--cuda", "11.7").endswith("-debian13")


def test_unknown_preference_is_a_catalog_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.toml").write_text('preference = ["newest"]\n')
    assert cli.run(["resolve", "--catalog", str(tmp_path)]) == 3
    assert "unknown preference 'newest'" in capsys.readouterr().err


def test_the_guides_example_works(tmp_path: Path) -> None:
    """What docs/reference/catalog.md shows is a catalog that loads, and its build is found."""
    blocks = re.findall(
        r"```(json|toml)\n# ?(\S+)\n(.*?)```", GUIDE.replace("// ", "# "), re.S
    )
    assert {name for _, name, _ in blocks} == {
        "mine/facts/torch.json",
        "mine/policy.toml",
        "envbuilder.toml",
    }
    for _, name, text in blocks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    tomllib.loads((tmp_path / "envbuilder.toml").read_text())
    loaded = catalog.load(own=tmp_path / "mine")
    stack = resolve(Request(cuda=Version("12.2")), loaded)
    assert (str(stack.torch), stack.index) == ("2.3.1", "ours-cu122")
    assert stack.index_url == "https://wheels.example/cu122"
