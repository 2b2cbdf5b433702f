# %% [markdown]
# # What the report guessed
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# The report ends with two guesses: balancing the four groups, or a detector for each of them, could help.
# This section tries both, and asks one thing more: what are simulated roads and brains worth as a start?

# %% tags=["hide-input"]
# Set-up: gets the package on Google Colab; elsewhere it only goes to this notebook's folder.
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, is_zipfile

while "google.colab" in sys.modules and not Path("/content/hw3/colab.py").exists():
    from google.colab import files

    print("Choose hw3-colab.zip as `make colab` writes it; no other file will do.")
    for bundle in filter(is_zipfile, map(BytesIO, files.upload().values())):
        ZipFile(bundle).extractall("/content")
from hw3 import colab

colab.set_up("book/q3")

# %% tags=["hide-input"]
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt

import beyond
from hw3 import plots, records
from hw3.detection import ap
from hw3.detection.gtsdb import GROUPS
from hw3.tables import sources, table, with_interval

RUNS = Path("../runs")

# %% [markdown]
# ## Balance, and a detector for each group
#
# All detectors here are small Faster R-CNN that start from simulated roads and are tested on the official images. *As they come*: half of the crops lie around a sign, any sign. *Balanced*: a group is drawn first, each equally often, then one of its signs; all else is the same. *One for each*: four detectors, each of them with as many crops as the first; for each of them the signs of the other groups are background. *Longer*: one detector for all groups, whose fewer but larger crops hold more pixels than those of the four together; fewer of them lie around a sign.

# %%
single = {
    "as they come": records.load(RUNS / "transfer/simulated-600.json"),
    "balanced": records.load(RUNS / "balance/balanced-600.json"),
    "longer": records.load(RUNS / "gtsdb-frcnn-fourth-run.json"),
}
each = {group: records.load(RUNS / f"balance/only-{group}.json") for group in GROUPS}
detections = [
    found
    for label, run in enumerate(each.values(), 1)
    for found in run.evidence["detections"]
    if found["category_id"] == label
]
matches = {title: beyond.matches_of(run) for title, run in single.items()}
matches["one for each"] = ap.match(single["longer"].evidence["truths"], detections)

# %%
measures = {own: partial(ap.average_precision, label=n) for n, own in enumerate(GROUPS, 1)}
measures["mean"] = ap.mean_average_precision
compared = [
    ("balanced", "as they come"),
    ("one for each", "as they come"),
    ("one for each", "longer"),
]
rows = []
for group, measure in measures.items():
    scores = {title: float(measure(own)) for title, own in matches.items()}
    cells = []
    for first, second in compared:
        cells.append(
            with_interval(*ap.pooled([matches[first]], measure, [matches[second]]), "+.3f")
        )
    rows.append([group, scores["as they come"], *cells])
header = [f"{first} − {second}" for first, second in compared]
table(["AP at IoU 0.5", "as they come", *header], rows)


# %% [markdown]
# **Balancing is not shown to help**: mandatory signs, of which there are fewest, gain, and the group “other”, which mixes shapes and colours, loses. **A detector for each group does help**, and again mandatory signs most, if each is trained on as many crops as the single one. But the four look at each photograph four times, and a single detector that was trained longer is not told apart from them in the mean. Each is one run, and the intervals, over images, do not include the chance of a seed.
#
# ## Simulated data as a start
#
# The same small detector, and the small U-Net of {doc}`3_5_leakage`, were trained on real data in growing amounts: once after simulated data, and once from random weights. A larger draw holds each smaller one, and whatever the amount, the number of crops is the same. At 0, the networks have seen simulated data alone.


# %%
def loaded(pattern):
    return [records.load(path) for path in sorted(RUNS.glob(pattern))]


def curve(runs, score, part=None):
    """Scores with their intervals by the number of images or patients trained on."""
    results = {len(run.data["split"]["train"]): run.results for run in runs}
    results = {amount: own[part] if part else own for amount, own in results.items()}
    return {amount: (own[score], own[f"{score}_interval"]) for amount, own in results.items()}


starts = {"simulated data first": "simulated", "real data alone": "random"}
images = {title: loaded(f"transfer/{own}-*.json") for title, own in starts.items()}
patients = {title: loaded(f"transfer_unet/{own}-*.json") for title, own in starts.items()}
patients["real data alone"].append(records.load(RUNS / "leak/patient-seed0.json"))

# %% mystnb={"figure": {"name": "fig-3-7", "caption": "Scores on real test data, with 95 % intervals over images or patients, against the amount of real training data. Left: AP at IoU 0.5 of Faster R-CNN. Right: pooled Dice of the U-Net, patients held out. One seed. Real data."}, "image": {"alt": "Two panels. On the left a blue line starts at about 0.8 without any real image, dips at ten and rises to above 0.9 at six hundred; a single grey point at six hundred lies far below. On the right a blue and a grey line dip below 0.4 at three patients and lie near 0.5 elsewhere, with long intervals that overlap everywhere."}}
with plots.report_style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.2), sharey=True)
    roads = {title: curve(runs, "ap50") for title, runs in images.items()}
    brains = {title: curve(runs, "dice", "test") for title, runs in patients.items()}
    beyond.learning_curve(left, roads, "real training images")
    beyond.learning_curve(right, brains, "real training patients")
    left.set_title("roads, AP at IoU 0.5", loc="left")
    right.set_title("brains, pooled Dice", loc="left")
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        labelcolor="linecolor",
    )
figure

# %% [markdown]
# **Simulated roads carry far.** Without a single photograph the detector has an AP of about 0.8 on real ones, and with a hundred about 0.9. Ten are worse than none, perhaps because the same few signs come again and again. From random weights as many crops give next to nothing, but that detector has seen fewer pictures in all. **Simulated brains** alone give a Dice near one half, about what this small network reaches on real patients; before real ones they are not shown to help at any number of them, and three patients, like ten photographs, score below none. The network, whose encoder stays random, may itself be the limit.

# %% tags=["hide-input"]
named = {f"only {group}": run for group, run in each.items()}
named |= {f"Faster R-CNN, {title}": runs for title, runs in images.items()}
named |= {f"U-Net, {title}": runs for title, runs in patients.items()}
sources(single | named)
