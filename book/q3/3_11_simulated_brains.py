# %% [markdown]
# # What are simulated brains worth?
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section takes a U-Net that has seen simulated brains only and scores it on real slices.
# Then it goes on with the slices of a few real patients, and of more, beside one that never saw a simulated brain.

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
from hw3.figures import learning_curves
from hw3.segmentation.comparison import gain
from hw3.tables import (
    Markdown,
    by_amount,
    command,
    folded,
    hours,
    score,
    sources,
    table,
    with_interval,
)

paths = {
    "simulated brains first": Path("../runs/transfer_unet").glob("simulated-*.json"),
    "real slices alone": [
        *Path("../runs/transfer_unet").glob("random-*.json"),
        Path("../runs/leak/patient-seed0.json"),
    ],
}
starts = {
    title: {len(run.data["split"]["train"]): run for run in map(records.load, own)}
    for title, own in paths.items()
}
first, alone = starts.values()
simulated = records.load("../runs/simulated/start-unet.json")

# %% [markdown]
# ## The runs
#
# The network is the small U-Net of {doc}`3_8_leakage`: a quarter of VGG16's channels, frozen at random weights; only the decoder learns. It begins with what a longer run on simulated brains has left, or anew. Then it sees crops from slices of some of the training patients. A larger draw of patients holds each smaller one, and whatever their number, the number of crops is the same. Settings were fixed before the first of these runs, and each was scored once, on the test patients, who are held out.

# %% tags=["hide-input"]
fewest, most = min(set(first) - {0}), max(first)
every = [run for runs in starts.values() for run in runs.values()]
test = first[0].results["test"]
Markdown(
    f"All runs but the start differ in the number of patients and in the start alone, but for the one with all patients and "
    f"without simulated brains, which was made on another processor (with all patients, each slice gives one crop an epoch); "
    f"together they took {hours(every)} h of training steps. The start had seen {simulated.samples:,} crops of simulated "
    f"slices; every run then saw {first[most].samples:,} of real ones, but the one without real patients, which was scored "
    f"as it was. The test part has {test['slices']} slices of {test['patients']} patients."
)

# %% tags=["hide-input"]
sources(
    {"the start": simulated}
    | {f"{title}, {n}": run for title, runs in starts.items() for n, run in sorted(runs.items())}
)

# %% tags=["hide-input"]
folded(
    "The command of the start, and that of the run with fewest patients, which begins with its weights",
    f"{command(simulated)}\n\n{command(first[fewest])}",
)

# %% [markdown]
# ## How far the gap reaches
#
# {numref}`fig-3-15` shows what each number of real patients gives.

# %% mystnb={"figure": {"name": "fig-3-15", "caption": "Pooled Dice on the slices of the real test patients, with 95 % intervals over patients, against the number of real patients trained on. One seed. Real data."}, "image": {"alt": "Two lines of points with long bars that overlap nearly everywhere. The one of networks that saw simulated brains starts near 0.5, without any real patient, is lower with three, near 0.5 again with ten and thirty, and ends a little higher with all. The grey one, of networks that never saw a simulated brain, is as low with three and lies close to the other from then on."}}
scores = {
    title: {
        n: (run.results["test"]["dice"], run.results["test"]["dice_interval"])
        for n, run in runs.items()
    }
    for title, runs in starts.items()
}
learning_curves(scores, "real training patients", "Dice, pooled")

# %% tags=["hide-input"]
by_amount(scores, "real patients")

# %% tags=["hide-input"]
zero = first[0].results["test"]
worth = gain([alone[most]], [first[most]])
added = {n: gain([first[0]], [run]) for n, run in sorted(first.items()) if n}
seen = {n: run.results["train"]["dice"] for n, run in sorted(first.items()) if n}
Markdown(
    f"On simulated test slices the start reaches a pooled Dice of {score(simulated.results['test'], 'dice')}; on real "
    f"ones, without a single real patient, {score(zero, 'dice')}. It notices {zero['slice_sensitivity']:.0%} of the slices "
    f"with tumour, and leaves {zero['slice_specificity']:.0%} of those without tumour empty. With all {most} real "
    f"patients, having seen simulated brains first adds {with_interval(worth.mean, worth.interval, '+.3f')} to the pooled "
    "Dice, on the same slices. On the slices they were trained on, the runs with "
    f"{', '.join(map(str, seen))} patients reach {', '.join(f'{value:.3f}' for value in seen.values())}."
)

# %% tags=["hide-input"]
beside = {n: gain([alone[n]], [first[n]]) for n in sorted(alone)}
table(
    [
        "real patients",
        "pooled Dice, added to that without real patients, same slices",
        "added by simulated brains first, same patients and slices",
    ],
    [
        [n, *(with_interval(own.mean, own.interval, "+.3f") for own in (added[n], beside[n]))]
        for n in beside
    ],
)

# %% tags=["hide-input"]
names = {
    "Dice, mean over patients": "dice_patient_mean",
    "slices with tumour that are noticed": "slice_sensitivity",
    "slices without tumour that are left empty": "slice_specificity",
}
rows = {f"{n} real patients": run.results["test"] for n, run in sorted(first.items())}
rows[f"{most}, without simulated brains"] = alone[most].results["test"]
table(
    ["trained on", *names],
    [[title, *(score(results, key) for key in names.values())] for title, results in rows.items()],
)

# %% [markdown]
# ## What this section showed
#
# Trained on simulated brains alone, the network reaches a pooled Dice near one half on real slices, with a wide interval. It notices most slices with tumour, but it marks something in most of the others, too. Whether a few real patients, or all of them, change its score is undecided with so few test patients. Nor is it shown, at any number of real patients, that simulated brains seen first help: ten real patients alone reach what simulated brains alone reach.
#
# The network is weak, as in {doc}`3_8_leakage`: with a random encoder that is never trained, it does not outline its own training slices well. So the upper end of the line may be its limit, and not that of the data. Each point is one run.
