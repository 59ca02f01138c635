# SPDX-License-Identifier: Apache-2.0
"""Views per second of one recipe: crop, flip, jitter, grey, blur; ours against the peers.

    python benchmarks/views.py [--only 32] [--repeats 5] [--threads 2]

All contenders run in one process and in turns, so that other load on the machine meets them alike;
the median over the turns and the ratio to ours are printed as a Markdown table. A peer that is not
installed is left out, and so is a member it does not have (the table says which).
"""

import argparse
import math
import os
import statistics
import time

JITTER = (0.4, 0.4, 0.4, 0.1)
AREA = (0.08, 1.0)
CASES = {32: (32, 256), 224: (256, 64)}


def ours(size, images):
    """The package's fused pipeline in a graph."""
    import tensorflow as tf

    from keras_ssl import views

    pipeline = views.Pipeline(
        [
            views.RandomResizedCrop(size, AREA),
            views.HorizontalFlip(),
            views.ColorJitter(*JITTER),
            views.Grayscale(0.2),
            views.GaussianBlur(probability=0.5),
        ]
    )
    step = tf.function(lambda batch: pipeline(batch))
    batch = tf.constant(images)
    return lambda: step(batch).numpy(), "all"


def tf_image(size, images, blur=True):
    """tf.data with tf.image, one image at a time on all threads."""
    import tensorflow as tf

    radius = 6

    def one(image):
        image = tf.image.convert_image_dtype(image, tf.float32)
        area = tf.random.uniform([], *AREA)
        aspect = tf.exp(tf.random.uniform([], math.log(3 / 4), math.log(4 / 3)))
        side = float(image.shape[0])
        height = tf.minimum(side * tf.sqrt(area / aspect), side)
        width = tf.minimum(side * tf.sqrt(area * aspect), side)
        height, width = (tf.cast(tf.maximum(edge, 1.0), tf.int32) for edge in (height, width))
        image = tf.image.random_crop(image, tf.stack([height, width, 3]))
        image = tf.image.resize(image, (size, size), antialias=True)
        image = tf.image.random_flip_left_right(image)
        image = tf.cond(tf.random.uniform([]) < 0.8, lambda: jitter(image), lambda: image)
        grey = tf.random.uniform([]) < 0.2
        image = tf.cond(
            grey, lambda: tf.repeat(tf.image.rgb_to_grayscale(image), 3, axis=-1), lambda: image
        )
        if not blur:
            return image
        return tf.cond(tf.random.uniform([]) < 0.5, lambda: blurred(image), lambda: image)

    def jitter(image):
        image = tf.image.random_brightness(image, JITTER[0])
        image = tf.image.random_contrast(image, 1 - JITTER[1], 1 + JITTER[1])
        image = tf.image.random_saturation(image, 1 - JITTER[2], 1 + JITTER[2])
        return tf.clip_by_value(tf.image.random_hue(image, JITTER[3]), 0.0, 1.0)

    def blurred(image):
        taps = tf.range(-radius, radius + 1, dtype=tf.float32)
        taps = tf.exp(-0.5 * tf.square(taps / tf.random.uniform([], 0.1, 2.0)))
        taps = tf.tile((taps / tf.reduce_sum(taps))[:, None, None, None], [1, 1, 3, 1])
        image = tf.nn.depthwise_conv2d(image[None], taps, [1] * 4, "SAME")
        taps = tf.transpose(taps, [1, 0, 2, 3])
        return tf.nn.depthwise_conv2d(image, taps, [1] * 4, "SAME")[0]

    data = tf.data.Dataset.from_tensors(images).repeat().unbatch()
    data = data.map(one, num_parallel_calls=tf.data.AUTOTUNE).batch(len(images))
    iterator = iter(data.prefetch(1))
    return lambda: next(iterator).numpy(), "all" if blur else "no blur"


def tf_image_without_blur(size, images):
    """As `tf_image`, with the member most people leave out left out."""
    return tf_image(size, images, blur=False)


def keras_layers(size, images):
    """Keras preprocessing layers on batches in a graph."""
    import keras

    layers = [
        keras.layers.RandomCrop(size, size),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomColorJitter(
            value_range=(0, 255),
            brightness_factor=JITTER[0],
            contrast_factor=JITTER[1],
            saturation_factor=(0.3, 0.7),
            hue_factor=JITTER[3],
        ),
        keras.layers.RandomGrayscale(0.2),
        keras.layers.RandomGaussianBlur(
            factor=0.5, kernel_size=13, sigma=1.0, value_range=(0, 255)
        ),
    ]
    return _layers(layers, images), "crop without resize, blur sigma at most 1"


def keras_cv(size, images):
    """keras-cv preprocessing layers on batches in a graph."""
    import keras_cv

    layers = [
        keras_cv.layers.RandomCropAndResize((size, size), AREA, (3 / 4, 4 / 3)),
        keras_cv.layers.RandomFlip("horizontal"),
        keras_cv.layers.RandomColorJitter(
            value_range=(0, 255),
            brightness_factor=JITTER[0],
            contrast_factor=JITTER[1],
            saturation_factor=(0.3, 0.7),
            hue_factor=JITTER[3],
        ),
        keras_cv.layers.RandomGaussianBlur(kernel_size=13, factor=(0.1, 2.0)),
    ]
    return _layers(layers, images), "no grey, blur always"


def torchvision(size, images):
    """torchvision transforms (v2) on uint8 tensors, one image at a time."""
    import torch
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, AREA, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*JITTER)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], 0.5),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    from concurrent.futures import ThreadPoolExecutor

    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    pool = ThreadPoolExecutor(int(os.environ["TF_NUM_INTRAOP_THREADS"]))
    return lambda: torch.stack(list(pool.map(transform, batch))).numpy(), "all"


def _layers(layers, images):
    import tensorflow as tf

    def chain(batch):
        batch = tf.cast(batch, tf.float32)
        for layer in layers:
            batch = layer(batch, training=True)
        return batch

    step, batch = tf.function(chain), tf.constant(images)
    return lambda: step(batch).numpy()


CONTENDERS = {
    "keras_ssl": ours,
    "tf.data + tf.image": tf_image,
    "tf.data + tf.image (no blur)": tf_image_without_blur,
    "keras.layers": keras_layers,
    "keras-cv": keras_cv,
    "torchvision": torchvision,
}


def measure(run, batch_size, seconds):
    """Views per second over at least `seconds` of wall clock."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        run()
        count += 1
    return count * batch_size / (time.perf_counter() - start)


def benchmark(size, repeats, seconds):
    """Measures all contenders in turns and prints the table of one size."""
    import numpy as np

    source, batch_size = CASES[size]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, source, source, 3), dtype=np.uint8)
    runs, notes, rates = {}, {}, {}
    for name, make in CONTENDERS.items():
        try:
            runs[name], notes[name] = make(size, images)
            for _ in range(3):
                runs[name]()
        except (ImportError, AttributeError) as error:
            runs.pop(name, None)
            print(f"{name} left out: {error}")
    for _ in range(repeats):
        for name, run in runs.items():
            rates.setdefault(name, []).append(measure(run, batch_size, seconds))
    ratios = {
        name: statistics.median(a / b for a, b in zip(rates["keras_ssl"], values, strict=True))
        for name, values in rates.items()
    }
    print(f"\n{size} px from {source} px, batch {batch_size}, median of {repeats} turns\n")
    print("| contender | members | views/s | ours is faster by |\n|---|---|---|---|")
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"| {name} | {notes[name]} | {rate:,.0f} | {ratios[name]:.2f}× |")
    # A peer that leaves members out does less work.
    peers = [r for name, r in ratios.items() if name != "keras_ssl" and notes[name] == "all"]
    if peers:
        print(f"\nagainst the best peer that has all members: {min(peers):.2f}×")


def main():
    """Reads the command line and runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, choices=sorted(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for name in ("INTRAOP", "INTEROP"):
        os.environ[f"TF_NUM_{name}_THREADS"] = str(options.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for size in [options.only] if options.only else sorted(CASES):
        benchmark(size, options.repeats, options.seconds)


if __name__ == "__main__":
    main()
