"""Brain-tumour segmentation and traffic-sign detection: two experiments that look alike."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network
__version__ = "0.2.0"
