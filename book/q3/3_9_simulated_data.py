# %% [markdown]
# # What are simulated roads worth?
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section takes a detector that has seen simulated roads only and scores it on all real test images.
# Then it goes on with a few real images, and with more, beside one that never saw a simulated road.

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
from pathlib import Path

from hw3 import records
from hw3.detection import comparison
from hw3.figures import learning_curves
from hw3.tables import (
    Markdown,
    by_amount,
    command,
    folded,
    hours,
    provenance,
    score,
    sources,
    table,
)

TITLES = {"simulated": "simulated roads first", "random": "real images alone"}
starts = {title: {} for title in TITLES.values()}
for path in Path("../runs/transfer").glob("*.json"):
    start, images = path.stem.split("-")
    starts[TITLES[start]][int(images)] = records.load(path)
first, alone = starts.values()
most = max(first)
simulated = records.load("../runs/simulated/start-faster-rcnn.json")
long = records.load("../runs/transfer_long/random-600.json")


# %% [markdown]
# ## The runs
#
# The detector is the small Faster R-CNN of the sample profile, a quarter as wide as VGG16. It begins with the weights that a longer run on simulated roads has left (kept in `hw3/detection`), or with random ones; ImageNet has no part in it. Then it sees crops of some of the 600 official training images. A larger draw of images holds each smaller one, and whatever their number, the number of crops is the same. Settings were fixed before the first of these runs, and each run was scored once, on the 300 official test images. The classes and sizes of simulated signs are as frequent as in GTSDB; these frequencies were counted on all its images, the test images included, which is a small leak. The drawings know nothing of its photographs.


# %% tags=["hide-input"]
largest = first[max(first)]
every = [run for runs in starts.values() for run in runs.values()]
Markdown(
    f"All runs but the start differ in the number of images and in the start alone; together they took {hours(every)} h of "
    f"training steps. The start had seen {simulated.samples:,} crops of simulated roads; every run then saw "
    f"{largest.samples:,} of real ones, but the one without real images, which was scored as it was."
)

# %% tags=["hide-input"]
sources(
    {"the start": simulated}
    | {f"{title}, {n}": run for title, runs in starts.items() for n, run in sorted(runs.items())}
)

# %% tags=["hide-input"]
folded("The command of the run with most images", command(largest))

# %% [markdown]
# ## How far the gap reaches
#
# {numref}`fig-3-14` shows what each number of real images gives.

# %% mystnb={"figure": {"name": "fig-3-14", "caption": "AP at IoU 0.5 on the real test images, with 95 % intervals over images, against the number of real images trained on. Filled points have seen as many crops of them, whatever their number; the hollow one has seen as many as the start and those together. One seed. Real data."}, "image": {"alt": "A line of points that starts high, without any real image, falls at ten images, and then rises with each larger number of images. Far below it, at the largest number, a single grey point: the detector that never saw a simulated road. A hollow grey one, beside the line's end and just below it, is such a detector after as many crops in all."}}
scores = {
    title: {n: (run.results["ap50"], run.results["ap50_interval"]) for n, run in runs.items()}
    for title, runs in (starts | {"real images alone, as many crops": {most: long}}).items()
}
learning_curves(scores, "real training images", "AP at IoU 0.5")

# %% tags=["hide-input"]
by_amount(scores, "real images")

# %% tags=["hide-input"]
rows = [[n, comparison.ahead(first[n], first[0])] for n in sorted(first)[1:]]
table(["real images", "AP at IoU 0.5: with them − without any"], rows)

# %% tags=["hide-input"]
found = comparison.recall_by_size(first[0])["all"]
Markdown(
    f"On simulated test roads the start reaches {score(simulated.results, 'ap50')}; on the real ones, without a single "
    f"real image, {score(first[0].results, 'ap50')}. At some score it finds {found:.0%} of the real signs."
)

# %% [markdown]
# ## What goes wrong on real roads
#
# Errors by kind: their number (wrong detections with a score of at least 0.5, and missed signs), and in brackets what they cost in AP at IoU 0.5 {cite}`bolya2020`.

# %% tags=["hide-input"]
comparison.errors_by_kind({f"{n} real images": first[n] for n in (0, 10, max(first))})

# %% [markdown]
# And AP at IoU 0.5 by group:

# %% tags=["hide-input"]
comparison.gain_by_group({f"{n} real images": first[n] for n in (0, 10)})

# %% tags=["hide-input"]
comparison.gain_by_group({f"{n} real images": first[n] for n in (0, max(first))})

# %% [markdown]
# ## As many crops of real images alone
#
# From random weights the same crops of real images give far less, but that run has had fewer steps in all. One more run from random weights sees as many crops of all 600 real images as the other saw of simulated roads and real images together:

# %% tags=["hide-input"]
provenance(long)

# %% tags=["hide-input"]
folded("Its command", command(long))

# %% tags=["hide-input"]
table(
    ["start", "crops: simulated", "real", "AP at IoU 0.5", "AP 0.50 to 0.95"],
    [
        [start, simulated_crops, run.samples, score(run.results, "ap50"), score(run.results, "ap")]
        for start, simulated_crops, run in (
            ("random", 0, alone[most]),
            ("random", 0, long),
            ("simulated roads", simulated.samples, first[most]),
        )
    ],
)

# %% tags=["hide-input"]
comparison.gain_by_group({"real images alone": long, "simulated roads first": first[most]})

# %% [markdown]
# ## What this section showed
#
# - **Simulated roads alone:** a detector that has never seen a photograph finds nearly all real signs at some score. What it does not know is what else there is on a road: its false alarms on background are what costs most.
# - **With real images:** the first ones remove most of these false alarms. Yet ten images are worse than none: the false alarms go, but more signs are missed or named wrongly, perhaps because crops of the same few signs come again and again. With thirty the score is no longer shown to be lower, and from a hundred on it is higher than without any. By group, most of the gain from all images is in “other”.
# - **Real images alone:** from random weights the same few crops of real images give far less. With as many crops as both kinds together, real images alone come close: what simulated roads then still add is not told from chance by these images. So with all real images at hand, simulated roads mostly replace steps. With few real images no detector was trained without them, so that what they are worth there is known only against none.
#
# ImageNet weights, from which the first real runs of {doc}`../q2/2_2_two_stage` start, are another way. Each point is one run.
