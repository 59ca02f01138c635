# SPDX-License-Identifier: Apache-2.0
"""SALT with ViT-L on VideoMix, videos of several sources.

As `vjepa_videomix`, but the teacher, `build(teacher=...)`, a transformer of the same grid and as a
rule smaller than the student, learns pixels of the same masks for a fifth as many epochs before and
is frozen then. The paper's abstract states frozen teachers, V-JEPA's masks in both stages and most
compute for the student; its settings are not known to us, and these are V-JEPA's.

Source: Rethinking JEPA, 2025; Bardes et al., 2024.
"""

import dataclasses

from keras_ssl.recipes import vjepa_videomix

RECIPE = dataclasses.replace(
    vjepa_videomix.RECIPE,
    name="salt_videomix",
    method="SALT",
    source="Rethinking JEPA, 2025; Bardes et al., 2024",
    teacher_momentum=None,
    model={"predictor": (384, 12, 16)},
)
