"""`envbuilder render --target bake` and `init --target bake`, as people call them."""

import shutil
from pathlib import Path

from .conftest import Run

IMAGES = Path(__file__).parents[2] / "docker" / "images"
LOCKS = sorted(IMAGES.glob("*/envbuilder.lock"))


def targets(text: str) -> list[str]:
    return [
        line.split('"')[1] for line in text.splitlines() if line.startswith('target "c')
    ]


def test_every_lock_is_a_target_without_contacting_an_index(
    run: Run, tmp_path: Path
) -> None:
    shutil.copytree(IMAGES, tmp_path / "docker" / "images")
    (tmp_path / "envbuilder.toml").write_text(
        '[render]\ntargets = ["workflow"]\n[render.settings]\nmake = "lint"\n'
    )
    assert (
        run(
            "render", "--target", "bake", "--index-url", "https://index.invalid/simple"
        ).code
        == 0
    )
    text = (tmp_path / "docker-bake.hcl").read_text()
    assert targets(text) == [path.parent.name.replace(".", "_") for path in LOCKS]
    assert run("render", "--target", "bake", "--check").code == 0

    shutil.rmtree(tmp_path / "docker" / "images" / LOCKS[0].parent.name)
    stale = run("render", "--target", "bake", "--check")
    assert (stale.code, stale.err) == (1, "stale: docker-bake.hcl\n")


def test_users_repository_gets_a_bake_file_that_stays_current(
    run: Run, tmp_path: Path
) -> None:
    done = run("init", "--lock", str(LOCKS[-1]), "--target", "bake")
    assert done.code == 0, done.err
    text = (tmp_path / "docker-bake.hcl").read_text()
    assert targets(text) == [LOCKS[-1].parent.name.replace(".", "_")]
    checked = run("render", "--check")
    assert (checked.code, checked.err) == (0, "")
