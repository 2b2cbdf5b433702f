# %% [markdown]
# # The network
#
# This section builds the network and draws it.
# {numref}`fig-1-3` is read off the model by one forward pass; nothing in it was drawn by hand.

# %%
import torch

from hw3 import profiles
from hw3.segmentation import experiment, figures
from hw3.tables import Markdown, environment

profile = profiles.active()
settings = profile.segmentation
torch.manual_seed(settings.seed)
model = experiment.build(settings, settings.encoder_weights)
environment(profile)

# %% mystnb={"figure": {"name": "fig-1-3", "caption": "The structure of the network: output shapes (channels × height × width) and parameters, frozen or trained, as measured on the model of this page."}, "image": {"alt": "A U-shaped diagram. Five grey boxes, the frozen blocks of VGG16, go down the left side. Four blue boxes, the trained decoder levels, come up the right side. An arrow leads across from each of the upper four grey boxes to the blue box beside it. A last blue box, a 1 by 1 convolution, gives one channel at full size."}}
figures.architecture(model, settings.image_size)
# %% [markdown]
# ## Reading the figure
#
# Down the left, VGG16 halves the image four times. Each level of the decoder doubles the size by repeating pixels, joins the encoder's map of that size, and applies two 3 × 3 convolutions, each with BatchNorm and ReLU. The last convolution gives one number a pixel, a *logit*: above 0 means tumour more likely than not.
#
# Two choices are ours, since the report does not state them. Feature maps are normalised before they are joined, because VGG16's activations reach into the hundreds. And the upsampling has no weights, which avoids the checkerboard that transposed convolutions can leave.

# %%
trained = sum(p.numel() for p in model.trained_parameters())
seen = model(torch.rand(2, 3, settings.image_size, settings.image_size)).shape
Markdown(
    f"The encoder's weights on this page: **{settings.encoder_weights}**. Decoder channels "
    f"{settings.decoder_channels}, {trained:,} trained parameters. Two images of side "
    f"{settings.image_size} give logits of shape {tuple(seen)}."
)

# %% [markdown]
# ## What this section showed
#
# One forward pass through a frozen encoder, a small decoder, and one logit for every pixel.
