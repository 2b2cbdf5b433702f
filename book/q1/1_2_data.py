# %% [markdown]
# # Data preparation
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section reads the slices, checks them, shows five of them, and splits them.
# It also shows why the report's way of splitting lets the test set leak.

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

REPOSITORY, FOLDER, CONTENT = "", "book/q1", Path("/content")
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

from hw3 import profiles, records
from hw3.segmentation import experiment, figures
from hw3.segmentation.dataset import split_by_patient, split_by_slice
from hw3.tables import Markdown, environment, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
environment(profile)

# %% [markdown]
# ## What the files hold
#
# Each slice is a TIFF of 256 × 256 pixels with three channels: the image before contrast agent, FLAIR, and the image after contrast agent. FLAIR darkens fluid, so that swollen tissue and tumour stand out; shown as red, green and blue, a tumour looks green. Where a sequence is missing, the publisher repeats FLAIR. Each slice has a mask: 255 where the annotator saw tumour, 0 elsewhere.
#
# Everything is checked before anything is trained: every image has its mask, sizes agree, masks hold only two values, every file can be decoded. All faults are reported at once. The decoded slices go into a cache on disk, so that the next start is quick.

# %% tags=["hide-input"]
real = records.load("../runs/lgg-slice.json")
tumour = dataset.native_masks.reshape(len(dataset), -1).any(axis=1)
counts = {part: real.results[part] for part in ("train", "validation", "test")}
table(
    ["", "LGG (real)", f"this page ({kind})"],
    [
        ["patients", real.data["patients"], len(np.unique(dataset.patient_ids))],
        ["slices", real.data["slices"], len(dataset)],
        [
            "slices with tumour",
            sum(c["slices_with_tumour"] for c in counts.values()),
            int(tumour.sum()),
        ],
        [
            "share of pixels that are tumour",
            sum(c["slices"] * (1 - c["accuracy_all_background"]) for c in counts.values())
            / real.data["slices"],
            float(dataset.native_masks.mean()),
        ],
    ],
)

# %% [markdown]
# {numref}`fig-1-1` shows five patients, evenly spaced through the list, each with the slice in which the tumour is largest.

# %% mystnb={"figure": {"name": "fig-1-1", "caption": "Five slices of the data set and their masks, not augmented. This page's data, simulated."}, "image": {"alt": "Five brain slices in false colour above five black and white masks. In each slice a bright blob, green, yellow or turquoise, inside the brain has the same place and outline as the white area of its mask."}}
largest = np.sort(dataset.largest_tumours(np.arange(len(dataset))))  # in the order of patients
five = largest[np.linspace(0, len(largest) - 1, 5).astype(int)]
figures.slices_with_masks(dataset, five)

# %% [markdown]
# ## Two ways to split
#
# The report splits **by slice**: all slices are shuffled and cut into train, validation and test. Neighbouring slices of one patient are much alike, and most test slices have a neighbour in the training set. Splitting **by patient** holds out whole patients, site by site.

# %% tags=["hide-input"]
rows = []
for name, split in (("by slice", split_by_slice), ("by patient", split_by_patient)):
    parts = split(dataset, profile.segmentation.seed)
    owners = {part: set(dataset.patient_ids[own]) for part, own in parts.items()}
    shared = len(owners["train"] & owners["test"])
    rows.append([name, *(len(own) for own in parts.values()), f"{shared} of {len(owners['test'])}"])
table(["split", "train", "validation", "test", "test patients also trained on"], rows)

# %% tags=["hide-input"]
split = real.data["split"]
Markdown(
    f"On the real data the split by slice gives {' / '.join(str(counts[p]['slices']) for p in counts)} slices, "
    f"and **{len(split['test'].keys() & split['train'].keys())} of {len(split['test'])}** patients with test slices "
    "are trained on too. A split is stored as the ids of its slices, in the record of every run."
)

# %% [markdown]
# ## What this section showed
#
# The data are checked before use and split by stored ids. Under the report's split patients sit on both sides, so a good test score there does not say how the model does on a new patient; {doc}`../q3/3_8_leakage` measures the difference.
