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

# %% tags=["hide-input"]
import json
from functools import partial
from pathlib import Path

from hw3 import records
from hw3.detection import ap, comparison, experiment, figures
from hw3.detection.ensemble import averaged
from hw3.tables import Markdown, score, sources, table, with_interval

RUNS = Path("../runs")
SHORT = ("transfer/simulated-600", "gtsdb-frcnn-short-seed1", "gtsdb-frcnn-short-seed2")

recipes = {
    "Faster R-CNN, short": [records.load(RUNS / f"{name}.json") for name in SHORT],
    "Faster R-CNN, fourth": records.load_seeds(RUNS / "gtsdb-frcnn-fourth-run.json"),
    "Faster R-CNN, fifth": records.load_seeds(RUNS / "gtsdb-frcnn.json"),
    "Faster R-CNN, longer": records.load_seeds(RUNS / "gtsdb-frcnn-long.json"),
    "Faster R-CNN, ResNet50": records.load_seeds(RUNS / "gtsdb-frcnn-resnet50.json"),
    "SSD300, third": records.load_seeds(RUNS / "gtsdb-ssd-third-run.json"),
    "SSD300, fourth": records.load_seeds(RUNS / "gtsdb-ssd-tiles.json"),
    "SSD300, longer": records.load_seeds(RUNS / "gtsdb-ssd-long.json"),
}
known = [records.load(path) for path in sorted(RUNS.glob("gtsdb-*.json"))]
SINGLE = {
    "Faster R-CNN, first": "gtsdb-frcnn-first-run",
    "Faster R-CNN, second": "gtsdb-frcnn-second-run",
    "Faster R-CNN, third": "gtsdb-frcnn-third-run",
    "Faster R-CNN, first with ResNet50": "gtsdb-frcnn-resnet50-first-run",
    "SSD300, first": "gtsdb-ssd-first-run",
    "SSD300, second": "gtsdb-ssd-second-run",
}
single = {name: [records.load(RUNS / f"{path}.json")] for name, path in SINGLE.items()}

# %% [markdown]
# ## The runs
#
# All are on the official split: 600 images to train on, 300 to test on. {doc}`../q2/2_2_two_stage` and {doc}`../q2/2_3_one_stage` say how their recipes differ; “short” is the small Faster R-CNN of {doc}`3_9_simulated_data`. Six recipes were run with three seeds, and the longer ones, each the third in a chain, with two. The weights at the start are the same for each seed, so that a seed decides which crops are seen, in which order and in which light, and what follows from that: the fifth Faster R-CNN, the fourth SSD300 and the longer runs go on from the run of their own seed, and learn from its false alarms.

# %% tags=["hide-input"]
sources({f"{name}, seed {run.seed}": run for name, runs in recipes.items() for run in runs})

# %% tags=["hide-input"]
comparison.over_seeds(recipes, known)

# %% tags=["hide-input"]
comparison.over_seeds(single, known)

# %% [markdown]
# Crops and minutes include those of the runs that a run goes on from. The deviation is the standard deviation over seeds; the margin is half of the 95 % interval over images, about two such deviations. The first says what another training run would change, the second what another test set would. A deviation of three runs is itself rough: the true one may well be half as large, or several times as large; one of two says next to nothing.
#
# ## Random splits
#
# The report splits its images at random. On such a split a seed decides also which images are tested, so that its deviation holds some of both kinds of chance. The last two recipes of each detector with VGG16, and that of ResNet50, were run on such splits:

# %% tags=["hide-input"]
random_splits = {
    "Faster R-CNN, fifth": records.load_seeds(RUNS / "gtsdb-frcnn-random80.json"),
    "Faster R-CNN, longer": records.load_seeds(RUNS / "gtsdb-frcnn-long-random80.json"),
    "Faster R-CNN, ResNet50": records.load_seeds(RUNS / "gtsdb-frcnn-resnet50-random80.json"),
    "SSD300, fourth": records.load_seeds(RUNS / "gtsdb-ssd-tiles-random80.json"),
    "SSD300, longer": records.load_seeds(RUNS / "gtsdb-ssd-long-random80.json"),
}
comparison.over_seeds(random_splits, known)

# %% [markdown]
# {doc}`../q2/2_2_two_stage` and {doc}`../q2/2_3_one_stage` list those with VGG16 beside the official split.
#
# ## AP against minutes
#
# In {numref}`fig-3-16` a point is a run, with the minutes of the runs that it goes on from, scored once at its end, with the learning rate already down; a run is not followed on its way. Dotted lines are published results on the official split {cite}`arcos2018`, which are means over three groups, without “other”; ours are over four.

# %% mystnb={"figure": {"name": "fig-3-16", "caption": "AP at IoU 0.5 on the 300 official test images against minutes of training steps on real crops, times the cores that took them. A line joins the seeds of one recipe on one processor; squares are runs on the faster of two; dotted lines are published results. Real data."}, "image": {"alt": "Points in two colours over minutes. Faster R-CNN's longer runs lie highest, above the upper dotted line; its fifth runs lie at that line, its fourth and those with ResNet50 just below. Three short runs lie at the lower dotted line after a few minutes. The first run, which took longest, and the second lie lower, and the first with ResNet50 lies lowest of all. SSD300's runs rise from the first to the fourth, whose three seeds lie close together below the lower dotted line; those of the third lie further apart, and the two longer ones lie between the dotted lines."}}
published = json.loads(Path("../published.json").read_text())["detection"]
lines = {own["what"].removesuffix(", 3 groups, official split"): own["map50"] for own in published}
figures.minutes(recipes | single, lines, known)

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
    "A run on the AVX512 processor, in one thread, took far fewer core minutes than one on the other, in two. The minutes are those of steps on real crops. Not in them are: ImageNet's, for the wide networks; those of "
    f"the start on simulated roads, {starts[0].device_minutes:.0f} for Faster R-CNN, {starts[1].device_minutes:.0f} for the one with ResNet50 and {starts[2].device_minutes:.0f} for SSD300; and each "
    f"search for false alarms in the training images, about {looks[0]:.0f} and {looks[1]:.0f}. Other work on the same machine made some runs longer than they need be."
)

# %% [markdown]
# ## Seeds together
#
# Runs that differ in their seed alone make different errors. Their boxes can be averaged: boxes of one group that overlap with IoU above 0.5 become their mean, and its score is their mean score times the share of the runs that found it (weighted boxes fusion {cite}`solovyev2021`). Nothing is trained for it, and nothing was chosen on these images; but each photograph is looked at by each of them. Of the longer runs there are two.

# %% tags=["hide-input"]
together = {
    name: averaged(recipes[name])
    for name in (
        "Faster R-CNN, fifth",
        "Faster R-CNN, longer",
        "Faster R-CNN, ResNet50",
        "SSD300, fourth",
        "SSD300, longer",
    )
}
rows = []
for name, fused in together.items():
    results = experiment.derive_results(fused)
    alone = [
        sum(run.results[key] for run in recipes[name]) / len(recipes[name])
        for key in ("ap50", "ap")
    ]
    found = (score(results, own) for own in ("ap50", "ap"))
    alone = (f"{own:.3f}" for own in alone)
    rows.append([name, *alone, *found, comparison.without_other(fused)])
table(
    [
        "recipe",
        "one alone, mean: AP at IoU 0.5",
        "AP 0.50 to 0.95",
        "averaged: AP at IoU 0.5",
        "AP 0.50 to 0.95",
        "AP at IoU 0.5, three groups",
    ],
    rows,
)

# %% [markdown]
# The average against each of its runs, on the same images:

# %% tags=["hide-input"]
over_all = partial(ap.mean_average_precision, iou_threshold=None)


def matched(run: records.RunRecord) -> ap.Matches:
    return ap.match(run.evidence["truths"], run.evidence["detections"])


rows = []
for name, averages in together.items():
    fused = matched(averages)
    for run in recipes[name]:
        alone, row = matched(run), [name, f"averaged − seed {run.seed}"]
        for statistic in (ap.mean_average_precision, over_all):
            gain = float(statistic(fused)) - float(statistic(alone))
            interval = ap.bootstrap(fused, statistic, against=alone, resamples=400)
            row.append(with_interval(gain, interval, "+.3f"))
        rows.append(row)
table(["recipe", "difference", "AP at IoU 0.5", "AP 0.50 to 0.95"], rows)

# %% [markdown]
# ## The same seed on another processor
#
# Three of the runs were made twice, with the same seed, data and start, on two kinds of processor. Their sums are rounded in another order, which training then makes larger step by step:

# %% tags=["hide-input"]
TWICE = (
    "gtsdb-frcnn-fourth-run-random80",
    "gtsdb-ssd-third-run-seed1",
    "gtsdb-ssd-third-run-seed2",
)
twice = {
    name: [records.load(RUNS / f"{folder}{name}.json") for folder in ("other_processor/", "")]
    for name in TWICE
}
table(
    ["run", *(run.hardware["device"] for run in twice[TWICE[0]]), "difference"],
    [
        [
            name,
            *(score(run.results, "ap50") for run in pair),
            f"{pair[1].results['ap50'] - pair[0].results['ap50']:+.3f}",
        ]
        for name, pair in twice.items()
    ],
)

# %% [markdown]
# ## What this section showed
#
# - **Seeds:** from the same start, another seed changes the score of each later recipe by less than another test set would.
# - **Minutes:** alone they do not order the runs. The first Faster R-CNN took longest of all and lies far below the third, and the first with ResNet50 took longer than the second, which works. ResNet50, with all its channels, takes twice the minutes of VGG16's fifth run on the same processor and does not pass it. The narrow networks that start from simulated roads reach about the score of the best wide one from ImageNet weights in fewer; whether they save time depends on whether the minutes of the start are counted.
# - **What they are spent on** matters: harder proposals, more crops, the detector's own false alarms, features of a size that the layers behind them can bear. Of the runs that go on from one another, the longer ones score highest, with both detectors.
# - **Runs averaged** score higher than any of them where boxes have to fit well. At IoU 0.5 SSD300's fourth gains most; the others gain little, and not always more than chance in the images could.
#
# All seeds share one start on simulated roads; what another start would change is not known. The same seed on another processor is, as it were, another seed.
