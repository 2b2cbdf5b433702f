# %% [markdown]
# # Brain tumours and traffic signs
#
# [![Open in Colab](_static/colab.svg)](https://colab.research.google.com/)
#
# **Neural Networks and Deep Learning, homework 3: a course report repeated, corrected and measured.** Can a network that was trained on photographs outline a brain tumour? And which of two detectors finds traffic signs better?
#
# ::::{grid} 1 1 2 2
# :::{grid-item}
# :columns: 12 12 7 7
# ![Ten brain slices, those with the best Dice first, then empty ones. Green lines follow the tumours, dashed orange lines are the predictions.](_static/fig-1-5.png)
#
# *Simulated slices, new to the U-Net ({doc}`1.7 <q1/1_7_evaluation>`): true outlines green, predicted ones orange.*
#
# **Tumours.** Yes: on patients it has never seen, a U-Net on a frozen VGG16 stays a few hundredths of Dice below what is published for such patients, and below what two experts reach ({doc}`1.7 <q1/1_7_evaluation>`). Split by slice, as in the report, it is tested on patients whose other slices it was trained on, which flatters it by about four hundredths ({doc}`3.5 <q3/3_5_leakage>`).
# :::
# :::{grid-item}
# :columns: 12 12 5 5
# ![Six road scenes. Most signs carry a green box and an orange one that nearly coincide, with a group and a score above; a few orange boxes stand where no sign is annotated.](_static/fig-2-11.jpeg)
#
# *Simulated roads, new to Faster R-CNN ({doc}`2.2 <q2/2_2_two_stage>`).*
#
# **Signs.** Faster R-CNN leads SSD300 by a little ({doc}`2.4 <q2/2_4_comparison>`). By the rule of the benchmark's own competition, its winners of 2013 are still ahead, above all on mandatory signs.
# :::
# ::::

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

colab.set_up("book")

# %% tags=["hide-input"]
import json
from functools import partial
from pathlib import Path

from IPython.display import display

import beyond
from hw3 import records
from hw3.detection import ap
from hw3.segmentation.metrics import scores
from hw3.tables import score, seeds, sources, table, with_interval

RUNS = Path("runs")
by_report, by_slice = (records.load(RUNS / f"lgg-{own}.json") for own in ("report", "slice"))
folds = beyond.folds(RUNS)


def dice_of(name, runs, parts=("test",)):
    """A mean Dice of these parts of the runs' data, as a cell."""
    return score(scores(beyond.counts(runs, parts), batch_size=20), name)


batches = [dice_of("dice_batch_mean", [own], ["validation"]) for own in (by_report, by_slice)]
patients = dice_of("dice_patient_mean", folds)
frcnn, ssd, official = (
    records.load_seeds(RUNS, f"gtsdb-{own}")
    for own in ("frcnn-random", "ssd-random", "frcnn-official")
)
matches = [ap.match(run.evidence["truths"], run.evidence["detections"]) for run in official]
published_way = partial(ap.mean_average_precision, labels=(1, 2, 3))
three = with_interval(*ap.pooled(matches, published_way))
areas = [ap.pooled(matches, rule)[0] for rule in ap.STATISTICS["competition"].values()]
areas = ", ".join(f"{own:.3f}" for own in areas)
shown = {
    "tumours, the report's recipe": by_report,
    "tumours, split by slice": by_slice,
    "tumours, patients held out": folds,
    "Faster R-CNN, random splits": frcnn,
    "SSD300, random splits": ssd,
    "Faster R-CNN, official split": official,
}

published = json.loads(Path("published.json").read_text())
report = published["original_report"]
dice = f"{report['segmentation']['validation']['dice']:.3f}"
two, one = (
    f"{report['detection'][own]['corrected_over_4_classes']:.2f}"
    for own in ("two_stage", "one_stage")
)
entries = reversed(published["segmentation"] + published["detection"])
best = {own["source"]: f"{own.get('dice', own.get('map50')):.3f}" for own in entries}

first = table(
    ["real data", "ours", "report", "published"],
    [
        ["Dice, validation slices, report's recipe", batches[0], dice, None],
        ["Dice, validation slices, our recipe, larger crops", batches[1], dice, None],
        ["Dice, patients held out, our recipe", patients, None, best["buda2017"]],
        ["AP, random splits, Faster R-CNN", seeds(frcnn, "ap50"), two, None],
        ["AP, random splits, SSD300", seeds(ssd, "ap50"), one, None],
        ["AP of three groups, official split", three, None, best["arcos2018"]],
        ["Competition's rule, official split", areas, None, "1, 1, 1"],
    ],
)
display(first, sources(shown))

# %% [markdown]
# Brackets hold 95 % intervals, over patients for Dice, over seeds and images for AP. Dice is a mean over batches on validation slices, as in the report; in the third row over all patients, each held out once, so that its distance to the rows above is not the leak. AP is at IoU 0.5, in the last row the exact area at 0.6 for prohibitory, mandatory and danger signs; the last two rows are Faster R-CNN's, whose recipe grew with a look at these images. Published: {cite}`buda2017`; {cite}`arcos2018`; the winners of {cite}`houben2013`.
#
# Chapters 1 and 2 follow the report under its own numbers; chapter 3 goes beyond it. Scores on **real data** come from records, from which each can be computed again; **simulated data** are drawn by the book itself, so that every page runs anywhere: by `make book`, or on Colab ({doc}`how <appendix/reproducibility>`), with a GPU on the real data. {doc}`appendix/own_pictures` asks the networks about yours.
