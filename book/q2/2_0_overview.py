# %% [markdown]
# # Traffic signs on the road
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# Question 2 asks which of two detectors finds traffic signs better: Faster R-CNN, which works in two stages, or SSD300, which works in one.
# This page shows the task; the next one the data.

# %% tags=["hide-input"]
# Set-up: does nothing outside Google Colab, and touches neither torch nor numpy.
import os
import subprocess
import sys
import zipfile
from glob import glob
from importlib.metadata import distributions
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

REPOSITORY, FOLDER, CONTENT = "", "book/q2", Path("/content")
LIGHT = "accelerate albumentations imagecodecs matplotlib nilearn requests safetensors tifffile"
LIGHT += " tqdm tyro"
if find_spec("google") and find_spec("google.colab"):
    from google.colab import drive, files

    home = CONTENT / "hw3"
    if not home.exists() and REPOSITORY:
        subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY, home], check=True)
    elif not home.exists():
        print("Choose hw3-colab.zip, the bundle that `make colab` writes.")
        zipfile.ZipFile(BytesIO(*files.upload().values())).extractall(home)
    missing = [name for name in LIGHT.split() if not find_spec(name)]
    heavy = [d for d in distributions() if d.name in ("torch", "torchvision", "numpy", "scipy")]
    as_they_are = [f"{d.name}=={d.version}" for d in heavy]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if missing:
        subprocess.run([*pip, *missing, *as_they_are], check=True)
    subprocess.run([*pip, "--no-deps", home], check=True)
    os.environ.setdefault("HW3_PROFILE", "full" if glob("/dev/nvidia[0-9]*") else "sample")
    os.environ.setdefault("HW3_DATA", str(CONTENT / "data"))
    os.environ.setdefault("HW3_RUNS", str(CONTENT / "runs"))
    if Path(os.environ["HW3_RUNS"]).is_relative_to(CONTENT / "drive"):
        drive.mount(str(CONTENT / "drive"))
    os.chdir(home / FOLDER)

# %% tags=["hide-input"]
import numpy as np

from hw3 import profiles
from hw3.detection import experiment, figures
from hw3.tables import environment

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
environment(profile)

# %% [markdown]
# The German Traffic Sign Detection Benchmark, GTSDB {cite}`houben2013`, holds photographs of roads with a box around each sign, and one of 43 classes. As in the report, the classes are merged into four groups: prohibitory, mandatory, danger and other. A detector gets the photograph and must return boxes, each with a group and a score.
#
# {numref}`fig-2-1` shows the largest sign of this page's data.

# %% mystnb={"figure": {"name": "fig-2-1", "caption": "An annotated traffic sign: the whole image, and the sign in its surroundings with its box. This page's data, simulated."}, "image": {"alt": "Left, a road with a green box around one traffic sign. Right, the same sign enlarged, its box touching the sign on all four sides."}}
widths = [(boxes[:, 2] - boxes[:, 0]).max(initial=0) for boxes in dataset.boxes_xyxy]
figures.annotated_sign(dataset, int(np.argmax(widths)))

# %% [markdown]
# | section | question | figures |
# | :-- | :-- | :-- |
# | {doc}`2_1_data` | How many signs of which kind, and how are the images split? | {numref}`fig-2-2` to {numref}`fig-2-7` |
# | {doc}`2_2_two_stage` | How good is Faster R-CNN? | {numref}`fig-2-8` to {numref}`fig-2-11` |
# | {doc}`2_3_one_stage` | How good is SSD300? | {numref}`fig-2-12` to {numref}`fig-2-15` |
# | {doc}`2_4_comparison` | Which is better, and are the report's claims right? | {numref}`fig-2-16` |
#
# **What this page showed.** The task is to find small, colourful, standardised things in large pictures that hold many other colourful things.
