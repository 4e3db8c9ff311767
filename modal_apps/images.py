"""The container images, exactly pinned: what a container runs is what the tests ran."""

from collections.abc import Mapping
from pathlib import Path

import modal

#: Python inside the containers; pickles cross the wire, so it is the control plane's own minor version.
PYTHON_VERSION = "3.11"

#: What the render engines need; the same versions as in requirements.lock (a test compares them).
RENDER_PACKAGES = ("av==18.1.0", "numpy==2.4.6", "pillow==12.3.0")

#: Debian packages with the glyphs of most scripts; Pillow's own font has only ASCII.
RENDER_FONTS = ("fonts-dejavu-core", "fonts-droid-fallback")

#: What the train engine needs; torch as in pyproject.toml, the rest as in requirements.lock (a test compares them).
TRAIN_PACKAGES = (
    "torch==2.13.0", "safetensors==0.8.0", "tensorboardx==2.6.5", "numpy==2.4.6", "pillow==12.3.0",
)  # fmt: skip

#: Where the volume of caches is mounted in a training container.
CACHE_PATH = "/overspill/cache"

#: For every process of a training container.
TRAIN_ENVIRONMENT: Mapping[str, str] = {
    # Segments that grow instead of many of fixed size: what a change of shapes fragments is the usual cause of an
    # out-of-memory with gigabytes free (PyTorch's own advice in that error's text).
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    # Same config, same seed, same weights: cuBLAS needs a fixed workspace for that (CUDA's own documentation).
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # The volume keeps what a hub or a compiler would fetch or make again in each container.
    "HF_HOME": f"{CACHE_PATH}/huggingface",
    "HF_XET_HIGH_PERFORMANCE": "1",
    "TORCH_HOME": f"{CACHE_PATH}/torch",
    "TRITON_CACHE_DIR": f"{CACHE_PATH}/triton",
}


def render_image() -> modal.Image:
    """The image of the renderer: the engines' packages, and the two packages of ours that a container ships."""
    return (
        modal.Image.debian_slim(python_version=PYTHON_VERSION)
        .apt_install(*RENDER_FONTS)
        .uv_pip_install(*RENDER_PACKAGES)
        .add_local_python_source("modal_apps", "engines")
    )


def train_image(deployed_with: Mapping[str, str]) -> modal.Image:
    """The image of the trainer: PyTorch, the allocator's and the caches' environment, and the source it needs.

    `deployed_with` are the variables by which the app's module decides what it mounts: a container reads that module
    again, and Modal refuses one that then has fewer objects than were deployed.
    """
    return (
        modal.Image.debian_slim(python_version=PYTHON_VERSION)
        .uv_pip_install(*TRAIN_PACKAGES)
        .env({**TRAIN_ENVIRONMENT, **deployed_with})
        .add_local_python_source("modal_apps", "engines", ignore=not_for_training)
    )


def not_for_training(path: Path) -> bool:
    """What of our two packages a training container does not get: the render side, and what is no source.

    Modal asks about every file, by its path inside its package.
    """
    return path.parts[0] in ("render", "renderer.py", "uploads.py") or path.suffix != ".py"
