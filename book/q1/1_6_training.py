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

# %% tags=["hide-input"]
import itertools
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
real, as_reported, on_gpu = (
    records.load(f"../runs/lgg-{name}.json") for name in ("slice", "report-gpu", "slice-gpu")
)
sources(
    {"the report's recipe, on a GPU": as_reported, "ours, on a CPU": real, "ours, on a GPU": on_gpu}
)

# %% mystnb={"figure": {"name": "fig-1-4", "caption": "Accuracy, loss, IoU and Dice over the epochs, on what passes in training (augmented slices, or crops of them) and on whole validation slices. Above: the report's recipe on the real data, from the record of a run on a GPU. Below: the run of this page."}, "image": {"alt": "Two blocks of four line charts. In both, Dice and IoU end far higher and loss far lower than they began, on training and on validation slices. With the report's recipe on real data both rise steeply at first, then slowly and side by side. On the simulated data validation falls back once on the way. Accuracy is above 0.9 from the first epoch, so that it shows little."}}
figures.curves(
    {"Real data (LGG), the report's recipe": as_reported, f"This page ({kind} data)": ours}
)

# %% [markdown]
# ## Beside the report
#
# The report's recipe is the full profile's, without an option changed: whole slices of 256 pixels, five random transforms, Dice loss, Adam, batches of 20, 20 epochs, every layer of VGG16 frozen. What the report does not say, such as the learning rate, the ranges of the transforms and the precision, is ours, and so is the draw of the split. It ran on a GPU, as the report's did. The two columns after it are a recipe of our own, on a CPU and, with larger crops and more of them, on the GPU; the section below lists the settings.
#
# The report's scores are probably means over batches, since its loss and Dice do not add up to 1, on slices of patients it also trained on. Ours are given in the same way, and pooled.

# %% tags=["hide-input"]
report = json.loads(Path("../published.json").read_text())["original_report"]["segmentation"]
keys = {
    "accuracy": ("accuracy", "accuracy"),
    "Dice, mean over batches": ("dice", "dice_batch_mean"),
    "IoU, mean over batches": ("iou", "iou_batch_mean"),
    "Dice, pooled": (None, "dice"),
    "IoU, pooled": (None, "iou"),
}
columns = {
    f"its recipe, real data, GPU, {len(as_reported.history)} epochs": as_reported,
    f"our recipe, real data, CPU, {len(real.history)} epochs": real,
    f"our recipe, real data, GPU, {len(on_gpu.history)} epochs": on_gpu,
    f"this page, {kind} data": ours,
}
table(
    ["last epoch", "report, 20 epochs", *columns],
    [
        [
            f"validation: {name}",
            report["validation"].get(theirs),
            *(run.results["validation"][own] for run in columns.values()),
        ]
        for name, (theirs, own) in keys.items()
    ]
    + [
        [
            f"training: {name}, of the whole epoch",
            report["train"][key],
            *(run.history[-1]["train"][key] for run in columns.values()),
        ]
        for name, key in (("accuracy", "accuracy"), ("Dice", "dice"), ("IoU", "iou"))
    ],
)

# %% tags=["hide-input"]
found, theirs = as_reported.results["validation"], report["validation"]
late = [epoch["validation"]["dice_batch_mean"] for epoch in as_reported.history[-11:]]
jump = max(abs(after - before) for before, after in itertools.pairwise(late))
Markdown(
    "**The report's validation Dice and IoU can be had by its recipe.** Ours differ by "
    f"{found['dice_batch_mean'] - theirs['dice']:+.4f} in Dice and {found['iou_batch_mean'] - theirs['iou']:+.4f} in IoU, as "
    f"means over batches. In its last ten epochs that Dice goes up or down by as much as {jump:.3f} from one to the next, and other slices would change it "
    f"as well: pooled, with its 95 % interval over patients, it is {with_interval(found['dice'], found['dice_interval'])}. The others do not come back. "
    "The accuracy cannot be compared, as is shown next. And the report's scores in training are well above ours, with a Dice of "
    f"{report['train']['dice']} for {as_reported.history[-1]['train']['dice']:.4f}: it fitted what it trained on more closely, where {{numref}}`fig-1-4` shows ours level with validation. "
    "Milder transforms, or ones drawn once and not in every epoch, could do that; the report does not say."
)

# %% [markdown]
# In {numref}`fig-1-4` validation often lies above training. That is no fault: training values are taken on augmented slices or crops while the weights still change; validation looks at whole slices after each epoch.
#
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
# ```{admonition} Three kinds of columns
# The first column is copied from the original report. Those on real data come from records of runs on the LGG slices, with the command, the counts of every slice and the hardware in them. The last was computed by this page: it says that the code works, and nothing about patients.
# ```
#
# ## Five runs on the real slices
#
# Three runs with recipes of our own came before, on a CPU. The first is like the report's, but on slices made smaller, and short. The second cuts crops out of slices of full size, some of them around a tumour, and adds cross-entropy to the loss. It scored no higher on what it trained on than on validation slices, so that it had not learnt all it could; the third is the second with more crops, and in bf16. The fourth, beside the report's on the GPU, has larger crops, and more of them again. They differ in this:

# %% tags=["hide-input"]
attempts = {
    "report's recipe": as_reported,
    **{f"{name} run": records.load(f"../runs/lgg-{name}-run.json") for name in ("first", "second")},
    "third run": real,
    "fourth run": on_gpu,
}
differences({title: asdict(experiment.settings_of(record)) for title, record in attempts.items()})

# %% tags=["hide-input"]
scored_again = records.load("../runs/lgg-slice-gpu-scored.json")
sources(attempts | {"fourth run, scored again on the CPU": scored_again})

# %% tags=["hide-input"]
parts = {title: record.results["validation"] for title, record in attempts.items()}
for title, name in (("third", "slice"), ("fourth", "slice-gpu-scored")):
    looked = errors.read_examined(Path(f"../examined/lgg-{name}-validation.json"))
    averaged = errors.counts_of(looked, "averaged")
    parts[f"{title} run, eight looks"] = metrics.scores(averaged, batch_size=20)
table(
    ["validation slices", "Dice, pooled", "IoU, pooled", "accuracy", "Dice, mean over patients"],
    [
        [
            title,
            *(score(own, key) for key in ("dice", "iou")),
            with_interval(own["accuracy"], own["accuracy_interval"], ".4f"),
            score(own, "dice_patient_mean"),
        ]
        for title, own in parts.items()
    ],
)

# %% tags=["hide-input"]
scored = {
    "Dice, mean over slices, rightly empty counts 1": "dice_slice_mean_empty_is_1",
    "slices with tumour that are noticed": "slice_sensitivity",
    "slices without tumour that are left empty": "slice_specificity",
}
table(
    ["validation slices", *scored],
    [[title, *(score(own, key) for key in scored.values())] for title, own in parts.items()],
)

# %% tags=["hide-input"]
reported, first, second, third, fourth = attempts.values()
steps = {
    "second − first": (first, second),
    "third − second": (second, third),
    "fourth − third": (third, scored_again),
    "fourth − report's recipe": (reported, fourth),
}
gains = {title: gain([one], [other], ("validation",)) for title, (one, other) in steps.items()}
table(
    ["on the same validation slices", "difference of the pooled Dice"],
    [[title, with_interval(own.mean, own.interval, "+.3f")] for title, own in gains.items()],
)

# %% tags=["hide-input"]
again, before = (run.results["validation"]["dice"] for run in (scored_again, fourth))
Markdown(
    "The second and the third run outline tumours better than the first, and leave fewer slices without tumour empty: a score "
    "that counts those slices as 1 when they are left empty ranks the first above them. The fourth is ahead by both scores, though it leaves fewer such slices empty than the first, too. For the last "
    "rows of both tables each slice was looked at in eight ways, turned and mirrored, and the probabilities were averaged: "
    "{doc}`../q3/3_4_segmentation_errors` tests what that adds.\n\nThe slices are a near-lossless copy. The machine with the "
    "GPU unpacked it anew, and its files differ from those on the other machine; how was not looked into. Every slice has as many tumour pixels "
    "in both. To compare like with like, the fourth run's weights were scored again on the CPU and its "
    f"files: a pooled validation Dice of {again:.4f}, where the GPU found {before:.4f}. The row “fourth − third” takes these, "
    "and so do the eight looks."
)

# %% tags=["hide-input"]
goal = theirs["dice"]


def minutes_until(record: records.RunRecord, key: str) -> str:
    """When a validation score first passed the report's Dice."""
    minutes = [epoch["seconds"] / 60 for epoch in record.history]
    for count, epoch in enumerate(record.history, 1):
        if epoch["validation"][key] > goal:
            return f"after epoch {count}, at {sum(minutes[:count]):.1f} minutes of training steps"
    return f"not within {sum(minutes):.1f} minutes of training steps"


Markdown(
    f"When did the validation Dice pass the report's {goal:.4f}?\n\n"
    + "\n".join(
        f"- {title}: pooled, {minutes_until(record, 'dice')}; as a mean over batches, "
        f"{minutes_until(record, 'dice_batch_mean')}."
        for title, record in attempts.items()
    )
    + "\n\nThe learning rate of ours falls over the whole of a run, so that a longer run passes later than it could. Other "
    "work ran beside each; both runs on the GPU shared it with four others. Each was scored once on the test slices, after its "
    "last epoch; the earlier runs' scores on them were known when the later settings were chosen."
)

# %% [markdown]
# ## What this section showed
#
# The same call trains on simulated slices and on real ones, on a CPU and on a GPU, and leaves a record of each. By the report's recipe the report's validation Dice and IoU come back; a recipe with crops, cross-entropy beside the Dice loss, a falling learning rate and more pictures brings more. All are scored on slices of patients they also trained on; {doc}`../q3/3_8_leakage` measures what that is worth.
