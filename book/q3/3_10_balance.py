# %% [markdown]
# # Does balancing the groups help?
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# The report ends with a guess: balancing the four groups, or a detector of its own for each, could help.
# This section tests both on real photographs: the first by two runs that differ in nothing else, the second by four detectors that each know one group.

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
from pathlib import Path

from hw3 import records
from hw3.detection import comparison
from hw3.detection.ensemble import joined
from hw3.tables import command, folded, sources, table

as_they_come = records.load("../runs/transfer/simulated-600.json")
balanced = records.load("../runs/balance/balanced-600.json")

# %% [markdown]
# ## The experiment
#
# Half of the crops that the detector trains on are laid around a sign. In the first run this is any sign, so that a group is seen as often as it occurs. In the second a group is drawn first, each equally often, and then one of its signs (`--balance-groups`). Both are the small Faster R-CNN of {doc}`3_9_simulated_data`, with the same start, the same number of crops and the same seed. Each was scored once.

# %% tags=["hide-input"]
sources({"as they come": as_they_come, "balanced": balanced})

# %% tags=["hide-input"]
folded("The command of the second", command(balanced))

# %% tags=["hide-input"]
counted = json.loads(Path("../gtsdb_counts.json").read_text())["counts"]["official"]["train"]
signs = {group: sum(sizes.values()) for group, sizes in counted["signs"].items()}
total = sum(signs.values())
table(
    ["group", "signs to train on", "share of the crops around signs", "balanced"],
    [[group, own, f"{own / total:.0%}", f"{1 / len(signs):.0%}"] for group, own in signs.items()],
)

# %% [markdown]
# ## What it changes
#
# AP at IoU 0.5 on the official test images. Differences have 95 % intervals over images, the same on both sides. Each table here has five intervals, of which one or the other misses the truth by chance; what counts is the mean.

# %% tags=["hide-input"]
runs = {"as they come": as_they_come, "balanced": balanced}
comparison.gain_by_group(runs)

# %% [markdown]
# Errors by kind, their number (wrong detections with a score of at least 0.5, and missed signs), and in brackets what they cost in AP at IoU 0.5 {cite}`bolya2020`:

# %% tags=["hide-input"]
comparison.errors_by_kind(runs)

# %% [markdown]
# ## A detector for each group
#
# Four detectors know one group each (`--group`); all other signs are background to them. Each has the recipe of the first run above and as many crops, half of them around a sign of its group. Their signs and detections are put together and scored as if they were one detector's.

# %% tags=["hide-input"]
each = {group: records.load(f"../runs/balance/only-{group}.json") for group in signs}
sources(each)

# %% tags=["hide-input"]
folded("The command of one", command(each["mandatory"]))

# %% tags=["hide-input"]
together = joined(list(each.values()))
comparison.gain_by_group({"one for all": as_they_come, "one for each": together})

# %% tags=["hide-input"]
comparison.errors_by_kind({"one for all": as_they_come, "one for each": together})

# %% [markdown]
# The four saw four times as many crops together as the one, and looking at a photograph takes them four times as long. A fairer rival is one detector for all groups that was trained for longer, the fourth run of {doc}`../q2/2_2_two_stage`:

# %% tags=["hide-input"]
longer = records.load("../runs/gtsdb-frcnn-fourth-run.json")
seen = {"one for each": [*each.values()], "one for all, longer": [longer]}
table(
    ["", "crops", "million pixels of crops", "core minutes of training steps"],
    [
        [
            title,
            sum(run.samples for run in own),
            f"{sum(run.samples * run.settings['crop_size'] ** 2 for run in own) / 1e6:.0f}",
            f"{sum(run.device_minutes for run in own):.0f}",
        ]
        for title, own in seen.items()
    ],
)

# %% tags=["hide-input"]
comparison.gain_by_group({"one for all, longer": longer, "one for each": together})

# %% [markdown]
# ## What this section showed
#
# - **Balancing is not shown to help.** The group with the fewest signs to train on gains, but the mixed group “other” loses more than that, and the mean over the groups is not decided. “Other” does not lose because it is seen less: its share of the crops rises a little. What rises as well are the false alarms on background.
# - **A detector for each group does help**, by more than the chance in the images, if each is given what the one was given; “mandatory”, the group with the fewest signs, gains most. The four raise more confident false alarms and yet lose less by them: these lie further down in each group's own ranking.
# - **A single detector that was trained for longer** is not told apart from the four. So it is not shown that a detector for each group helps at equal cost (the single one took more minutes, and saw more pixels); and each photograph has to be looked at four times.
#
# Each is one run. By how much two runs with the same settings differ, {doc}`3_12_seeds` measures for the first of them; the intervals, which are over images, do not include it.
