# %% [markdown]
# # Where detectors err
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section sorts the errors of both detectors into six kinds, and says what each kind costs.
# Then it shows the images with the most errors.

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
from hw3 import profiles, records
from hw3.detection import comparison, experiment, figures
from hw3.detection.error_types import KINDS, costs, find_errors, worst_images
from hw3.tables import Markdown, environment, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
folder = profiles.runs_folder()
two_stage, _ = experiment.run(
    profile.faster_rcnn, dataset, kind=kind, name="faster-rcnn", folder=folder
)
one_stage, _ = experiment.run(profile.ssd300, dataset, kind=kind, name="ssd300", folder=folder)
panels = {
    "Real data (GTSDB)": {
        "Faster R-CNN": records.load("../runs/gtsdb-frcnn.json"),
        "SSD300": records.load("../runs/gtsdb-ssd-tiles.json"),
    },
    f"This page ({kind})": {"Faster R-CNN": two_stage, "SSD300": one_stage},
}
environment(profile)

# %% [markdown]
# ## What each kind costs
#
# The kinds are those of TIDE {cite}`bolya2020`. A detection that found no sign of its group at IoU 0.5 is wrong in one of five ways; a sign that no detection found, and that none of the wrong ones nearly found, is missed:

# %% tags=["hide-input"]
table(["kind", "which is"], [*KINDS.items()])

# %% [markdown]
# A kind costs as much as AP at IoU 0.5 would gain if its errors were mended and all others stayed. The costs do not add up to what AP lacks: one error can hide another.

# %% mystnb={"figure": {"name": "fig-3-2", "caption": "AP at IoU 0.5 that each kind of error costs the two detectors, on real and on simulated roads."}, "image": {"alt": "Two panels of horizontal bars, real data and this page's runs, with two bars for each of six kinds of error: one of Faster R-CNN, one of SSD300. Each bar carries its value."}}
found = {
    (title, name): (matches, find_errors(matches))
    for title, detectors in panels.items()
    for name, record in detectors.items()
    for matches in [comparison.matches_of(record)]
}
lost = {
    title: {name: costs(*found[title, name]) for name in detectors}
    for title, detectors in panels.items()
}
figures.error_costs(lost)

# %% tags=["hide-input"]
sentences = []
for title, detectors in lost.items():
    for name, own in detectors.items():
        worst = max(own, key=own.get)
        sentences.append(f"{name}, {title}: **{worst}** errors cost most ({own[worst]:.3f}).")
Markdown("\n".join(f"- {sentence}" for sentence in sentences))

# %% [markdown]
# In numbers, as in {doc}`../q2/2_2_two_stage` and {doc}`../q2/2_3_one_stage`: wrong detections with a score of at least 0.5 and missed signs, and in brackets the cost. The cost counts detections of every score, so that a kind without confident errors can have one.

# %% tags=["hide-input"]
comparison.errors_by_kind(
    {
        f"{name}, {title}": record
        for title, detectors in panels.items()
        for name, record in detectors.items()
    }
)

# %% [markdown]
# ## The worst images
#
# Images with the largest sum of the scores of their wrong detections, a missed sign counting as 1. Detections with a score of at least 0.5 are drawn.

# %% mystnb={"figure": {"name": "fig-3-3", "caption": "Faster R-CNN: the twelve test images with the most errors, or fewer if no more have any. True boxes green, predicted ones orange. This page's data, simulated."}, "image": {"alt": "Road scenes in two columns, those with the most errors first: orange boxes with a group and a score where no sign is annotated, beside signs, or on signs of another group."}}
title = f"This page ({kind})"
worst = worst_images(*found[title, "Faster R-CNN"])
figures.boxes(dataset, worst, two_stage.evidence["detections"])

# %% mystnb={"figure": {"name": "fig-3-4", "caption": "SSD300: the twelve test images with the most errors, drawn in the same way."}, "image": {"alt": "Road scenes in two columns, those with the most errors first: green boxes without an orange one are signs without a detection of 0.5 or more, orange ones without a green one are false alarms."}}
worst = worst_images(*found[title, "SSD300"])
figures.boxes(dataset, worst, one_stage.evidence["detections"])

# %% [markdown]
# The real photographs are not shown here, only their numbers in the published set:

# %% tags=["hide-input"]
table(
    ["detector", "the twelve worst real test images"],
    [
        [name, ", ".join(f"{image:05d}" for image in worst_images(*found[title, name]))]
        for title, name in found
        if title.startswith("Real")
    ],
)

# %% [markdown]
# ## What this section showed

# %% tags=["hide-input"]
real_lost, real = lost["Real data (GTSDB)"], panels["Real data (GTSDB)"]
parts = []
for name, own in real_lost.items():
    first, second = sorted(own, key=own.get, reverse=True)[:2]
    lacks = 1 - real[name].results["ap50"]
    parts.append(
        f"{name} lacks {lacks:.3f} of average precision; {first} errors cost {own[first]:.3f}, {second} errors {own[second]:.3f}"
    )
Markdown(f"On real roads {'; '.join(parts)}. The other kinds cost less.")
