# %% [markdown]
# # Which transform earns its place?
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# The report augments its slices with five random transforms and does not say what each is worth.
# This section leaves each of them out in turn, on simulated slices, with three seeds.

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
from hw3.segmentation import figures
from hw3.segmentation.augment import TRANSFORMS
from hw3.segmentation.comparison import Gain, gain, mean_dice
from hw3.tables import Markdown, command, hours, table, with_interval

# %% [markdown]
# ## The runs
#
# They were made beforehand and are kept as records; this page compares them. Each trains the sample profile's U-Net on simulated slices. The seed decides the split into training, validation and test slices, the weights at the start, and the order of the slices; in all else the runs of a seed differ only in the transforms. Nothing was chosen by these scores.

# %% tags=["hide-input"]
folder = Path("../runs/simulated/augmentation")
every = [records.load(path) for path in folder.glob("*.json")]


def chosen(**settings: object) -> list[records.RunRecord]:
    """The runs with these settings, one a seed."""
    wanted = {"split": "slice", "augment": True, "without": []} | settings
    found = [run for run in every if run.settings == run.settings | wanted]
    return sorted(found, key=lambda run: run.seed)


everything = chosen()
runs = {"no transform": chosen(augment=False)}
runs |= {f"without {name}": chosen(without=[name]) for name in TRANSFORMS}
held_out = chosen(split="patient"), chosen(split="patient", augment=False)

first = everything[0]
Markdown(
    f"**Simulated data**; {len(every)} runs of {len(first.history)} epochs on {first.data['slices']} slices of "
    f"{first.data['patients']} patients, {first.results['test']['slices']} slices in each test set by slice and "
    f"{', '.join(str(run.results['test']['slices']) for run in held_out[0])} in those by patient. Together {hours(every)} h "
    f"of training steps on {first.hardware['count']} threads of a {first.hardware['device']}; torch "
    f"{first.versions['torch']}; commit `{first.commit[:10]}`. One of the commands:\n\n"
    f"{command(runs['without quarter turns'][0])}"
)

# %% [markdown]
# ## Each left out in turn
#
# {numref}`fig-3-11` shows the pooled Dice without a transform minus that with all five, on the report's split by slice: left of the line, the transform was of use.

# %% mystnb={"figure": {"name": "fig-3-11", "caption": "Pooled Dice on test slices, less transforms minus all five: the mean over three seeds with its 95 % interval over patients, and a tick for each seed. Split by slice. Simulated data."}, "image": {"alt": "Six rows, each with a dot, a line for its interval, and three ticks. The dot of no transform lies farthest to the right. All its ticks lie right of the dotted line at 0, and so do those of the row without brightness and contrast; the ticks of the other four rows lie on both sides."}}
gains = {title: gain(everything, own) for title, own in runs.items()}
figures.gains(gains)


# %% tags=["hide-input"]
def row(title: str, own: list[records.RunRecord], found: Gain | None = None) -> list:
    scores = [title, mean_dice(own, "train"), mean_dice(own, "test")]
    if found is None:
        return [*scores, None, None]
    seeds = ", ".join(f"{value:+.3f}" for value in found.seeds)
    return [*scores, with_interval(found.mean, found.interval, "+.3f"), seeds]


columns = ["transforms", "Dice, training", "Dice, test", "difference on test", "of each seed"]
table(
    columns,
    [
        row("all five", everything),
        *(row(title, runs[title], found) for title, found in gains.items()),
    ],
)


# %% tags=["hide-input"]
def listed(titles: list[str]) -> str:
    return ", ".join(f"“{title}”" for title in titles) or "no row"


worse = [title for title, found in gains.items() if found.interval[1] < 0]
better = [title for title, found in gains.items() if found.interval[0] > 0]
spread = max(max(found.seeds) - min(found.seeds) for found in gains.values())
Markdown(
    f"The interval lies below 0 in {listed(worse)}, and above 0 in {listed(better)}. It is over patients, for "
    f"these {len(everything)} seeds. The differences of single seeds lie up to {spread:.3f} apart, and a difference whose "
    "seeds disagree in sign is best read as undecided."
)

# %% [markdown]
# ## On patients that were held out
#
# Split by slice, a test slice has near-copies among the training slices, and a network that remembers them is rewarded. Augmentation works against remembering. So the same question again, with whole patients held out:

# %% tags=["hide-input"]
by_split = {"by slice": (everything, runs["no transform"]), "by patient": held_out}
rows = []
for name, (with_all, with_none) in by_split.items():
    rows += [[name, *row("all five", with_all)]]
    rows += [["", *row("no transform", with_none, gain(with_all, with_none))]]
table(["split", *columns], rows)

# %% [markdown]
# ## What this section showed
#
# In these short runs no transform is shown to earn its place. Without all five the U-Net scores higher, and of the five it is brightness and contrast whose absence helps with every seed. The training column hints at why: with augmentation the network does not yet outline even the slices it learns from as well as without. Augmentation works against overfitting, and this looks like too few steps. On patients held out the sign is the same for every seed, but the interval includes 0.
#
# Three cautions. Every row is compared with the same three runs, so that one unlucky run among them lifts all rows. Six intervals are shown, and with that many one may exclude 0 by chance. And a longer training, or real scanners, may turn the answer round: neither is tried here, and the other sections keep the report's five.
