"""Brain-tumour segmentation and traffic-sign detection: two experiments that look alike."""

__version__ = "0.2.0"
