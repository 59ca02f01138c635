# SPDX-License-Identifier: Apache-2.0
"""Which tokens are hidden from a model."""

from keras_ssl.masking._block import BlockMasking
from keras_ssl.masking._inverse_block import InverseBlockMasking

__all__ = ["BlockMasking", "InverseBlockMasking"]
