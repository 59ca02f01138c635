# SPDX-License-Identifier: Apache-2.0
"""Which tokens are hidden from a model."""

from keras_ssl.masking._block import BlockMasking
from keras_ssl.masking._colored import ColoredMasking, colored_noise
from keras_ssl.masking._contiguous import ContiguousMasking
from keras_ssl.masking._corruption import GroupCorruption
from keras_ssl.masking._feature_subset import FeatureSubsetMasking
from keras_ssl.masking._guided import GuidedMasking, predecessor_similarity
from keras_ssl.masking._inverse_block import InverseBlockMasking
from keras_ssl.masking._mixing import PatchMixing
from keras_ssl.masking._multi_block import MultiBlockMasking, block_size
from keras_ssl.masking._multi_tube import MultiTubeMasking, SeveralMaskings
from keras_ssl.masking._plan import Masking, MaskPlan, plan_in_order, plan_of, visible_count
from keras_ssl.masking._random import GroupedMasking, RandomMasking
from keras_ssl.masking._redundant import least_redundant
from keras_ssl.masking._regions import (
    components,
    otsu_threshold,
    region_plan,
    region_sequence,
    salient_regions,
)
from keras_ssl.masking._scheduled import ScheduledMasking
from keras_ssl.masking._show import show
from keras_ssl.masking._span import SpanMasking
from keras_ssl.masking._subset import asked_of, decode_of, decode_part, each_alone, only_real
from keras_ssl.masking._tube import RunningCellMasking, TubeMasking, running_cells
from keras_ssl.masking._window import WindowMasking

__all__ = [
    "BlockMasking",
    "ColoredMasking",
    "ContiguousMasking",
    "FeatureSubsetMasking",
    "GroupCorruption",
    "GroupedMasking",
    "GuidedMasking",
    "InverseBlockMasking",
    "MaskPlan",
    "Masking",
    "PatchMixing",
    "MultiBlockMasking",
    "MultiTubeMasking",
    "RandomMasking",
    "RunningCellMasking",
    "ScheduledMasking",
    "SeveralMaskings",
    "SpanMasking",
    "TubeMasking",
    "WindowMasking",
    "asked_of",
    "block_size",
    "colored_noise",
    "components",
    "decode_of",
    "decode_part",
    "each_alone",
    "least_redundant",
    "only_real",
    "otsu_threshold",
    "plan_in_order",
    "plan_of",
    "predecessor_similarity",
    "region_plan",
    "region_sequence",
    "running_cells",
    "salient_regions",
    "show",
    "visible_count",
]
