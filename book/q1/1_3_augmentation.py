# %% [markdown]
# # Augmentation
#
# This section varies the training slices at random and shows five results.
# It checks two things that often go wrong: every epoch must differ, and a rerun must not.

# %%
import numpy as np

from hw3 import profiles
from hw3.segmentation import experiment, figures
from hw3.segmentation.augment import TRANSFORMS, Augmentation
from hw3.segmentation.experiment import SPLITS
from hw3.tables import environment, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
train = SPLITS[profile.segmentation.split](dataset, profile.segmentation.seed)["train"]
environment(profile)

# %% [markdown]
# ## Five transforms
#
# A turned or mirrored brain is still a brain, and scanners differ in brightness and contrast. So each training slice is changed at random, together with its mask, by the report's five transforms from albumentations {cite}`buslaev2020`. Only training slices are changed; validation and test slices never are.

# %%
table(
    ["transform", "albumentations", "probability"],
    [[name, type(transform).__name__, transform.p] for name, transform in TRANSFORMS.items()],
)

# %% mystnb={"figure": {"name": "fig-1-2", "caption": "Five augmented training slices and their masks: the five with the largest tumours, after one random draw each. Simulated data, unless this page was run on the real set."}, "image": {"alt": "Five brain slices, turned by quarter turns or mirrored, some brighter or of another tint, above five masks that are turned and mirrored with them."}}
augmentation = Augmentation(profile.segmentation.seed)
areas = dataset.native_masks[train].sum(axis=(1, 2))
five = train[np.argsort(-areas, kind="stable")[:5]]
figures.augmented_slices(dataset, five, augmentation)
# %% [markdown]
# ## Other draws each epoch, the same draws on a rerun
#
# {numref}`fig-1-2` is one draw. The draw of a sample is decided by the seed, the epoch and the sample's index, and by nothing else. A worker process that restarts cannot repeat an epoch's draws, and a rerun repeats all of them.

# %%
image, mask = np.array(dataset.images[five[0]]), np.array(dataset.masks[five[0]])
draws = [augmentation(image, mask, epoch, index=0)[0] for epoch in range(8)]
again = [augmentation(image, mask, epoch, index=0)[0] for epoch in range(8)]
table(
    ["check", "result"],
    [
        ["different images in 8 epochs", len({draw.tobytes() for draw in draws})],
        ["identical on a rerun", all(map(np.array_equal, draws, again))],
        [
            "mask values after all draws",
            str(
                sorted(
                    {
                        int(v)
                        for e in range(8)
                        for v in np.unique(augmentation(image, mask, e, 0)[1])
                    }
                )
            ),
        ],
    ],
)

# %% [markdown]
# ## What this section showed
#
# Slice and mask move together, masks keep their two values, epochs differ, and reruns agree.
