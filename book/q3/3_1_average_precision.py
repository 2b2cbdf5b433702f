# %% [markdown]
# # The curve under average precision
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# What exactly is the area that average precision measures? This section draws it for one group of signs of this page's own detector.

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

REPOSITORY, FOLDER, CONTENT = "", "book/q3", Path("/content")
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
from hw3 import profiles
from hw3.detection import ap, experiment, figures
from hw3.detection.dataset import GROUPS
from hw3.tables import Markdown, environment

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
ours, _ = experiment.run(
    profile.faster_rcnn, dataset, kind=kind, name="faster-rcnn", folder=profiles.runs_folder()
)
environment(profile)

# %% mystnb={"figure": {"name": "fig-3-1", "caption": "Precision against recall for mandatory signs at IoU 0.5, as measured (grey) and interpolated (blue). Average precision is the shaded area."}, "image": {"alt": "Precision starts at 1 and zigzags downwards as recall grows. A blue staircase lies on its peaks, falling only; the area below it is shaded."}}
matches = ap.match(ours.evidence["truths"], ours.evidence["detections"])
label = GROUPS.index("mandatory") + 1
precision, recall, _ = ap.precision_recall(matches, label, iou_threshold=0.5)
figures.precision_recall(precision, recall, ap.interpolate(precision))

# %% tags=["hide-input"]
exact = ap.average_precision(matches, label, interpolation="all")
levels = ap.average_precision(matches, label)
Markdown(
    f"The exact area is **{exact:.4f}**; the mean over 101 levels of recall, as COCO has it, is **{levels:.4f}**."
)

# %% [markdown]
# Precision zigzags because each false detection lowers it and each hit raises it again. The staircase takes, at each recall, the best precision that this or any higher recall still offers. At another IoU threshold other detections are hits, and the curve is another one.
#
# ## What this section showed
#
# Average precision is the area under a precision-recall staircase at one IoU threshold.
