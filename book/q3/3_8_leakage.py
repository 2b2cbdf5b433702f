# %% [markdown]
# # What is a leak worth?
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# Split by slice, as in the report, test patients are also trained on, with other slices.
# This section measures on real slices by how much that flatters a network, and asks whether the road data leak, too.

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

import numpy as np

from hw3 import records
from hw3.detection import ap, comparison
from hw3.segmentation import figures
from hw3.segmentation.comparison import gain, mean_dice, patient_dice
from hw3.tables import Markdown, command, folded, hours, score, sources, table, with_interval

# %% [markdown]
# ## The experiment
#
# Two splits give two scores, but of different test patients, and one patient is far harder than another. So the same slices are scored twice:
#
# 1. *Held out.* Whole patients are kept from training ({func}`~hw3.segmentation.dataset.split_by_patient`).
# 2. *Leaking.* Every second slice of the test patients trains after all, in place of as many slices of others ({func}`~hw3.segmentation.dataset.split_leaking`).
#
# Both are scored on the other half of the test patients' slices. They start from the same weights, see the same number of slices, and take the same number of steps. What differs is the leak, and with it how many patients are seen: the leaking run meets the test patients, too. The network is a small one (a quarter of VGG16's channels, no pretrained weights) and sees few epochs, so that every run could be made with three seeds, each with its own draw of test patients; a patient drawn twice counts twice. It is a weak network; what counts here is the difference. Nothing was chosen by these scores.

# %% tags=["hide-input"]
runs = {
    split: [records.load(f"../runs/leak/{split}-seed{seed}.json") for seed in range(3)]
    for split in ("patient", "leaking")
}
held_out, leaking = runs.values()
tested = [len(run.evidence["test"]) for run in leaking]
trained = [len(runs[split][0].data["split"]["train"]) for split in ("patient", "leaking")]
Markdown(
    f"The runs differ in split and seed alone; together they took {hours([*held_out, *leaking])} h of training steps. With "
    f"the first seed, {trained[0]} patients are trained on when the test patients are held out, and {trained[1]} when they "
    f"leak. By seed, {', '.join(map(str, tested))} test patients with "
    f"{', '.join(str(run.results['test']['slices']) for run in leaking)} slices are scored twice."
)

# %% tags=["hide-input"]
sources({f"{split}, seed {run.seed}": run for split, own in runs.items() for run in own})

# %% tags=["hide-input"]
folded("The command of the leaking run with the first seed", command(leaking[0]))

# %% [markdown]
# ## The same slices, held out and leaked
#
# {numref}`fig-3-12` has a point for each test patient.

# %% mystnb={"figure": {"name": "fig-3-12", "caption": "Dice of each test patient with tumour, over the same slices: when the patient was held out, and when the patient's other slices were trained on. Three seeds. Real data."}, "image": {"alt": "Points from the lower left to the upper right, most of them on the dotted diagonal or close to it. A few whose Dice is near 0.2 or near 0.6 when held out lie clearly above it, and fewer lie below."}}
pairs = patient_dice(held_out, leaking)
figures.leak(pairs)

# %% tags=["hide-input"]
found = gain(held_out, leaking)
rows = [
    # The runs with patients held out scored the other half of the slices, too; not counted here.
    ["held out", mean_dice(held_out, "train"), mean_dice(leaking, "test") - found.mean],
    ["leaking", mean_dice(leaking, "train"), mean_dice(leaking, "test")],
]
table(["split", "Dice, training slices", "Dice, test slices"], rows)

# %% tags=["hide-input"]
experts = json.loads(Path("../published.json").read_text())["segmentation"][1]
before, after = pairs.mean(axis=0)
Markdown(
    f"**The leaking runs' pooled Dice is {with_interval(found.mean, found.interval, '+.3f')} higher** (95 % interval over "
    f"patients, drawn again and again; by seed {', '.join(f'{value:+.3f}' for value in found.seeds)}). The mean Dice per "
    f"patient rises from {before:.3f} to {after:.3f}. For scale, {experts['what']}: {experts['dice']} "
    f"{{cite}}`{experts['source']}`."
)

# %% [markdown]
# ## A strong network
#
# The network of {doc}`../q1/1_6_training` was trained twice with the same settings: on the report's split by slice, and with whole patients held out. Each has test slices of its own, of other patients; so the scores in the table cannot tell what the leak is worth. The slices that neither trained on can: for one network the same patient's other slices were training data, for the other the patient was a stranger. Validation slices count, too: no epoch was chosen by them, since the last epoch's weights are scored. Both runs share one recipe, which was chosen after others had been scored on slices of the first split ({doc}`../q1/1_6_training`). The same was done with the longer recipe that ran on a GPU.

# %% tags=["hide-input"]
by_slice, by_patient, by_slice_gpu, by_patient_gpu = (
    records.load(f"../runs/lgg-{name}.json")
    for name in ("slice", "patient", "slice-gpu", "patient-gpu")
)
strong = {
    "split by slice": by_slice,
    "patients held out": by_patient,
    "split by slice, on a GPU": by_slice_gpu,
    "patients held out, on a GPU": by_patient_gpu,
}
table(
    ["test slices", "slices", "patients", "Dice, pooled", "Dice, mean over patients"],
    [
        [
            title,
            *(run.results["test"][count] for count in ("slices", "patients")),
            *(score(run.results["test"], name) for name in ("dice", "dice_patient_mean")),
        ]
        for title, run in strong.items()
    ],
)

# %% tags=["hide-input"]
held_out_parts = ("validation", "test")
shared = gain([by_patient], [by_slice], held_out_parts)
longer = gain([by_patient_gpu], [by_slice_gpu], held_out_parts)
strangers, known = (
    set().union(*(run.evidence[part] for part in held_out_parts)) for run in (by_patient, by_slice)
)
Markdown(
    f"On the {shared.slices[0]} slices of {len(strangers & known)} patients that neither trained on, **the leak adds "
    f"{with_interval(shared.mean, shared.interval, '+.3f')}** to the pooled Dice (95 % interval over patients); in the longer runs on a GPU, "
    f"{with_interval(longer.mean, longer.interval, '+.3f')}. {{numref}}`fig-3-13` shows whom it helps in the first pair."
)

# %% mystnb={"figure": {"name": "fig-3-13", "caption": "The strong network's Dice of each patient with tumour, over the slices that neither run trained on: when the patient was held out, and when the patient's other slices were trained on. Real data."}, "image": {"alt": "Most points lie close to the dotted diagonal, at its upper right end. One lies far above it: near 0.1 when held out, near 0.8 after the leak. A few others lie a little above it."}}
strong_pairs = patient_dice([by_patient], [by_slice], held_out_parts)
figures.leak(strong_pairs)

# %% tags=["hide-input"]
before, after = strong_pairs.mean(axis=0)
most = (strong_pairs[:, 1] - strong_pairs[:, 0]).argmax()
rest = np.delete(strong_pairs, most, axis=0).mean(axis=0)
test, validation = (by_patient.results[part] for part in ("test", "validation"))
Markdown(
    f"The mean Dice of the {len(strong_pairs)} patients in the figure goes from {before:.3f} to {after:.3f}; without the one "
    f"who gains most, from {rest[0]:.3f} to {rest[1]:.3f}. Held out, the "
    f"score depends on who the patients are: the same run reaches {score(test, 'dice')} on its {test['patients']} test "
    f"patients, and {score(validation, 'dice')} on its {validation['patients']} validation patients. Its mean over the "
    f"test patients is {score(test, 'dice_patient_mean')} ({experts['what']}: {experts['dice']} "
    f"{{cite}}`{experts['source']}`).\n\nBoth runs of the first pair saw {by_slice.samples:,} crops; but one met {len(by_slice.data['split']['train'])} patients and the other "
    f"{len(by_patient.data['split']['train'])}, so that a part of the gain may come from their number, not from the "
    "patient's own slices. It is what a split by slice adds in all. Of the pair on the GPU, the run with patients held out even saw more: "
    f"{by_patient_gpu.samples:,} crops against {by_slice_gpu.samples:,}."
)

# %% tags=["hide-input"]
sources(strong)

# %% [markdown]
# ## Photographs of one place
#
# Does the road data leak, too? `tools/same_places.py` looked for photographs of one place: it counts corners that look alike in two photographs {cite}`rublee2011` and that one shift, turn and scale brings together. Looked at by eye, the pairs with the most matches show one place, most of them moments apart, several with the same signs annotated in both; images 43 and 593, and 485 and 486, show one road, not surely one place. It finds only pairs that look much alike, so that there may be more.

# %% tags=["hide-input"]
places = json.loads(Path("../same_places.json").read_text())
pairs = [own["images"] for own in places["pairs"]]
tested = {
    f"{title}, {run.settings['split']}, seed {run.seed}": run
    for title, name in (("Faster R-CNN", "frcnn"), ("SSD300", "ssd-tiles"))
    for run in (
        records.load(f"../runs/gtsdb-{name}.json"),
        *records.load_seeds(Path(f"../runs/gtsdb-{name}-random80.json")),
    )
}
rows = []
for title, run in tested.items():
    trained, test = (set(run.data["split"][part]) for part in ("train", "test"))
    across = {i for pair in pairs for i, j in (pair, pair[::-1]) if i in test and j in trained}
    rest = comparison.restricted(run, test - across)
    signs, left = (
        sum(len(truth["labels"]) for truth in own.evidence["truths"]) for own in (run, rest)
    )
    inside = sum(set(pair) <= test for pair in pairs)
    without = float(ap.mean_average_precision(comparison.matches_of(rest)))
    counted = [inside, f"{len(across)} of {len(test)}", f"{signs - left} of {signs}"]
    rows.append([title, *counted, run.results["ap50"], without])
table(
    [
        "detector, split, seed",
        "pairs inside the test part",
        "test images whose pair was trained on",
        "their signs",
        "AP at IoU 0.5",
        "without these images",
    ],
    rows,
)

# %% tags=["hide-input"]
sources(tested)

# %% tags=["hide-input"]
official = set(next(iter(tested.values())).data["split"]["test"])
crossing = [pair for pair in pairs if len(set(pair) & official) == 1]
listed = "; ".join(
    f"{i} and {j} ({own['matches']})" for own in places["pairs"] for i, j in [own["images"]]
)
changes = [abs(row[-1] - row[-2]) for row in rows]
Markdown(
    f"Of {len(pairs)} pairs with {places['matches_at_least']} matches or more, {len(crossing)} lie on both sides of the official split "
    f"({', '.join(f'{i} and {j}' for i, j in crossing)}). A pair inside the test part may count a sign twice. "
    "**Left out, the test images whose pair was trained on change the AP by no more than "
    f"{max(changes):.3f}**: they are few.\n\n"
    f"All pairs, with their matches: {listed}."
)

# %% [markdown]
# ## What this section showed
#
# Split by slice, the strong network scores higher on the same slices, and the interval over patients lies above 0: such a split flatters it, though much of the gain in the mean over patients is that of one. Longer runs on a GPU show as large a gain. Each is one seed, and the network has also met more patients. For the small network a gain is less sure: the interval, which is over patients alone, lies above 0 as well, but the three seeds disagree by more than the gain itself, and many patients do worse. It does not outline its own training slices well, so that it has little to remember. Photographs of one place are on both sides of either split of the road data; those that were found are too few to matter.
