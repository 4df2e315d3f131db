"""MobileSAM as plain PyTorch with the official parameter names: the reference for every export.

In: a state dict (439 entries, see `checkpoint.py`). Out: a `Sam` in eval mode.
"""

from mobilesam_export.model.sam import PIXEL_MEAN, PIXEL_STD, Sam, build_sam, expected_entries

__all__ = ["PIXEL_MEAN", "PIXEL_STD", "Sam", "build_sam", "expected_entries"]
