# %% [markdown]
# # Training
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section trains the network, here and now, on this page's data.
# It shows the curves beside those of a run on the real data, and sets both beside the report's numbers.

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

# %%
import json
from dataclasses import asdict
from pathlib import Path

from hw3 import profiles, records
from hw3.segmentation import errors, experiment, figures, metrics
from hw3.segmentation.comparison import gain
from hw3.tables import (
    Markdown,
    differences,
    environment,
    provenance,
    score,
    sources,
    table,
    with_interval,
)

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
environment(profile)

# %% [markdown]
# ## One loop
#
# The report trains with Adam {cite}`kingma2015` and does not state the learning rate. Our full profile takes its epochs, batch size and loss; the smaller profiles are shorter, have a lighter network ({doc}`1_4_network` lists the differences), and use a schedule of their own. The sample profile also trains on random crops, half of them laid around a tumour: a quarter of the pixels is a quarter of the arithmetic, and a network of convolutions that learnt on crops can be run on whole slices. The call below finds the finished run if there is one with the same settings, data and code; goes on where an interrupted run stopped; or trains.

# %%
ours, model = experiment.run(
    profile.segmentation, dataset, kind=kind, name="unet", folder=profiles.runs_folder()
)
provenance(ours)

# %% tags=["hide-input"]
real = records.load("../runs/lgg-slice.json")
provenance(real)

# %% mystnb={"figure": {"name": "fig-1-4", "caption": "Accuracy, loss, IoU and Dice over the epochs, on what passes in training (augmented slices, or crops of them) and on whole validation slices. Above: the real data, from a record. Below: the run of this page."}, "image": {"alt": "Two blocks of four line charts. In both, Dice and IoU end far higher and loss far lower than they began, on training and on validation slices; on those of the simulated data they go back at times on the way. Accuracy is above 0.9 from the first epoch, so that it shows little."}}
figures.curves({"Real data (LGG)": real, f"This page ({kind} data)": ours})

# %% [markdown]
# ## Beside the report
#
# In {numref}`fig-1-4` validation often lies above training, in accuracy always. That is no fault: training values are taken on augmented crops, many of them around a tumour, while the weights still change; validation looks at whole slices after each epoch. The loss of the real run is Dice loss plus cross-entropy, the report's Dice loss alone.
#
# The figure ends at the numbers below. The report's are probably means over batches, since its loss and Dice do not add up to 1, on slices of patients it also trained on. Ours are given in the same way, and pooled.

# %% tags=["hide-input"]
report = json.loads(Path("../published.json").read_text())["original_report"]["segmentation"]
columns = {
    "accuracy": ("accuracy", "accuracy"),
    "Dice, mean over batches": ("dice", "dice_batch_mean"),
    "IoU, mean over batches": ("iou", "iou_batch_mean"),
    "Dice, pooled": (None, "dice"),
    "IoU, pooled": (None, "iou"),
}
table(
    [
        "last epoch",
        "report, 20 epochs",
        f"ours, real data, {len(real.history)} epochs",
        f"this page, {kind} data",
    ],
    [
        [
            f"validation: {name}",
            report["validation"].get(theirs),
            real.results["validation"][own],
            ours.results["validation"][own],
        ]
        for name, (theirs, own) in columns.items()
    ]
    + [
        [
            f"training: {name}, of the whole epoch",
            report["train"][key],
            real.history[-1]["train"][key],
            ours.history[-1]["train"][key],
        ]
        for name, key in (("accuracy", "accuracy"), ("Dice", "dice"), ("IoU", "iou"))
    ],
)

# %% [markdown]
# Accuracy does not rank two models that were scored on different slices. With as many pixels marked falsely as missed, accuracy is $1 - 2 s (1 - \mathrm{Dice})$, where $s$ is the share of pixels that are tumour: with less tumour, the same Dice goes with a higher accuracy.

# %% tags=["hide-input"]
theirs, validation = report["validation"], real.results["validation"]
share = 1 - validation["accuracy_all_background"]
implied = (1 - theirs["accuracy"]) / (2 * (1 - theirs["dice"]))
Markdown(
    f"Tumour is {share:.2%} of our validation pixels; there the report's Dice would go with an accuracy of about "
    f"{1 - 2 * share * (1 - theirs['dice']):.4f}. The report's own accuracy of {theirs['accuracy']} would need slices with "
    f"about {implied:.2%} tumour. Which slices it held out is not known; another random tenth may hold less."
)

# %% [markdown]
# ```{admonition} Three columns, three kinds of evidence
# The first column is copied from the original report. The second comes from a record of a run on the real LGG slices, with the command, the counts of every slice and the hardware in it. The third was computed by this page. The third says that the code works; it says nothing about patients.
# ```
#
# ## Three runs on the real slices
#
# The run shown above is the third. The first is closer to the report: whole slices, made smaller, and the Dice loss. The second cuts crops out of slices of full size, some of them around a tumour, and adds cross-entropy to the loss. It scored no higher on what it trained on than on validation slices, so that it had not learnt all it could; the third is the second with more crops, and in bf16. They differ in this:

# %% tags=["hide-input"]
attempts = {
    **{f"{name} run": records.load(f"../runs/lgg-{name}-run.json") for name in ("first", "second")},
    "third run": real,
}
differences({title: asdict(experiment.settings_of(record)) for title, record in attempts.items()})

# %% tags=["hide-input"]
sources(attempts)

# %% tags=["hide-input"]
scored = {
    "Dice, pooled": "dice",
    "IoU, pooled": "iou",
    "accuracy": "accuracy",
    "Dice, mean over patients": "dice_patient_mean",
    "Dice, mean over slices, rightly empty counts 1": "dice_slice_mean_empty_is_1",
    "slices with tumour that are noticed": "slice_sensitivity",
    "slices without tumour that are left empty": "slice_specificity",
}
columns = {title: record.results["validation"] for title, record in attempts.items()}
looked = errors.read_examined(Path("../examined/lgg-slice-validation.json"))
columns["third run, eight looks"] = metrics.scores(
    errors.counts_of(looked, "averaged"), batch_size=real.settings["batch_size"]
)
parts = list(columns.values())
exactly = [with_interval(own["accuracy"], own["accuracy_interval"], ".4f") for own in parts]
table(
    ["validation slices", *columns],
    [
        [name, *(exactly if key == "accuracy" else (score(own, key) for own in parts))]
        for name, key in scored.items()
    ],
)

# %% tags=["hide-input"]
first, second, third = attempts.values()
steps = {"second − first": (first, second), "third − second": (second, third)}
gains = {title: gain([one], [other], ("validation",)) for title, (one, other) in steps.items()}
table(
    ["on the same validation slices", "difference of the pooled Dice"],
    [[title, with_interval(own.mean, own.interval, "+.3f")] for title, own in gains.items()],
)

# %% [markdown]
# The runs on crops outline tumours better, and mark slices without tumour falsely more often than the first, the third less often than the second: a score that counts those slices as 1 when they are left empty ranks the first run highest. For the last column each slice was looked at in eight ways, turned and mirrored, and the probabilities were averaged: {doc}`../q3/3_4_segmentation_errors` tests what that adds.

# %% tags=["hide-input"]
goal = theirs["dice"]


def minutes_until(record: records.RunRecord, key: str) -> str:
    """When a validation score first passed the report's Dice."""
    minutes = [epoch["seconds"] / 60 for epoch in record.history]
    for count, epoch in enumerate(record.history, 1):
        if epoch["validation"][key] > goal:
            return f"after epoch {count}, at {sum(minutes[:count]):.0f} minutes of training steps"
    return f"not within {sum(minutes):.0f} minutes of training steps"


Markdown(
    f"When did the validation Dice pass the report's {goal:.4f}?\n\n"
    + "\n".join(
        f"- {title}: pooled, {minutes_until(record, 'dice')}; as a mean over batches, "
        f"{minutes_until(record, 'dice_batch_mean')}."
        for title, record in attempts.items()
    )
    + "\n\nThe learning rate falls over the whole of a run, so that a longer run passes later than it could. Other "
    "work ran beside each. Each was scored once on the test slices, after its last epoch; the earlier runs' scores "
    "on them were known when the later settings were chosen."
)

# %% [markdown]
# ## What this section showed
#
# The same call trains on simulated slices and on real ones, and leaves a record of either. The real column is a short run, scored on slices of patients it also trained on; {doc}`../q3/3_8_leakage` measures what that is worth.
