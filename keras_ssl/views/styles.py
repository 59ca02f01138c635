# SPDX-License-Identifier: Apache-2.0
"""One Fourier style for all images of a batch."""

import keras
import numpy as np
from keras import ops

from keras_ssl.core import distribution
from keras_ssl.views._transform import check_probability, interval, register
from keras_ssl.views.pipeline import as_seed
from keras_ssl.views.preprocessing import check_images, to_unit

# Amplitudes below this share of the number of pixels are rounding errors of float32.
_NOTHING = 1e-6


@register
class BatchStylesStandardization(keras.layers.Layer):
    """Gives all images of a batch the low-frequency amplitudes of one of them.

    Every channel of every image goes through a Fourier transform. Amplitudes in a window around
    frequency zero are replaced by those of one image drawn from the batch; phases, and everything
    outside the window, are kept. Contrastive methods then cannot tell images apart by their style,
    and views of one image have different styles where each view draws its own.

    One window and one style image hold for the whole batch; under several replicas the style image
    is drawn from the batch of all of them. A frequency that an image lacks altogether has no phase,
    and stays at zero.

    It runs in `tf.data` (after `batch`), in `keras.Sequential`, and as a member of `Pipeline`,
    after the crop: there it follows the pipeline's seed.

    Args:
        area: range of the window's share r of all frequencies, drawn uniformly per batch, or one
            number; 0 changes nothing, 1 replaces all amplitudes.
        probability: share of the batches that are changed.
        clip: whether the result is clipped to 0..1, which the new amplitudes can leave.
        seed: seed of the layer's own generator, used when a call gives none.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: for a share outside of 0..1 or an unordered range.

    Source: Scalbert et al., 2024, Towards domain-invariant Self-Supervised Learning with Batch
    Styles Standardization, figure 1; https://arxiv.org/abs/2303.06088. Inferred here, since the
    authors' code could not be read: the range of r, its uniform distribution, a rectangular window
    of the image's aspect ratio, and that amplitudes are replaced rather than mixed. The paper also
    gives all images of a batch the same colour jitter; that is not part of this layer.

    Example:

    ```python
    styles = BatchStylesStandardization()
    view = Pipeline([RandomResizedCrop(32), styles, HorizontalFlip()])
    data = data.batch(256).map(styles)
    ```
    """

    # What a pipeline hands to the layer and expects back.
    value_range = (0.0, 1.0)
    # Unlike other layers in a pipeline it needs no warning under several replicas.
    draws_for_all_replicas = True

    def __init__(self, area=(0.02, 1.0), probability=1.0, clip=True, seed=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.area = interval(area, "area")
        if self.area[0] < 0.0 or self.area[1] > 1.0:
            raise ValueError(f"`area` is a share of all frequencies, in 0..1; got {area}.")
        self.probability = check_probability(probability)
        self.clip, self.seed = bool(clip), seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, images, training=True, seed=None):
        """Standardises the styles of a batch.

        Args:
            images: (B, H, W, C) uint8 of 0..255 or float of 0..1.
            training: False leaves the images as they are.
            seed: None for the next of the layer's own generator, an int, or int32 (2,).

        Returns:
            (B, H, W, C) float32, in 0..1 with `clip`.
        """
        check_images(images)
        images = to_unit(images)
        if not training:
            return images
        drawn = self._draw(images, as_seed(seed, self.seed_generator))
        return self.transform_images(images, drawn)

    def get_random_transformation(self, images, training=True, seed=None):
        """Draws the window and the style image of a batch.

        Args:
            images: (B, H, W, C).
            training: unused, part of Keras' interface.
            seed: a `keras.random.SeedGenerator`, or None for the layer's own.

        Returns:
            `{"area": scalar share, "style": scalar index in the global batch}`.
        """
        return self._draw(images, distribution.next_seed(seed or self.seed_generator))

    def _draw(self, images, seed):
        applied, share, chosen = ops.unstack(distribution.uniform_batch(seed, (3,)), num=3)
        low, high = self.area
        rows = ops.shape(images)[0] * distribution.replica_count()
        index = ops.cast(chosen * ops.cast(rows, "float32"), "int32")
        return {
            "area": ops.where(applied < self.probability, low + share * (high - low), 0.0),
            # float32 may round a number just below 1 times the rows up to the rows.
            "style": ops.minimum(index, rows - 1),
        }

    def transform_images(self, images, transformation, training=True):
        """Replaces the amplitudes; a pure function but for the style image's way to all replicas.

        Args:
            images: (B, H, W, C) float32.
            transformation: what `get_random_transformation` returned.
            training: unused, part of Keras' interface.

        Returns:
            (B, H, W, C) float32.
        """
        planes = ops.transpose(ops.cast(images, "float32"), (0, 3, 1, 2))
        real, imaginary = ops.fft2((planes, ops.zeros_like(planes)))
        style = self._style_image(planes, transformation["style"])
        wanted = _amplitude(ops.fft2((style, ops.zeros_like(style))))
        amplitude = _amplitude((real, imaginary))
        height, width = planes.shape[2:]
        present = amplitude > _NOTHING * height * width
        replaced = ops.logical_and(_window(transformation["area"], height, width), present)
        factor = ops.where(replaced, wanted / ops.where(present, amplitude, 1.0), 1.0)
        result, _ = ops.ifft2((real * factor, imaginary * factor))
        result = ops.transpose(result, (0, 2, 3, 1))
        return ops.clip(result, 0.0, 1.0) if self.clip else result

    def _style_image(self, planes, index):
        """The drawn image of the batch of all replicas, (1, C, H, W)."""
        rows = ops.shape(planes)[0]
        chosen = ops.take(planes, ops.mod(index, rows), axis=0)
        if distribution.replica_count() > 1:
            mine = ops.equal(index // rows, distribution.replica_id())
            chosen = distribution.all_reduce_sum(chosen * ops.cast(mine, "float32"))
        return ops.expand_dims(chosen, 0)

    def compute_output_shape(self, input_shape):
        """Same as the input's."""
        return tuple(input_shape)

    def compute_output_spec(self, images, **kwargs):
        """float32 images of the same shape."""
        return keras.KerasTensor(images.shape, dtype="float32")

    def get_config(self):
        """The constructor's arguments."""
        names = ("area", "probability", "clip", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _amplitude(spectrum):
    real, imaginary = spectrum
    return ops.sqrt(ops.square(real) + ops.square(imaginary))


def _window(area, height, width):
    """Which frequencies are replaced, (H, W) boolean; empty for an area of 0.

    Symmetric under a change of sign, the Nyquist frequency of even sizes being its own negative:
    otherwise the inverse transform would not be real.
    """
    side = ops.sqrt(area)
    inside = []
    for size in (height, width):
        frequency = np.abs(np.fft.fftfreq(size, 1.0 / size)).astype("float32")
        inside.append(2.0 * frequency <= side * float(size))
    whole = ops.logical_and(inside[0][:, None], inside[1][None, :])
    return ops.logical_and(whole, area > 0.0)
