"""Train, ablate and compare adversarial brain-MRI segmentation."""

__version__ = "0.1.0"
