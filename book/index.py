# %% [markdown]
# # Outlines and boxes
#
# **Neural Networks and Deep Learning, homework 3, reproduced and tested.** Can a network that was trained on photographs outline a brain tumour, and which of two detectors finds traffic signs better? This book repeats a course report section by section and figure by figure, corrects it, and measures it on real data.

# %%
import json
from pathlib import Path

from hw3 import records
from hw3.tables import provenance, score, table

report = json.loads(Path("published.json").read_text())["original_report"]
unet = records.load("runs/lgg-first-run.json")

# %% [markdown]
# ## The headline

# %%
table(
    ["question 1: Dice on LGG, split by slice", "report", "ours, real data"],
    [
        [
            "validation, mean over batches",
            report["segmentation"]["validation"]["dice"],
            score(unet.results["validation"], "dice_batch_mean"),
        ],
        ["validation, pooled counts", None, score(unet.results["validation"], "dice")],
        ["test, pooled counts", None, score(unet.results["test"], "dice")],
    ],
)

# %%
provenance(unet)

# %% [markdown]
# Square brackets hold 95 % intervals over patients. The report trained for 20 epochs on a GPU and does not give a test score.
#
# ## How to read
#
# Each page starts with what it will show and ends with what it showed. Every figure has the number it has in the report. Two kinds of numbers appear: **real data** come from records, files under `book/runs` that hold the settings, the hardware and the counts from which each score can be computed again; **simulated data** are made by the book itself, so that every page runs anywhere.
#
# ## How to rerun
#
# On a computer with Python 3.11 or newer, `make book` makes this book anew and `make test` checks it. On Colab, open any page by its badge and run all cells; with a GPU this trains on the real data. Everything a page does can be done from a shell:
#
# ```bash
# python -m hw3 data lgg                 # fetch and check the real slices
# HW3_PROFILE=full python -m hw3 train unet
# python -m hw3 evaluate book/runs/lgg-first-run.json
# python -m hw3 predict my_slice.tif --record RUN.json
# ```
