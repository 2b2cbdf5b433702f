# %% [markdown]
# # Data cards
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This page says of each data set where it comes from, what is in it, what is wrong with it, and what may not be done with it.
# What can be counted was counted.

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

REPOSITORY, FOLDER, CONTENT = "", "book/appendix", Path("/content")
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
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np

from hw3 import records
from hw3.detection.dataset import GROUPS, group_of
from hw3.detection.signs import SIGN_NAMES
from hw3.segmentation.metrics import SliceCounts
from hw3.tables import table

# %% [markdown]
# ## LGG

# %% tags=["hide-input"]
unet = records.load("../runs/lgg-slice.json")
parts = [
    SliceCounts.from_evidence(unet.evidence[part], unet.evidence["pixels_per_slice"])
    for part in ("train", "validation", "test")
]
area = np.concatenate([own.true_positive + own.false_negative for own in parts])
patients = {patient for own in parts for patient in own.patient_ids.tolist()}
sites = Counter(patient.split("_")[1] for patient in patients).most_common()
side = math.isqrt(unet.evidence["pixels_per_slice"])
table(
    ["property", "value"],
    [
        [
            "Source",
            "Kaggle, `mateuszbuda/lgg-mri-segmentation` {cite}`buda2019`; images from The Cancer Imaging Archive",
        ],
        [
            "Content",
            f"{len(patients)} patients with lower-grade glioma; {len(area)} slices of {side} × {side} pixels, three "
            "channels: before contrast agent, FLAIR, after contrast agent; a mask for each",
        ],
        [
            "Masks",
            f"drawn by hand, of what is abnormal on FLAIR; {(area > 0).sum()} slices hold tumour, "
            f"{area.sum() / (len(area) * side**2):.2%} of all pixels",
        ],
        ["Sites", ", ".join(f"{site} {count}" for site, count in sites) + " patients"],
        [
            "Known faults",
            "the archive holds a second copy of all patients one level down; a missing sequence is replaced by FLAIR",
        ],
        [
            "Licence",
            "pages disagree (CC BY-NC-SA 4.0 and CC BY 4.0 are both seen); this project treats the images as not its "
            "own to pass on, and shows none",
        ],
        [
            "Copy used for the runs",
            unet.data["note"] + "; lossy, and what that changes was not measured",
        ],
        ["Not for", "diagnosis"],
    ],
)

# %% [markdown]
# ## GTSDB

# %% tags=["hide-input"]
counted = json.loads(Path("../gtsdb_counts.json").read_text())
everything = counted["counts"]["all"]["all"]
official, report = (counted["counts"][split] for split in ("official", "random"))
signs = sum(sum(sizes.values()) for sizes in everything["signs"].values())
members = {group: [] for group in GROUPS}
for class_id in range(len(SIGN_NAMES)):
    members[GROUPS[group_of(class_id) - 1]].append(str(class_id))
detector = records.load("../runs/gtsdb-frcnn.json")
table(
    ["property", "value"],
    [
        [
            "Source",
            "German Traffic Sign Detection Benchmark {cite}`houben2013`, archive `FullIJCNN2013`",
        ],
        [
            "Content",
            f"{everything['images']} photographs of a road; a box and one of {len(SIGN_NAMES)} classes for each sign",
        ],
        [
            "Signs",
            f"{signs}, after {len(counted['notices'])} repeated line of `gt.txt` was left out; "
            f"{everything['images_without_signs']} images have none",
        ],
        ["Groups", "; ".join(f"{group} {', '.join(ids)}" for group, ids in members.items())],
        [
            "Splits",
            f"the competition's: the first {official['train']['images']} images and the last "
            f"{official['test']['images']}; the report's: {report['train']['images']} and "
            f"{report['test']['images']} at random",
        ],
        [
            "Known faults",
            "; ".join(f"`{notice}`" for notice in counted["notices"])
            + "; a `gt.txt` of the training images alone is easily put beside all images, whose test part "
            "then seems to hold no sign; some photographs show one place, a few of them on both sides of the official split "
            "({doc}`../q3/3_8_leakage`)",
        ],
        [
            "Licence",
            "“free to use this data package for any purpose you like”, with a citation",
        ],
        [
            "Copy used for the runs",
            detector.data["note"] + "; lossy, and what that changes was not measured",
        ],
        ["Not for", "driving"],
    ],
)

# %% [markdown]
# ## Simulated roads
#
# Made by `hw3.detection.simulate` in the layout of GTSDB: sky, road in perspective, houses, trees, poles, all sign classes drawn in their true shapes and colours, and other boards and signs, which are not among those classes and not annotated. Class and size frequencies follow GTSDB's, counted on all its images, those for testing included. A score on them says nothing about roads; how far a detector that was trained on them gets on real ones is measured in {doc}`../q3/3_9_simulated_data`.
#
# ## Simulated brains
#
# Made by `hw3.segmentation.simulate` from the ICBM152 atlas that the nilearn package carries {cite}`fonov2011`: each patient is a warped copy with its own contrast, bias field, noise and a lesion grown in white matter, written in the layout of the real set. They show that the code works. A score on them says nothing about patients; what they are worth to a network that then sees real ones is measured in {doc}`../q3/3_11_simulated_brains`.
#
# ## What this page showed
#
# Two real data sets, each with a fault that spoils scores in silence unless it is looked for, and two simulated ones that stand in where the real may not be passed on.
