"""What a notebook needs before its first import: its own folder, and on Google Colab packages."""

import os
import subprocess
import sys
from glob import glob
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

LIGHT = "accelerate albumentations imagecodecs matplotlib pydantic requests safetensors"
LIGHT += " tifffile tqdm tyro"
HEAVY = ("torch", "torchvision", "numpy", "scipy")  # another one would want a new kernel


def set_up(folder: str) -> None:
    """Go to the notebook's `folder`, given from the project's root, and let it import from book/.

    On Colab it also installs what is missing, and chooses profile and folders that are not set.
    """
    if "google.colab" in sys.modules:
        _on_colab(Path(__file__).resolve().parent.parent)
    if Path(folder).is_dir():
        os.chdir(folder)
    here = Path.cwd()
    sys.path += [str(place) for place in (here, *here.parents) if place.name == "book"][:1]


def _on_colab(home: Path) -> None:
    if missing := [name for name in LIGHT.split() if not find_spec(name)]:
        as_they_are = [f"{d.name}=={d.version}" for d in distributions() if d.name in HEAVY]
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *missing, *as_they_are], check=True)
    os.environ["PYTHONPATH"] = str(home)  # for commands: !python -m hw3 --help
    os.environ.setdefault("HW3_PROFILE", "full" if glob("/dev/nvidia[0-9]*") else "sample")
    os.environ.setdefault("HW3_DATA", "/content/data")
    if os.environ.setdefault("HW3_RUNS", "/content/runs").startswith("/content/drive/"):
        import_module("google.colab.drive").mount("/content/drive")
    os.chdir(home)
