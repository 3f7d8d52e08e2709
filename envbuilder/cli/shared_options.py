"""Options that several commands share.

An option that takes one value can also be set by an environment variable: `--as-of` by `ENVBUILDER_AS_OF`. The command
line wins over the environment, the environment over envbuilder.toml; all three accept the same values.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from envbuilder.cli import completion
from envbuilder.cli.command_group import SuggestingChoice
from envbuilder.cli.settings import variable_of
from envbuilder.engine.gpu_access import GpuAccess
from envbuilder.lock.sources.builds import SourceBuilds

F = TypeVar("F", bound=Callable[..., Any])


def value_option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option with one value, which its environment variable can give too."""
    variables = [
        variable_of(name.removeprefix("--")) for name in names if name.startswith("--")
    ]
    return click.option(*names, envvar=variables, **settings)


def _stack(decorators: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


catalog_option = value_option(
    "--catalog",
    "own_catalog",
    metavar="DIR",
    help="Directory with catalog entries that extend or override the built-in ones.",
)
platform_option = value_option(
    "--platform",
    metavar="OS/ARCH",
    help="Platform of the image: linux/amd64 (default) or linux/arm64; also arm64, sbsa.",
    shell_complete=completion.platforms,
)
request_options = _stack(
    [
        value_option(
            "--cuda",
            metavar="X.Y",
            help="CUDA version, e.g. 11.7, 11.7.1, 12 or cu117.",
            shell_complete=completion.cuda_versions,
        ),
        value_option("--cudnn", metavar="VERSION", help="cuDNN version, e.g. 8.5."),
        value_option(
            "--python",
            metavar="X.Y",
            help="Python version, e.g. 3.10.",
            shell_complete=completion.python_versions,
        ),
        value_option(
            "--torch",
            metavar="VERSION",
            help="PyTorch version, e.g. 2.0 or 2.0.1.",
            shell_complete=completion.torch_versions,
        ),
        value_option(
            "--torchvision", metavar="VERSION", help="torchvision version, e.g. 0.15."
        ),
        value_option(
            "--transformers", metavar="VERSION", help="transformers version, e.g. 4.40."
        ),
        value_option(
            "--gpu",
            metavar="NAME",
            help="GPU that it must run on, e.g. 'RTX 3090', or a compute capability, e.g. 8.6.",
            shell_complete=completion.gpu_names,
        ),
        value_option(
            "--driver",
            metavar="VERSION",
            help="NVIDIA driver that it must run on, or its branch, e.g. 535.",
        ),
        value_option(
            "--base",
            metavar="IMAGE",
            help="Base image: auto (default), bootstrap, or a custom image (with --python).",
            shell_complete=completion.bases,
        ),
        value_option(
            "--os",
            metavar="NAME",
            help="Operating system of the base image, e.g. debian12 or bookworm.",
            shell_complete=completion.systems,
        ),
        value_option(
            "--flavor",
            "--flavour",
            "flavour",
            metavar="NAME",
            help="runtime (default), devel (with nvcc) or cpu (no CUDA).",
            shell_complete=completion.flavours,
        ),
        click.option(
            "--package",
            "packages",
            multiple=True,
            metavar="SPEC",
            help="Additional package, e.g. 'peft<0.12', ./mylib or git+https://…@v1; repeatable.",
        ),
        click.option(
            "--with",
            "companions",
            multiple=True,
            envvar=variable_of("with"),
            metavar="SPEC",
            help="Package bound to torch or CUDA whose version is chosen with the stack, e.g. vllm, 'flash-attn>=2.8', "
            "cupy; repeatable.",
            shell_complete=completion.companions,
        ),
        click.option(
            "--apt",
            multiple=True,
            metavar="NAME",
            help="Debian package to install, e.g. libgl1; repeatable.",
        ),
        platform_option,
        value_option(
            "--as-of",
            metavar="DATE",
            help="Resolve packages as the index stood on this day, e.g. 2026-11-09.",
        ),
        catalog_option,
    ]
)
requirements_option = click.option(
    "--requirements",
    "--requirement",
    "-r",
    "requirements",
    multiple=True,
    metavar="FILE",
    help="Read packages and versions from a file of the project: requirements.txt, pyproject.toml, uv.lock, "
    "environment.yml, Dockerfile, …; repeatable.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout."
)
check_option = click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="FILE",
    help="Custom check, a Python program; repeatable.",
)
lock_option = click.option(
    "--lock",
    "lock_file",
    metavar="FILE",
    help="Start from a lock instead of a request.",
)
rerun_option = click.option(
    "--rerun",
    "--fresh",
    "fresh",
    is_flag=True,
    help="Run the suite even if this image has already passed it on this host.",
)
gpu_access_option = value_option(
    "--gpu-access",
    type=SuggestingChoice([access.value for access in GpuAccess]),
    help="How the suite's container gets GPUs (default: auto).",
)
require_gpu_option = click.option(
    "--require-gpu",
    is_flag=True,
    help="Fail if no GPU is visible instead of falling back to the CPU.",
)
tag_option = value_option(
    "--tag", metavar="NAME:TAG", help="Tag of the image (default: envbuilder:<stack>)."
)
_index_url = value_option(
    "--index-url", metavar="URL", help="Custom package index or mirror."
)
_ca_bundle = value_option(
    "--ca-bundle",
    metavar="FILE",
    help="CA bundle, if TLS is signed by a private CA.",
)
index_options = _stack([_index_url, _ca_bundle])
network_options = _stack(
    [
        _index_url,
        value_option(
            "--torch-index",
            metavar="URL",
            help="Mirror of PyTorch's own indexes, e.g. https://mirror.example/whl.",
        ),
        value_option(
            "--apt-mirror",
            metavar="URL",
            help="Mirror of Debian's packages, e.g. https://mirror.example/debian.",
        ),
        value_option(
            "--registry-mirror",
            metavar="NAME",
            help="Registry with Docker Hub's images, e.g. registry.example/dockerhub.",
        ),
        value_option(
            "--python-mirror",
            metavar="URL",
            help="Mirror of the Pythons that uv installs where a base has none.",
        ),
        _ca_bundle,
        value_option(
            "--build-sources",
            type=SuggestingChoice([builds.value for builds in SourceBuilds]),
            help="Which packages without a wheel may be built from source (default: all).",
        ),
        click.option(
            "--compile",
            "compile_names",
            multiple=True,
            metavar="NAME",
            help="Package that may be compiled with nvcc while the image is built, if it has no wheel; repeatable.",
        ),
    ]
)
