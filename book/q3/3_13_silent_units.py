# %% [markdown]
# # Why ResNet50 could not name signs
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# The first Faster R-CNN with ResNet50 found nearly all signs and could not tell their groups apart. This section shows what had happened inside it, and what the second run does about it.

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
from dataclasses import asdict
from pathlib import Path

from hw3 import records
from hw3.detection import comparison, experiment
from hw3.tables import Markdown, differences, score, sources, table

# %% [markdown]
# ## Two runs
#
# Both were pretrained on simulated roads, as VGG16's fourth run of {doc}`../q2/2_2_two_stage` was, and BatchNorm of the network itself is trained, since there are no published statistics to keep.

# %% tags=["hide-input"]
resnet50s = {
    f"ResNet50, {number} run": records.load(f"../runs/gtsdb-frcnn-resnet50{ending}.json")
    for number, ending in (("first", "-first-run"), ("second", ""))
}
roads = [
    records.load(f"../runs/simulated/start-faster-rcnn-resnet50{ending}.json")
    for ending in ("-first", "")
]
fourth = records.load("../runs/gtsdb-frcnn-fourth-run.json")
networks = {"VGG16, fourth run": fourth} | resnet50s
start = {"weights": "simulated roads"}
differences({title: asdict(experiment.settings_of(run)) | start for title, run in networks.items()})

# %% tags=["hide-input"]
comparison.summary(networks)

# %% tags=["hide-input"]
comparison.errors_by_kind(networks)

# %% [markdown]
# The first run finds nearly all signs and cannot name them: confident detections are “prohibitory” or “danger” alone.

# %% tags=["hide-input"]
first_run, second_run = resnet50s.values()
comparison.found_by_group(first_run)

# %% tags=["hide-input"]
sources(
    {
        title: run
        for (name, run), road in zip(resnet50s.items(), roads, strict=True)
        for title, run in ((name, run), (f"start of {name}", road))
    }
)

# %% [markdown]
# ## Units that never answer
#
# The likely cause lies in the box head, two layers that look at each proposal. A unit that is 0 for every proposal hands nothing on and gets no gradient, so that it stays silent. Counted on real test images:

# %% tags=["hide-input"]
observed = {
    own["record"]: own for own in json.loads(Path("../silent_units.json").read_text())["runs"]
}


def silent(titles: dict[str, str]) -> Markdown:
    header = ["network", "deviation of the head's inputs", "silent: layer 1", "layer 2"]
    rows = []
    for title, name in titles.items():
        own = observed[name]
        counted = [f"{own['silent'][layer]} of {own['units'][layer]}" for layer in own["units"]]
        rows.append([title, f"{own['feature_deviation']:.1f}", *counted])
    return table(header, rows)


silent(
    {
        "VGG16, fourth run": "gtsdb-frcnn-fourth-run",
        "ResNet50, first run": "gtsdb-frcnn-resnet50-first-run",
        "ResNet50, second run": "gtsdb-frcnn-resnet50",
    }
)

# %% [markdown]
# Nearly all units of the first run are silent.
#
# ## Why, and what helps
#
# Its pyramid hands on features that are many times as large as those of VGG16, whose BatchNorm stands right before the pyramid; a step at the same learning rate then moves a unit as many times as far, and can throw it out of reach. Two remedies are near: a lower learning rate, or BatchNorm after each convolution of the pyramid (`fpn_norm`), as torchvision's second version of this detector has it {cite}`li2021`. Three short runs on simulated roads began as the start of the first run did. The second differs from the first in its learning rate alone, the third in BatchNorm alone:

# %% tags=["hide-input"]
PROBES = {
    "learning rate 0.002": "resnet50-rate-2e-3",
    "learning rate 0.0002": "resnet50-rate-2e-4",
    "learning rate 0.002, BatchNorm in the pyramid": "resnet50-rate-2e-3-norm",
}
probes = {title: records.load(f"../runs/simulated/{name}.json") for title, name in PROBES.items()}
sources(probes)

# %% tags=["hide-input"]
silent(PROBES)

# %% tags=["hide-input"]
table(
    ["network", "mean loss in training", "AP at IoU 0.5, simulated test roads"],
    [
        [title, f"{run.history[-1]['loss']:.2f}", score(run.results, "ap50")]
        for title, run in probes.items()
    ],
)

# %% [markdown]
# A lower rate keeps more units of both layers alive. BatchNorm makes the head's inputs small and keeps the whole first layer; at this rate most of the second falls silent all the same. All three runs are far too short to say more by their average precision.
#
# ## The second run
#
# It was fixed after that and scored once: BatchNorm in the pyramid, half the learning rate at the start and in the run, all of ResNet50's channels, and more crops from anywhere. In it every unit of the first layer answers, and signs of all groups are named:

# %% tags=["hide-input"]
comparison.found_by_group(second_run)

# %% [markdown]
# ## What this section showed
#
# A detector whose box head has fallen silent still proposes boxes, and so looks half right: its average precision hides a fault that a count of silent units shows at once. Features that are far too large for the layers behind them are the likely cause; a lower learning rate keeps more units of both layers alive, and BatchNorm in the pyramid all of the first, but not of the second. The second run changed several things at once, so that what each of them brought is not known.
