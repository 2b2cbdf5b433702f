# %% [markdown]
# # Evaluation
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section scores the trained network on slices that it was not trained on.
# It shows ten of them, chosen by a stated rule, from the best to the worst.

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

REPOSITORY, FOLDER, CONTENT = "", "book/q1", Path("/content")
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

from hw3 import profiles, records
from hw3.segmentation import experiment, figures
from hw3.segmentation.metrics import SliceCounts
from hw3.sliders import mask_slider
from hw3.tables import Markdown, environment, score, sources, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
ours, model = experiment.run(
    profile.segmentation, dataset, kind=kind, name="unet", folder=profiles.runs_folder()
)
real, held_out, on_gpu, held_out_gpu = (
    records.load(f"../runs/lgg-{name}.json")
    for name in ("slice", "patient", "slice-gpu", "patient-gpu")
)
environment(profile)

# %% [markdown]
# ## Scores on the test slices
#
# Square brackets hold 95 % intervals. They come from drawing patients again and again, not slices, because slices of one patient are alike.

# %% tags=["hide-input"]
names = {
    "Dice, pooled": "dice",
    "IoU, pooled": "iou",
    "accuracy": "accuracy",
    "accuracy of “no tumour anywhere”": "accuracy_all_background",
    "Dice, mean over patients": "dice_patient_mean",
    "Dice, mean over slices with tumour": "dice_slice_mean_tumour_only",
    "slices with tumour that are noticed": "slice_sensitivity",
    "slices without tumour that are left empty": "slice_specificity",
}
columns = {
    "real data, split by slice": real,
    "the same, trained on a GPU": on_gpu,
    "real data, patients held out": held_out,
    "held out, trained on a GPU": held_out_gpu,
    f"this page, {kind} data": ours,
}
table(
    ["test slices", *columns],
    [
        [name, *(score(run.results["test"], key) for run in columns.values())]
        for name, key in names.items()
    ],
)

# %% tags=["hide-input"]
sources(columns)

# %% tags=["hide-input"]
tested, validated = (held_out_gpu.results[part] for part in ("test", "validation"))
Markdown(
    f"With patients held out, the score depends on who they are: the same run, that on a GPU, reaches a pooled Dice of "
    f"{score(tested, 'dice')} on its {tested['patients']} test patients, and {score(validated, 'dice')} on its "
    f"{validated['patients']} validation patients. So runs on different splits cannot be set against each other here; "
    "{doc}`../q3/3_8_leakage` compares them on the same slices. On a GPU crops were larger, and there were more of them "
    "({doc}`1_6_training`)."
)

# %% [markdown]
# ## Ten slices
#
# The rule: seven test slices with tumour at evenly spaced ranks of Dice, the best and the worst among them, then three without tumour at evenly spaced ranks of falsely marked pixels.

# %%
counts = SliceCounts.from_evidence(ours.evidence["test"], ours.evidence["pixels_per_slice"])
ten = experiment.ranked_examples(dataset, counts)
native = dataset.native_masks.shape[1:]

# %% mystnb={"figure": {"name": "fig-1-5", "caption": "Ten test slices with the true outline (green) and the predicted one (orange, dashed), from best to worst, then three without tumour. This page's data, simulated."}, "image": {"alt": "Ten brain slices in two rows. In the first ones the dashed orange outline lies on the green one; along the row they part, and the Dice value above each falls. The last three slices have no green outline."}}
figures.evaluation(dataset, ten, experiment.predict(model, dataset.images[ten], native))

# %% tags=["hide-input"]
published = json.loads(Path("../published.json").read_text())["original_report"]
report = published["segmentation"]["evaluation"]
test = real.results["test"]
empty, full = test["slices"] - test["slices_with_tumour"], test["slices_with_tumour"]
by_slice = {
    "the report's recipe, on a GPU": records.load("../runs/lgg-report-gpu.json"),
    "ours, on a CPU": real,
    "ours, on a GPU": on_gpu,
}
told = [
    f"- {title}: {round((1 - run.results['test']['slice_specificity']) * empty)} of {empty} slices without tumour are given a "
    f"false mask, and {round(run.results['test']['slice_sensitivity'] * full)} of {full} with tumour are noticed."
    for title, run in by_slice.items()
]
Markdown(
    f"The report judged its model by {report['slices']} slices: {report['false_masks']} of "
    f"{report['without_tumour']} without tumour was given a false mask, and {report['found']} of "
    f"{report['with_tumour']} with tumour were found. On all {test['slices']} real test slices:\n\n"
    + "\n".join(told)
    + "\n\nA slice is noticed if any pixel of it is marked, wherever that lies."
)

# %% tags=["hide-input"]
sources(by_slice)

# %% [markdown]
# The report also says that its model follows bright (green) areas too eagerly. Green is FLAIR. This page's model, over all its test slices:

# %% tags=["hide-input"]
chosen = experiment.SPLITS[profile.segmentation.split](dataset, profile.segmentation.seed)["test"]
images, masks = np.array(dataset.images[chosen]), np.array(dataset.masks[chosen]) > 0
marked = experiment.predict(model, images, masks.shape[1:]) > 0.5
brain, flair = images.any(axis=3), images[..., 1]
kinds = {
    "healthy, and left so": brain & ~masks & ~marked,
    "healthy, but marked": brain & ~masks & marked,
    "tumour, and marked": masks & marked,
    "tumour, but left out": masks & ~marked,
}
table(
    [f"pixels of the brain ({kind} data)", "pixels", "mean FLAIR, of 255"],
    [[name, int(own.sum()), f"{flair[own].mean():.0f}"] for name, own in kinds.items()],
)

# %% [markdown]
# Where it marks healthy tissue, that tissue is bright, and where it leaves tumour out, the tumour is darker than where it does not: on simulated data, the network goes by brightness, too.
#
# ## The threshold, to try
#
# The network gives a probability, and 0.5 is a choice. Move the threshold (with the mouse or the arrow keys) and see the mask shrink or grow. A low one marks healthy tissue, a high one leaves tumour out.

# %% tags=["hide-input"]
middle = ten[3]  # of the seven with tumour, ordered by Dice
[probabilities] = experiment.predict(model, dataset.images[[middle]], native)
mask_slider(
    dataset.images[middle],
    dataset.native_masks[middle],
    probabilities,
    alt="A brain slice with the true outline of the tumour in green and the predicted mask in orange, which shrinks as the threshold rises.",
    caption=f"Slice {dataset.slice_id(middle)} ({kind} data): the middle one of the seven slices with tumour above.",
)

# %% [markdown]
# ## What this section showed
#
# {numref}`fig-1-5` holds failures as well as successes, since a rule chose the slices. One split of the real data leaks, and the other has few test patients: the scores say what the code reaches, not what a clinic could expect.
