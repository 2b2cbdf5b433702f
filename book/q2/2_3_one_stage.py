# %% [markdown]
# # One stage: SSD300
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section trains SSD300 and scores it by threshold, group and size.
# It also shows why the report's SSD300 could not have found most signs.

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

# %%
import numpy as np

from hw3 import profiles, records
from hw3.detection import anchors, experiment, figures
from hw3.tables import environment, provenance, table

profile = profiles.active()
settings = profile.ssd300
dataset, kind = experiment.prepare(profile)
environment(profile)

# %% [markdown]
# ## How it works
#
# SSD {cite}`liu2016` has no proposals. VGG16 extracts features (it does not classify the detections, as the report has it); convolutional heads on six feature maps then classify and move several thousand default boxes, all at once.
#
# SSD300 sees 300 × 300 pixels. The report shrinks the whole image to that size, and a sign of 30 pixels becomes one of 7. The alternative keeps native pixels: the image is cut into overlapping tiles of 300 pixels, and their detections are merged. How many signs can a default box cover at all, at IoU 0.5 or more?

# %% tags=["hide-input"]
boxes = np.concatenate(dataset.boxes_xyxy)
size = dataset.image_sizes[0]
ssd = experiment.build(settings, "random")
whole, tiled = (anchors.anchor_coverage(ssd, size, boxes, tiled=way) for way in (False, True))
table(
    ["share of this page's signs that some default box covers", *whole],
    [
        ["whole image made 300 × 300", *whole.values()],
        ["native tiles of 300 pixels", *tiled.values()],
    ],
)

# %% [markdown]
# ## Training
#
# The call finds the finished run, goes on where an interrupted one stopped, or trains.

# %%
ours, model = experiment.run(
    settings, dataset, kind=kind, name="ssd300", folder=profiles.runs_folder()
)
provenance(ours)

# %% tags=["hide-input"]
real = records.load("../runs/gtsdb-ssd-first-run.json")
provenance(real)

# %% tags=["hide-input"]
runs = {"Real data (GTSDB)": real, f"This page ({kind})": ours}
table(
    [
        "run",
        "start",
        "crops or images seen",
        "last loss",
        "test images",
        "AP at IoU 0.5",
        "AP, mean over IoU 0.50 to 0.95",
    ],
    [
        [
            title,
            record.weights["start"],
            sum(entry["samples"] for entry in record.history),
            record.history[-1]["loss"],
            len(record.data["split"]["test"]),
            record.results["ap50"],
            record.results["ap"],
        ]
        for title, record in runs.items()
    ],
)

# %% [markdown]
# ## By threshold, group and size
#
# Bands and bars are 95 % intervals over images.

# %% mystnb={"figure": {"name": "fig-2-12", "caption": "SSD300: mean AP over the four groups against the IoU threshold, with 95 % intervals over images."}, "image": {"alt": "Line chart. For each run, mean AP stays level at low IoU thresholds and falls steeply towards 0.95."}}
figures.ap_by_threshold(runs)

# %% mystnb={"figure": {"name": "fig-2-13", "caption": "SSD300: AP at IoU 0.5 of each group."}, "image": {"alt": "Two panels, real data and this page's run, each with four points and their intervals, one for each sign group."}}
figures.ap_by_group(runs)

# %% mystnb={"figure": {"name": "fig-2-14", "caption": "SSD300: mean AP at IoU 0.5 of each size."}, "image": {"alt": "Two panels, real data and this page's run, each with three points and their intervals, for small, medium and large signs."}}
figures.ap_by_size(runs)

# %% [markdown]
# ## What it sees
#
# {numref}`fig-2-15` shows six test images with signs, evenly spaced through the list; detections with a score of at least 0.5 are drawn.

# %% mystnb={"figure": {"name": "fig-2-15", "caption": "SSD300: true boxes (green) and predicted ones (red, with group and score) in six test images. Simulated data, unless this page was run on the real set."}, "image": {"alt": "Six road scenes. Most signs carry a green and a red box that nearly coincide, with the predicted group and score written above."}}
figures.boxes(dataset, experiment.example_images(ours), ours.evidence["detections"])

# %% [markdown]
# ## What this section showed
#
# On native tiles every sign has a default box that can learn it. On the whole image made small, most have none, and no amount of training can change that.
