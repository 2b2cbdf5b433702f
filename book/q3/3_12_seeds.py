# %% [markdown]
# # Seeds and minutes
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# What does another seed change in a score, and what do more minutes of training add to it? This section shows the runs on the real photographs, those with several seeds beside those that ran longer.

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

# %%
import json
from pathlib import Path

from hw3 import records
from hw3.detection import comparison, figures
from hw3.tables import Markdown, provenance

RUNS = Path("../runs")
PATHS = {
    "Faster R-CNN, short": (
        "transfer/simulated-600",
        "gtsdb-frcnn-short-seed1",
        "gtsdb-frcnn-short-seed2",
    ),
    "Faster R-CNN, first": ("gtsdb-frcnn-first-run",),
    "Faster R-CNN, second": ("gtsdb-frcnn-second-run",),
    "Faster R-CNN, third": ("gtsdb-frcnn-third-run",),
    "Faster R-CNN, fourth": ("gtsdb-frcnn-fourth-run",),
    "Faster R-CNN, fifth": ("gtsdb-frcnn",),
    "Faster R-CNN, ResNet50": ("gtsdb-frcnn-resnet50",),
    "SSD300, first": ("gtsdb-ssd-first-run",),
    "SSD300, second": ("gtsdb-ssd-second-run",),
    "SSD300, third": (
        "gtsdb-ssd-third-run",
        "gtsdb-ssd-third-run-seed1",
        "gtsdb-ssd-third-run-seed2",
    ),
    "SSD300, fourth": ("gtsdb-ssd-tiles",),
}
recipes = {
    name: [records.load(RUNS / f"{path}.json") for path in paths] for name, paths in PATHS.items()
}


# %% [markdown]
# ## The runs
#
# All are on the official split: 600 images to train on, 300 to test on. {doc}`../q2/2_2_two_stage` and {doc}`../q2/2_3_one_stage` say how their recipes differ; “short” is the small Faster R-CNN of {doc}`3_9_simulated_data`. It and the third SSD300 were run with three seeds. Between the runs of one recipe nothing else differs: the weights at the start are the same, and so are the false alarms that SSD300's raise (searched for once), so that a seed decides which crops are seen, in which order and in which light, and not the start.

# %% tags=["hide-input"]
Markdown(
    "\n".join(
        f"- {name}: {provenance(runs[-1])}" for name, runs in recipes.items() if len(runs) > 1
    )
)

# %% tags=["hide-input"]
comparison.over_seeds(recipes)

# %% [markdown]
# Minutes are those of the run alone: the fifth Faster R-CNN goes on from the fourth, and the fourth SSD300 from the third. The deviation is the standard deviation over seeds; the margin is half of the 95 % interval over images, about two such deviations. The first says what another training run would change, the second what another test set would.
#
# ## AP against minutes
#
# In {numref}`fig-3-16` a point is a run, with the minutes of the run that it goes on from, scored once at its end, with the learning rate already down; a run is not followed on its way. Dotted lines are published results on the official split {cite}`arcos2018`, which are means over three groups, without “other”; ours are over four.

# %% mystnb={"figure": {"name": "fig-3-16", "caption": "AP at IoU 0.5 on the 300 official test images against minutes of training steps on real crops, times the cores that took them. A line joins runs that differ in their seed alone; dotted lines are published results. Real data."}, "image": {"alt": "Points in two colours over minutes. Faster R-CNN's fourth and fifth run lie highest, the fifth at the upper dotted line. Three short runs lie close together at a few minutes. Its first and second run, which took longest, lie lower. Faster R-CNN with ResNet50 lies lowest of all. SSD300's runs rise from the first to the last, and a line joins the three seeds of the third, which lie further apart than the short runs of Faster R-CNN."}}
published = json.loads(Path("../published.json").read_text())["detection"]
lines = {own["what"].removesuffix(", 3 groups, official split"): own["map50"] for own in published}
before = {
    name: recipes[earlier][0]
    for name, earlier in {
        "Faster R-CNN, fifth": "Faster R-CNN, fourth",
        "SSD300, fourth": "SSD300, third",
    }.items()
}
figures.minutes(recipes, before, lines)

# %% tags=["hide-input"]
starts = [
    records.load(RUNS / f"simulated/start-{name}.json")
    for name in ("faster-rcnn", "faster-rcnn-resnet50", "ssd300")
]
searched = [recipes[name][0] for name in ("Faster R-CNN, fourth", "SSD300, third")]
looks = [
    len(run.data["split"]["train"]) * run.seconds_per_image * run.hardware["count"] / 60
    for run in searched
]
Markdown(
    "The minutes are those of steps on real crops. Not in them are: ImageNet's, for the wide networks; those of "
    f"the start on simulated roads, {starts[0].device_minutes:.0f} for Faster R-CNN, {starts[1].device_minutes:.0f} for the one with ResNet50 and {starts[2].device_minutes:.0f} for SSD300; and each "
    f"search for false alarms in the training images, about {looks[0]:.0f} and {looks[1]:.0f}. Other work on the same machine made some runs longer than they need be."
)

# %% [markdown]
# ## What this section showed
#
# From the same start, another seed hardly changed the score of the short Faster R-CNN. It changed that of SSD300 about as much as another test set would, and the first seed, from whose weights SSD300's last run goes on, happened to be the best of the three. A single run of SSD300 is therefore to be read with both kinds of chance. Minutes alone do not order the runs: the first and the second Faster R-CNN took longer than the third and lie far below it, and the narrow network that has seen simulated roads reaches the wide one's score in no more time. ResNet50 took more minutes than VGG16's fourth run and stays far below it, for a reason that {doc}`../q2/2_2_two_stage` shows. What the minutes are spent on matters: harder proposals, more crops, the detector's own false alarms.
#
# Two recipes have several seeds, and all seeds share one start. The last runs have one.
