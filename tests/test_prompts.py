# SPDX-License-Identifier: Apache-2.0
"""Segmentation from prompted patches, and how well tokens tell objects apart."""

import numpy as np
import pytest
from model_test import images, small_transformer

from keras_ssl import evaluation

RNG = np.random.default_rng(0)


def two_colours(count=4, rows=6, columns=8):
    """A rectangle on a ground, another in every image: raw colours as tokens, and labels."""
    labels = np.zeros((count, rows, columns), int)
    for index, own in enumerate(labels):
        own[1 + index % 2 : 5, 2 : 5 + index % 3] = 1
    colours = np.array([[1.0, 0.1, 0.0], [0.0, 0.2, 1.0]])
    return colours[labels], labels


def noise(labels, width=16):
    return RNG.normal(size=(*labels.shape, width))


def first_of(labels, label):
    """A prompt on one object of every image."""
    return np.array([np.argwhere(own == label)[0] for own in labels])


# --- prompts --------------------------------------------------------------------------------------


def test_similarity_is_the_cosine():
    tokens = noise(np.zeros((3, 4, 5)))
    prompts = np.array([[0, 0], [3, 4], [2, 1]])
    found = evaluation.prompt_similarity(tokens, prompts)
    for image, (row, column) in enumerate(prompts):
        asked = tokens[image, row, column]
        length = np.linalg.norm(tokens[image], axis=-1) * np.linalg.norm(asked)
        np.testing.assert_allclose(found[image], tokens[image] @ asked / length, atol=1e-12)
        assert found[image, row, column] == 1.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_two_colours_are_segmented_from_any_prompt(dtype):
    tokens, labels = two_colours()
    for label in (0, 1):
        prompts = first_of(labels, label)
        found = evaluation.prompt_segmentation(tokens.astype(dtype), prompts, 0.9)
        assert found.dtype == bool and np.array_equal(found, labels == label)


def test_the_thresholds_at_both_ends():
    tokens = noise(np.zeros((3, 4, 5))).astype("float32")
    prompts = np.array([[0, 0], [3, 4], [2, 1]])
    assert evaluation.prompt_segmentation(tokens, prompts, -1.0).all()
    alone = evaluation.prompt_segmentation(tokens, prompts, 1.0)
    assert np.array_equal(np.argwhere(alone)[:, 1:], prompts)
    # What is equal to the prompt belongs to it, whatever its length; a zero token to itself.
    tokens[:, 1, 1] = 3 * tokens[:, 0, 0]
    tokens[1, 3, 4] = 0.0
    again = evaluation.prompt_segmentation(tokens, prompts, 1.0)
    assert again[0].sum() == 2 and again[0, 1, 1] and np.array_equal(again[1:], alone[1:])
    counts = [evaluation.prompt_segmentation(tokens, prompts, t).sum() for t in (-0.5, 0, 0.2, 0.9)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


def test_several_prompts_take_what_either_takes():
    tokens = noise(np.zeros((5, 4, 6)))
    one, two = (RNG.integers(0, 4, (5, 2)) for _ in range(2))
    both = evaluation.prompt_segmentation(tokens, np.stack([one, two], axis=1), 0.2)
    each = [evaluation.prompt_segmentation(tokens, prompts, 0.2) for prompts in (one, two)]
    assert np.array_equal(both, each[0] | each[1])
    assert both.sum() > max(mask.sum() for mask in each)
    order = RNG.permutation(5)
    mixed = evaluation.prompt_segmentation(tokens[order], np.stack([two, one], axis=1)[order], 0.2)
    assert np.array_equal(mixed, both[order])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[0, 0]], r"\(2, 2\)"),
        ([[0.5, 0.0], [0.0, 0.0]], "integers"),
        ([[[0, 0, 0]], [[0, 0, 0]]], "row and column"),
        ([[0, 4], [0, 0]], "outside the 3 x 4 patches"),
        ([[-1, 0], [0, 0]], "outside"),
    ],
    ids=str,
)
def test_wrong_prompts_are_named(prompts, message):
    tokens = np.ones((2, 3, 4, 5))
    with pytest.raises(ValueError, match=message):
        evaluation.prompt_segmentation(tokens, prompts)
    with pytest.raises(ValueError, match="N, rows, columns, D"):
        evaluation.prompt_segmentation(tokens[0], [[0, 0]])
    with pytest.raises(ValueError, match="NaN"):
        evaluation.prompt_segmentation(np.nan * tokens, [[0, 0], [0, 0]])


# --- objects --------------------------------------------------------------------------------------


def test_two_colours_are_told_apart_wholly():
    tokens, labels = two_colours()
    assert evaluation.prompt_iou(tokens, labels, 0.9) == 1.0
    found = evaluation.object_similarity(tokens, labels)
    assert found["overlap"] == 0.0 and found["intra"] == pytest.approx(1.0)
    assert found["inter"] == pytest.approx(0.02 / np.sqrt(1.01 * 1.04))


def test_noise_is_at_chance():
    _, labels = two_colours(64)
    tokens = noise(labels)
    share = np.mean([np.mean(own == label) for own in labels for label in (0, 1)])
    assert evaluation.prompt_iou(tokens, labels, -1.0) == pytest.approx(share)
    # A random set of patches, and the prompt.
    for threshold in (0.0, 0.2):
        found = evaluation.prompt_iou(tokens, labels, threshold)
        taken = np.mean(evaluation.prompt_similarity(tokens, [[0, 0]] * 64) >= threshold)
        drawn = []
        for own in labels:
            for label in (0, 1):
                wanted = (own == label).reshape(-1)
                guess = RNG.uniform(size=(wanted.sum(), wanted.size)) < taken
                guess[np.arange(len(guess)), np.flatnonzero(wanted)] = True
                hits = (guess & wanted).sum(axis=1)
                drawn.append(np.mean(hits / (guess | wanted).sum(axis=1)))
        assert found == pytest.approx(np.mean(drawn), abs=0.02)
        assert found < share + 0.02
    similar = evaluation.object_similarity(tokens, labels)
    assert similar["overlap"] > 0.95
    assert similar["intra"] == pytest.approx(similar["inter"], abs=0.01)


def test_between_the_ends_it_rises_with_the_signal():
    clean, labels = two_colours(16)
    scores = []
    for strength in (0.0, 1.0, 3.0, 10.0):
        tokens = np.concatenate([strength * clean, noise(labels, 13)], axis=-1)
        overlap = evaluation.object_similarity(tokens, labels)["overlap"]
        scores.append((evaluation.prompt_iou(tokens, labels, 0.3), 1.0 - overlap))
    assert scores == sorted(scores) and scores[-1][0] > 0.99 > scores[0][0]


def test_order_of_images_and_names_of_objects_do_not_matter():
    _, labels = two_colours(8)
    tokens = noise(labels)
    order = RNG.permutation(8)
    want = evaluation.prompt_iou(tokens, labels, 0.1)
    assert evaluation.prompt_iou(tokens[order], labels[order], 0.1) == pytest.approx(want)
    assert evaluation.prompt_iou(tokens, 7 - labels, 0.1) == pytest.approx(want)
    want = evaluation.object_similarity(tokens, labels)
    found = evaluation.object_similarity(tokens[order], 7 - labels[order])
    assert found == pytest.approx(want)


def test_unlabelled_patches_take_no_part_and_the_background_is_not_asked():
    tokens, labels = two_colours(2)
    spoiled, partly = tokens.copy(), labels.copy()
    spoiled[:, 0] = RNG.normal(size=spoiled[:, 0].shape)
    partly[:, 0] = -1
    assert evaluation.prompt_iou(spoiled, partly, 0.9) == 1.0
    assert evaluation.object_similarity(spoiled, partly)["overlap"] == 0.0
    # All of the image for each object: its share of what has a label.
    shares = [np.mean(own[1:] == 1) for own in labels]
    found = evaluation.prompt_iou(spoiled, partly, -1.0, background=0)
    assert found == pytest.approx(np.mean(shares))
    # The ground of many colours is still one ground, not to be alike.
    spoiled = np.where(labels[..., None] == 0, RNG.normal(size=tokens.shape), tokens)
    pairs = evaluation.object_similarity(spoiled, labels, background=0)
    assert pairs["intra"] == pytest.approx(1.0) and pairs["inter"] < 0.9
    assert evaluation.object_similarity(spoiled, labels)["intra"] < 0.9


def test_two_instances_by_hand():
    tokens = np.array([[[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]]])
    labels = np.array([[[0, 0, 1]]])
    # At 0.7: the first two take each other; the third nothing.
    assert evaluation.prompt_iou(tokens, labels, 0.7) == 1.0
    # At 0.5 the second takes all (2 of 3), the third two (1 of 2): ((1 + 2/3) / 2 + 1/2) / 2.
    assert evaluation.prompt_iou(tokens, labels, 0.5) == pytest.approx(2 / 3)
    found = evaluation.object_similarity(tokens, labels)
    assert found == pytest.approx({"intra": 0.8, "inter": 0.3, "overlap": 0.0})


def test_patch_labels_are_the_most_frequent():
    masks = RNG.integers(-1, 3, (3, 8, 6))
    found = evaluation.patch_labels(masks, (4, 2))
    assert found.shape == (3, 2, 3)
    for place in np.ndindex(found.shape):
        image, row, column = place
        inside = masks[image, 4 * row : 4 * row + 4, 2 * column : 2 * column + 2]
        names, counts = np.unique(inside, return_counts=True)
        assert found[place] == names[counts.argmax()]
    for wrong, patch in ((masks, 5), (masks, (4, 4)), (masks[0], 2), (masks / 2, 2)):
        with pytest.raises(ValueError, match="masks are integers"):
            evaluation.patch_labels(wrong, patch)


def test_wrong_labels_are_named():
    tokens, labels = two_colours(2)
    for score in (evaluation.prompt_iou, evaluation.object_similarity):
        with pytest.raises(ValueError, match="one for each patch"):
            score(tokens, labels[:, :-1])
        with pytest.raises(ValueError, match="too few objects"):
            score(tokens, 0 * labels - 1)
    with pytest.raises(ValueError, match="too few objects"):
        evaluation.object_similarity(tokens, 0 * labels)


# --- from an encoder ------------------------------------------------------------------------------


def test_tokens_of_an_encoder_come_on_their_grid():
    encoder = small_transformer(registers=1)
    raw = images(5)

    def preprocess(x):
        return np.asarray(x, "float32") / 255.0

    found = evaluation.patch_tokens(encoder, raw, preprocess, batch_size=2)
    whole = np.asarray(encoder.token_model()(preprocess(raw)))[:, 2:]
    np.testing.assert_allclose(found, whole.reshape(5, 4, 4, 12), atol=1e-5)


def test_the_picture_frames_the_prompt_and_darkens_the_rest():
    encoder, raw = small_transformer(), images(2).astype("float32") / 255.0
    prompts = [[1, 2], [3, 0]]
    picture = evaluation.prompt_picture(encoder, raw, prompts, threshold=1.0)
    assert picture.shape == (2 * 98, 3 * 98, 3) and picture.dtype == "uint8"
    red = np.all(picture[1:97, 1:97] == (255, 0, 0), axis=-1)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 47, 48, 71)
    # Of the third cell only the prompt is as it was.
    image, cut = picture[1:97, 1:97], picture[1:97, 197:293]
    same = np.all(image == cut, axis=-1)
    assert same[26:46, 50:70].all() and not same[0:24].any()
    everything = evaluation.prompt_picture(encoder, raw, prompts, threshold=-1.0)
    assert np.array_equal(everything[1:97, 197:293][~red], everything[1:97, 1:97][~red])
