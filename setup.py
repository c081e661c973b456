"""Packaging of instaseg; exact versions for development and the demo are in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (HERE / "instaseg" / "__init__.py").read_text(), re.MULTILINE
)
README = HERE / "README.md"

setup(
    name="instaseg",
    version=VERSION.group(1),
    description="Instance segmentation of microscopy images: a runner of stages, and a library",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[*find_packages(include=["instaseg", "instaseg.*"]), "instaseg.experiments"],
    # The embedded default app travels inside the package; in a checkout it lies beside it.
    package_dir={"instaseg.experiments": "experiments"},
    package_data={
        "instaseg": ["py.typed"],
        "instaseg.experiments": ["**/*.toml", "**/*.tif", "**/*.txt", "**/*.py", "**/*.md"],
    },
    entry_points={"console_scripts": ["instaseg=instaseg.cli:main"]},
    # gunpowder 1.4 needs zarr 2, gunpowder 1.5 needs zarr 3 and Python 3.12: pip chooses the pair.
    install_requires=[
        "bioimage-cpp>=0.9,<0.10",
        "connected-components-3d>=4.0",
        "distributed>=2024.8",
        "edt>=3.0",
        "fastremap>=1.17",
        "fill-voids>=2.1",
        "gunpowder>=1.4.4",
        "h5py>=3.10",
        "imageio>=2.31",
        "llvmlite>=0.43",
        "matplotlib>=3.8",
        "numba>=0.60",
        "numcodecs>=0.13",
        "numpy>=2.0",
        "pydantic>=2.8",
        "pyyaml>=6.0",
        "scikit-image>=0.24",
        "scipy>=1.13",
        "tensorboard>=2.16",
        "tifffile>=2024.1",
        "toml>=0.10.2",
        "torch>=2.6",
        "tqdm>=4.66",
        "zarr>=2.18",
    ],
    extras_require={
        "cluster": ["dask-jobqueue>=0.9"],
        "dev": [
            "hypothesis>=6.100",
            "mypy>=1.10",
            "pytest>=8.0",
            "pytest-benchmark>=4.0",
            "pytest-xdist>=3.5",
            "ruff>=0.11",
            "setuptools>=68",
            "types-toml",
            "types-tqdm",
        ],
    },
)
