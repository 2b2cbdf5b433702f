# %% [markdown]
# # The curve under average precision
#
# What exactly is the area that average precision measures? This section draws it for one group of signs of this page's own detector.

# %%
from hw3 import profiles
from hw3.detection import ap, experiment, figures
from hw3.tables import Markdown, environment

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
ours, _ = experiment.run(
    profile.faster_rcnn, dataset, kind=kind, name="faster-rcnn", folder=profiles.runs_folder()
)
environment(profile)

# %% mystnb={"figure": {"name": "fig-3-1", "caption": "Precision against recall for prohibitory signs at IoU 0.5, as measured (grey) and interpolated (blue). Average precision is the shaded area."}, "image": {"alt": "Precision starts at 1 and saws downwards as recall grows. A blue staircase lies on its peaks, falling only; the area below it is shaded."}}
matches = ap.match(ours.evidence["truths"], ours.evidence["detections"])
precision, recall, _ = ap.precision_recall(matches, label=1, iou_threshold=0.5)
figures.precision_recall(precision, recall, ap.interpolate(precision))
# %%
exact = ap.average_precision(matches, 1, interpolation="all")
levels = ap.average_precision(matches, 1)
Markdown(
    f"The exact area is **{exact:.4f}**; the mean over 101 levels of recall, as COCO has it, is **{levels:.4f}**."
)

# %% [markdown]
# Precision saws because each false detection lowers it and each hit raises it again. The staircase takes, at each recall, the best precision that this or any higher recall still offers. At another IoU threshold other detections are hits, and the curve is another one.
#
# ## What this section showed
#
# Average precision is the area under a precision-recall staircase at one IoU threshold.
