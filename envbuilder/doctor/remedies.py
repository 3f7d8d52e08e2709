"""The commands that fix a machine, each with the page that documents it. What envbuilder itself fixes is not here."""

from dataclasses import dataclass

from packaging.version import Version

from envbuilder.host.records import Host

_TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
_CDI = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html"
_DRIVER = "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/"
_DEBIAN_DRIVER = "https://wiki.debian.org/NvidiaGraphicsDrivers"
_UBUNTU_DRIVER = (
    "https://documentation.ubuntu.com/server/how-to/graphics/install-nvidia-drivers/"
)
_PROXY = "https://docs.docker.com/engine/daemon/proxy/"
_UNIX_DRIVERS = "https://www.nvidia.com/en-us/drivers/unix/"
_UBUNTU = ("ubuntu", "linuxmint", "pop", "zorin", "elementary", "neon")
_MANAGERS = {
    "apt": ("debian", "raspbian", *_UBUNTU),
    "dnf": ("fedora", "rhel", "centos", "rocky", "almalinux", "amzn", "ol"),
    "zypper": (
        "suse",
        "sles",
        "sled",
        "opensuse",
        "opensuse-leap",
        "opensuse-tumbleweed",
    ),
    "pacman": ("arch", "manjaro", "endeavouros", "cachyos"),
}
_FIRST_OPEN_MODULES = Version(
    "7.5"
)  # NVIDIA's open kernel modules drive Turing and newer


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One command line, and the page that documents it; without a command, the page to read."""

    command: str
    source: str


NONE = Remedy(command="", source="")
DEBIAN_DOCKER = Remedy(
    command="curl -fsSL https://get.docker.com | sudo sh",
    source="https://docs.docker.com/engine/install/debian/#install-using-the-convenience-script",
)
BOOTSTRAP_TOOLS = Remedy(
    command="sudo apt-get install mmdebstrap debian-archive-keyring",
    source="https://manpages.debian.org/stable/mmdebstrap/mmdebstrap.1.en.html",
)
START_DOCKER = Remedy(
    command="sudo systemctl start docker",
    source="https://docs.docker.com/engine/daemon/start/",
)
START_DESKTOP = Remedy(
    command="docker desktop start",
    source="https://docs.docker.com/reference/cli/docker/desktop/start/",
)
JOIN_DOCKER = Remedy(
    command="sudo usermod -aG docker $USER && newgrp docker",
    source="https://docs.docker.com/engine/install/linux-postinstall/",
)
UBUNTU_DOCKER = Remedy(
    command="sudo apt-get install docker.io docker-buildx docker-compose-v2",
    source="https://ubuntu.com/server/docs/how-to/containers/docker-for-system-admins/",
)
UBUNTU_BUILDX = Remedy(
    command="sudo apt-get install docker-buildx", source=UBUNTU_DOCKER.source
)
UBUNTU_COMPOSE = Remedy(
    command="sudo apt-get install docker-compose-v2", source=UBUNTU_DOCKER.source
)
DOCKER_PLUGINS = Remedy(
    command="sudo dnf install docker-buildx-plugin docker-compose-plugin",
    source="https://docs.docker.com/engine/install/fedora/",
)
DOCKER_CONTEXTS = Remedy(
    command="docker context ls",
    source="https://docs.docker.com/engine/manage-resources/contexts/",
)
FORGET_HOST = Remedy(
    command="unset DOCKER_HOST",
    source="https://docs.docker.com/reference/cli/docker/#environment-variables",
)
NO_SNAP = Remedy(
    command="sudo snap remove docker",
    source="https://docs.docker.com/engine/install/ubuntu/",
)
DOCKER_PAGE = Remedy(command="", source="https://docs.docker.com/engine/install/")
SUSE_DOCKER = Remedy(
    command="sudo zypper install docker docker-buildx docker-compose && sudo systemctl enable --now docker",
    source="https://en.opensuse.org/Docker",
)
ARCH_DOCKER = Remedy(
    command="sudo pacman -S docker docker-buildx docker-compose && sudo systemctl enable --now docker",
    source="https://wiki.archlinux.org/title/Docker",
)
BUILDKIT_ON = Remedy(
    command="unset DOCKER_BUILDKIT", source="https://docs.docker.com/build/buildkit/"
)
PRUNE = Remedy(
    command="docker system df && docker builder prune",
    source="https://docs.docker.com/engine/manage-resources/pruning/",
)
MORE_SHM = Remedy(
    command="docker run --shm-size=1g IMAGE train",
    source="https://docs.docker.com/reference/cli/docker/container/run/",
)
SET_CLOCK = Remedy(
    command="sudo timedatectl set-ntp true",
    source="https://www.freedesktop.org/software/systemd/man/latest/timedatectl.html",
)
SET_WSL_CLOCK = Remedy(
    command="sudo hwclock -s", source="https://github.com/microsoft/WSL/issues/10006"
)
ENGINE_PROXY = Remedy(
    command="sudo systemctl edit docker && sudo systemctl restart docker  # [Service] Environment=HTTPS_PROXY=…",
    source=_PROXY,
)
ENGINE_CA = Remedy(
    command="sudo update-ca-certificates && sudo systemctl restart docker",
    source="https://docs.docker.com/engine/network/ca-certs/",
)
ENGINE_CA_DNF = Remedy(
    command="sudo update-ca-trust && sudo systemctl restart docker",
    source=ENGINE_CA.source,
)
CONTAINER_CA = Remedy(
    command="docker run --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro IMAGE train",
    source="https://docs.docker.com/engine/network/ca-certs/",
)
LOGIN = Remedy(
    command="docker login", source="https://docs.docker.com/reference/cli/docker/login/"
)
SHOW_ROUTES = Remedy(
    command="ip route", source="https://man7.org/linux/man-pages/man8/ip-route.8.html"
)
SHOW_NAMES = Remedy(
    command="cat /etc/resolv.conf",
    source="https://man7.org/linux/man-pages/man5/resolv.conf.5.html",
)

INSTALL_TOOLKIT = Remedy(
    command="sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker",
    source=_TOOLKIT,
)
INSTALL_TOOLKIT_DNF = Remedy(
    command=INSTALL_TOOLKIT.command.replace("apt-get", "dnf"), source=_TOOLKIT
)
UPGRADE_TOOLKIT = Remedy(
    command="sudo apt-get update && sudo apt-get install --only-upgrade nvidia-container-toolkit",
    source=_TOOLKIT,
)
UPGRADE_TOOLKIT_DNF = Remedy(
    command="sudo dnf upgrade nvidia-container-toolkit", source=_TOOLKIT
)
INSTALL_TOOLKIT_ZYPPER = Remedy(
    command=INSTALL_TOOLKIT.command.replace("apt-get", "zypper"), source=_TOOLKIT
)
INSTALL_TOOLKIT_PACMAN = Remedy(
    command=INSTALL_TOOLKIT.command.replace("apt-get install", "pacman -S"),
    source="https://wiki.archlinux.org/title/Docker#Run_GPU_accelerated_Docker_containers_with_NVIDIA_GPUs",
)
UPGRADE_TOOLKIT_ZYPPER = Remedy(
    command="sudo zypper update nvidia-container-toolkit", source=_TOOLKIT
)
UPGRADE_TOOLKIT_PACMAN = Remedy(
    command="sudo pacman -Syu", source="https://wiki.archlinux.org/title/Pacman"
)
DEVICE_LINKS = Remedy(
    command="sudo nvidia-ctk system create-dev-char-symlinks --create-all",
    source="https://github.com/NVIDIA/nvidia-container-toolkit/issues/48",
)
START_AGAIN = Remedy(command="docker restart CONTAINER", source=DEVICE_LINKS.source)
CONFIGURE_RUNTIME = Remedy(
    command="sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
    source=_TOOLKIT,
)
ROOTLESS_GPU = Remedy(
    command="sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place",
    source=_TOOLKIT,
)
CDI_ON = Remedy(
    command="sudo nvidia-ctk runtime configure --runtime=docker --cdi.enabled && sudo systemctl restart docker",
    source="https://docs.docker.com/build/building/cdi/",
)
CDI_AGAIN = Remedy(
    command="sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", source=_CDI
)
ASK_FOR_GPU = Remedy(
    command="docker run --gpus all IMAGE train",
    source="https://docs.docker.com/engine/containers/gpu/",
)
REBOOT = Remedy(
    command="sudo reboot",
    source="https://github.com/NVIDIA/nvidia-container-toolkit/issues/394",
)
LOAD_UVM = Remedy(command="sudo nvidia-modprobe -u -c=0", source=_DRIVER)
FABRIC = Remedy(
    command="sudo systemctl enable --now nvidia-fabricmanager",
    source="https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/",
)
MIG_INSTANCES = Remedy(
    command="sudo nvidia-smi mig -cgi 0 -C",
    source="https://docs.nvidia.com/datacenter/tesla/mig-user-guide/",
)
NO_NOUVEAU = Remedy(
    command='echo "blacklist nouveau" | sudo tee /etc/modprobe.d/blacklist-nouveau.conf && sudo update-initramfs -u && '
    "sudo reboot",
    source=_DRIVER,
)
NO_NOUVEAU_DNF = Remedy(
    command=NO_NOUVEAU.command.replace("update-initramfs -u", "dracut --force"),
    source=_DRIVER,
)
NO_NOUVEAU_PACMAN = Remedy(
    command=NO_NOUVEAU.command.replace("update-initramfs -u", "mkinitcpio -P"),
    source="https://wiki.archlinux.org/title/NVIDIA",
)
DEBIAN_DRIVER = Remedy(
    command="sudo apt-get install nvidia-driver firmware-misc-nonfree",
    source=_DEBIAN_DRIVER,
)
UBUNTU_DRIVER = Remedy(
    command="sudo ubuntu-drivers install --gpgpu", source=_UBUNTU_DRIVER
)
DNF_DRIVER = Remedy(command="sudo dnf install nvidia-open", source=_DRIVER)
MINT_DRIVER = Remedy(
    command="driver-manager",
    source="https://linuxmint-installation-guide.readthedocs.io/en/latest/drivers.html",
)
POP_DRIVER = Remedy(
    command="sudo apt-get install system76-driver-nvidia",
    source="https://support.system76.com/articles/system76-driver/",
)
SUSE_DRIVER = Remedy(command="", source="https://en.opensuse.org/SDB:NVIDIA_drivers")
ARCH_DRIVER = Remedy(
    command="sudo pacman -S nvidia-open",
    source="https://wiki.archlinux.org/title/NVIDIA",
)
DRIVER_PAGE = Remedy(command="", source=_DRIVER)
OLDER_DRIVER = Remedy(
    command="", source=_UNIX_DRIVERS
)  # the last driver of each legacy branch
WINDOWS_DRIVER = Remedy(
    command="", source="https://docs.nvidia.com/cuda/wsl-user-guide/index.html"
)
TEGRA_DRIVER = Remedy(
    command="", source="https://docs.nvidia.com/jetson/jetpack/install-setup/index.html"
)
WSL_DRIVER = Remedy(
    command="wsl.exe --update && wsl.exe --shutdown",
    source="https://docs.nvidia.com/cuda/wsl-user-guide/index.html",
)
NO_COMPAT = Remedy(
    command="unset LD_LIBRARY_PATH",
    source="https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html",
)
SHOW_GPUS = Remedy(
    command="unset NVIDIA_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES",
    source="https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html",
)
GIVE_GPUS = Remedy(command="docker run --gpus all IMAGE", source=SHOW_GPUS.source)
JETSON = Remedy(
    command="jetson-containers run $(autotag l4t-pytorch)",
    source="https://github.com/dusty-nv/jetson-containers",
)
SHOW_MODULE = Remedy(command="sudo dmesg | grep -i nvrm", source=_DRIVER)


def _package_manager(host: Host) -> str:
    """That of the distribution, or of one that it is made from; apt where nothing is known, "" for any other."""
    machine = host.machine
    if machine.distribution is None:
        return "apt"
    for name in (machine.distribution, *machine.like):
        for manager, distributions in _MANAGERS.items():
            if name in distributions:
                return manager
    return ""


def _is_ubuntu(host: Host) -> bool:
    """Whether it has Ubuntu's packages."""
    distribution = host.machine.distribution
    like = host.machine.like
    if "ubuntu" in like:
        return True
    if distribution == "linuxmint" and like:
        return False  # Mint is also made from Debian
    return distribution in _UBUNTU


def by_distribution(
    host: Host,
    apt: Remedy,
    dnf: Remedy,
    zypper: Remedy | None = None,
    pacman: Remedy | None = None,
) -> Remedy:
    """The command for the package manager of the host's distribution, or the page where there is none for it."""
    page = Remedy(command="", source=apt.source)
    manager = _package_manager(host)
    commands = {"apt": apt, "dnf": dnf, "zypper": zypper, "pacman": pacman}
    return commands.get(manager) or page


def driver(host: Host) -> Remedy:
    """How to install or upgrade NVIDIA's driver on this machine."""
    if host.machine.wsl:
        return WINDOWS_DRIVER
    if host.machine.jetson:
        return TEGRA_DRIVER
    return _driver_of_distribution(host)


def _driver_of_distribution(host: Host) -> Remedy:
    own = {"linuxmint": MINT_DRIVER, "pop": POP_DRIVER}
    distribution = host.machine.distribution or ""
    manager = _package_manager(host)
    if distribution in own:
        return own[distribution]
    if _is_ubuntu(host):
        return UBUNTU_DRIVER
    if manager == "":
        return DRIVER_PAGE
    if manager != "apt" and _has_old_gpu(host):
        return OLDER_DRIVER  # what the others install drives only newer ones
    return by_distribution(host, DEBIAN_DRIVER, DNF_DRIVER, SUSE_DRIVER, ARCH_DRIVER)


def _has_old_gpu(host: Host) -> bool:
    capabilities = host.gpu.capabilities
    if not capabilities:
        return False
    return min(capabilities) < _FIRST_OPEN_MODULES


def docker(host: Host) -> Remedy:
    """How to install Docker with buildx and Compose on this distribution."""
    if _is_ubuntu(host):
        return UBUNTU_DOCKER
    if not _package_manager(host):
        return DOCKER_PAGE
    return by_distribution(
        host, DEBIAN_DOCKER, DOCKER_PLUGINS, SUSE_DOCKER, ARCH_DOCKER
    )


def buildx(host: Host) -> Remedy:
    """How to install or upgrade buildx."""
    return UBUNTU_BUILDX if _is_ubuntu(host) else docker(host)


def compose(host: Host) -> Remedy:
    """How to install or upgrade Compose."""
    return UBUNTU_COMPOSE if _is_ubuntu(host) else docker(host)


def toolkit(host: Host) -> Remedy:
    """How to install the NVIDIA Container Toolkit and configure the engine for it."""
    return by_distribution(
        host,
        INSTALL_TOOLKIT,
        INSTALL_TOOLKIT_DNF,
        INSTALL_TOOLKIT_ZYPPER,
        INSTALL_TOOLKIT_PACMAN,
    )


def newer_toolkit(host: Host) -> Remedy:
    """How to upgrade the NVIDIA Container Toolkit."""
    return by_distribution(
        host,
        UPGRADE_TOOLKIT,
        UPGRADE_TOOLKIT_DNF,
        UPGRADE_TOOLKIT_ZYPPER,
        UPGRADE_TOOLKIT_PACMAN,
    )


def no_nouveau(host: Host) -> Remedy:
    """How to keep the kernel's free driver from being loaded."""
    return by_distribution(
        host, NO_NOUVEAU, NO_NOUVEAU_DNF, NO_NOUVEAU_DNF, NO_NOUVEAU_PACMAN
    )


def engine_ca(host: Host) -> Remedy:
    """How to make the engine trust a CA that was added to the machine."""
    return by_distribution(host, ENGINE_CA, ENGINE_CA_DNF, ENGINE_CA, ENGINE_CA_DNF)
