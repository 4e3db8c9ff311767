"""The container images, exactly pinned: what a container runs is what the tests ran."""

import modal

#: Python inside the containers; pickles cross the wire, so it is the control plane's own minor version.
PYTHON_VERSION = "3.11"

#: What the render engines need; the same versions as in requirements.lock (a test compares them).
RENDER_PACKAGES = ("av==18.1.0", "numpy==2.4.6", "pillow==12.3.0")

#: Debian packages with the glyphs of most scripts; Pillow's own font has only ASCII.
RENDER_FONTS = ("fonts-dejavu-core", "fonts-droid-fallback")


def render_image() -> modal.Image:
    """The image of the renderer: the engines' packages, and the two packages of ours that a container ships."""
    return (
        modal.Image.debian_slim(python_version=PYTHON_VERSION)
        .apt_install(*RENDER_FONTS)
        .uv_pip_install(*RENDER_PACKAGES)
        .add_local_python_source("modal_apps", "engines")
    )
