# %% [markdown]
# # Comparison
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section sets the two detectors side by side and tests the report's three claims.
# Each claim gets an interval from resampled images, and may turn out undecided.

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
import json
from pathlib import Path

from hw3 import profiles, records
from hw3.detection import comparison, experiment, figures
from hw3.tables import Markdown, environment, score, sources, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
folder = profiles.runs_folder()
two_stage, _ = experiment.run(
    profile.faster_rcnn, dataset, kind=kind, name="faster-rcnn", folder=folder
)
one_stage, _ = experiment.run(profile.ssd300, dataset, kind=kind, name="ssd300", folder=folder)
real_two, resnet50, real_one = (
    records.load(f"../runs/gtsdb-{name}.json") for name in ("frcnn", "frcnn-resnet50", "ssd-tiles")
)
environment(profile)

# %% [markdown]
# ## One table
#
# The report fine-tuned from COCO weights, on a random split. Our runs on the real photographs start from weights that simulated roads have left, see native crops, and are tested on the competition's own images. This page's runs train small networks on simulated roads: they show how a comparison is made, and say nothing about which detector is better on real roads. Minutes are those of training steps, times the cores that took them.

# %% tags=["hide-input"]
report = json.loads(Path("../published.json").read_text())["original_report"]["detection"]
runs = {
    "two-stage, real data": real_two,
    "two-stage with ResNet50, real data": resnet50,
    "one-stage, real data": real_one,
    f"two-stage, this page ({kind})": two_stage,
    f"one-stage, this page ({kind})": one_stage,
}
rows = [
    [
        f"{name.replace('_', '-')}, report (corrected)",
        report[name]["corrected_over_4_classes"],
        None,
        None,
        None,
    ]
    for name in ("two_stage", "one_stage")
]
rows += [
    [
        title,
        score(record.results, "ap50"),
        score(record.results, "ap"),
        record.samples,
        f"{record.device_minutes:.1f}",
    ]
    for title, record in runs.items()
]
table(
    [
        "detector",
        "AP at IoU 0.5",
        "AP 0.50 to 0.95",
        "images or crops seen",
        "core minutes",
    ],
    rows,
)

# %% tags=["hide-input"]
before = [records.load(f"../runs/gtsdb-{name}-run.json") for name in ("frcnn-fourth", "ssd-third")]
Markdown(
    "But for the one with ResNet50, each run on real data goes on from another ({doc}`2_2_two_stage`, {doc}`2_3_one_stage`), whose "
    f"{' and '.join(f'{run.device_minutes:.1f}' for run in before)} core minutes come on top."
)

# %% tags=["hide-input"]
sources(runs)

# %% mystnb={"figure": {"name": "fig-2-16", "caption": "Both detectors on the official test images: mean AP against the IoU threshold, and AP at IoU 0.5 of each size, with 95 % intervals over images. Real data."}, "image": {"alt": "Two panels. On the left, two falling curves, one of each detector, each in a band. On the right, three pairs of points with their intervals, for small, medium and large signs."}}
figures.compared({"Faster R-CNN": real_two, "SSD300": real_one})

# %% [markdown]
# ## Speed and memory
#
# Measured apart from the runs, with nothing else on the machine: each detector looks at one road of the size of the real photographs. The peak is the memory that this adds to the process that holds the detector.

# %% tags=["hide-input"]
measured = json.loads(Path("../detector_costs.json").read_text())
columns = {
    "parameters": "parameters",
    "weights_megabytes": "weights, MB",
    "peak_megabytes": "peak memory per image, MB",
    "seconds": "seconds per image",
}
table(
    ["detector", *columns.values()],
    [[row["detector"], *(f"{row[key]:,}" for key in columns)] for row in measured["detectors"]],
)

# %% tags=["hide-input"]
hardware, versions = measured["hardware"], measured["versions"]
width, height = measured["image"]
Markdown(
    f"Simulated road of {width} × {height} pixels, random weights (the arithmetic is the same), "
    f"median of {measured['looks']} looks after a first one; {hardware['count']} threads of a "
    f"{hardware['device']}; torch {versions['torch']}; commit `{measured['commit'][:10]}`."
)

# %% [markdown]
# On one image made small SSD300 is fastest. On native tiles it is slower than Faster R-CNN, since tiles overlap, and each is looked at whole: one stage is not always the quick way.

# %% [markdown]
# ## The report's three claims
#
# The report concludes that two stages are better, that the two-stage detector is nearly independent of size, and that the one-stage detector finds small and large signs less often than medium ones. Each claim becomes a difference of AP at IoU 0.5, with an interval from drawing the same test images again and again, with replacement, for both sides of the difference:
#
# - “Better” and “less often” hold if the interval lies above 0, and fail if it lies below.
# - “Finds less often” is also taken at its word, as the share of signs that some detection finds, whatever its score.
# - “Nearly independent” is tested on the gap between the size that is found best and the one found worst: it holds if the interval ends within 0.05, and fails if it begins beyond. That gap cannot be negative, so that chance alone widens it a little.
#
# Otherwise these data do not decide.

# %% tags=["hide-input"]
table(
    ["claim", "difference of", "real data", "verdict", f"this page ({kind})", "verdict"],
    comparison.claims([(real_two, real_one), (two_stage, one_stage)]),
)

# %% [markdown]
# ## The claims over seeds
#
# Another training run would give other numbers. Both detectors' recipes, with the runs that they go on from, were trained on the real photographs with three seeds each. Each claim is tested once for each pair of runs with the same seed, by the same differences as above; the first pair is the one above. The pairs share their test images, so that they confirm one another about training, not about images; and of so many intervals one or the other misses the truth by chance.

# %% tags=["hide-input"]
pairs = [
    tuple(records.load(f"../runs/gtsdb-{name}{ending}.json") for name in ("frcnn", "ssd-tiles"))
    for ending in ("", "-seed1", "-seed2")
]
table(
    ["claim", *(f"seed {two.seed}" for two, _ in pairs)],
    [
        [claim, *map("{}: {}".format, cells[::2], cells[1::2])]
        for claim, _, *cells in comparison.claims(pairs)
    ],
)

# %% [markdown]
# ## After longer training
#
# Some of these runs went on with many more crops ({doc}`2_2_two_stage`, {doc}`2_3_one_stage`), each after its detector's last recipe; so did the runs on random splits. What the first claim is about, before and after:


# %% tags=["hide-input"]
def by_split_and_seed(name: str) -> dict[tuple[str, int], records.RunRecord]:
    """The runs of a recipe, on the official split and on random ones."""
    paths = [f"../runs/gtsdb-{name}{ending}.json" for ending in ("", "-random80")]
    runs = [run for path in paths for run in records.load_seeds(path)]
    return {(run.settings["split"], run.seed): run for run in runs}


fifth, fourth, longer_two, longer_one = map(
    by_split_and_seed, ("frcnn", "ssd-tiles", "frcnn-long", "ssd-long")
)
longer = {own: (longer_two[own], longer_one[own]) for own in longer_two}
rows = []
for own, pair in longer.items():
    gaps = comparison.ahead(fifth[own], fourth[own]), comparison.ahead(*pair)
    rows.append(["{}, {}".format(*own), len(pair[0].data["split"]["test"]), *gaps])
table(["split, seed", "test images", "two-stage − one-stage", "after longer training"], rows)

# %% [markdown]
# All claims, after longer training, on the official test images:

# %% tags=["hide-input"]
official = {f"seed {seed}": pair for (split, seed), pair in longer.items() if split == "official"}
table(
    ["claim", *official],
    [
        [claim, *map("{}: {}".format, cells[::2], cells[1::2])]
        for claim, _, *cells in comparison.claims(list(official.values()))
    ],
)

# %% tags=["hide-input"]
sources(
    {
        f"{split}, seed {seed}, {name}": run
        for (split, seed), pair in longer.items()
        for name, run in zip(("two stages", "one stage"), pair, strict=True)
    }
)

# %% [markdown]
# ## What this section showed
#
# A difference between two detectors means something only beside its interval. On real data, so far as these recipes go, which differ in more than the number of stages:
#
# - **Two stages are better:** on the official test images this holds with each of three seeds, and after longer training of both, when the difference is about half as large. On random splits it was about as large; after longer training it is smaller, and told from chance with one of three. So half of the gap or more lay in how the detectors were trained.
# - **Two stages are nearly independent of size:** this is not decided. They, too, find small signs less well than medium ones; whether by more than 0.05 is what these images leave open.
# - **One stage finds small signs less often:** its AP on them is lower than on medium ones with each seed; by the share of signs found at any score this holds with some of the runs only.
# - **One stage finds large signs less often:** by the share found this holds with the first seed, which AP does not show.
#
# The runs compared first are the fifth of the two-stage detector and the fourth of the one-stage one, each mended after the errors of the one before had been counted on these same images ({doc}`2_2_two_stage`, {doc}`2_3_one_stage`). {doc}`../q3/3_12_seeds` says how much scores vary over seeds.
