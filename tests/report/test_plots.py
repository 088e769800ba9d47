"""Figures show their values, and their SVG is well-formed for any name."""

import urllib.parse
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from audiojax.report import plots, scores
from audiojax.report.scores import Measure
from tests.report.conftest import CLASSES


def svg(figure) -> str:
    head, content = plots.data_uri(figure).split(",", 1)
    assert head == "data:image/svg+xml"
    assert '"' not in content and "#" not in content
    xml.fromstring(text := urllib.parse.unquote(content))
    return text


def test_thinning_takes_means_of_neighbours():
    step_S, value_SR = np.arange(1, 1001), np.stack([np.arange(1000.0), np.ones(1000)], 1)
    thin_S, thin_SR = plots.thinned(step_S, value_SR, 100)
    assert thin_SR.shape == (100, 2)
    assert thin_S[:2].tolist() == [5.5, 15.5]
    assert thin_SR[:2].tolist() == [[4.5, 1.0], [14.5, 1.0]]
    assert [len(x) for x in plots.thinned(step_S[:7], value_SR[:7])] == [7, 7]


def test_curves_draw_each_replica_and_their_mean():
    step_S = np.array([10, 20])
    curves = {
        "train/loss": (step_S, np.array([[2.0, 4.0], [1.0, 2.0]])),
        "valid/loss": (step_S, np.array([[3.0, 3.0], [2.0, 2.0]])),
        "valid/accuracy": (step_S, np.array([[0.1, 0.3], [0.5, 0.7]])),
    }
    loss, accuracy = plots.learning_curves(curves, "accuracy", [20, 10]).axes
    drawn = [list(line.get_ydata()) for line in accuracy.lines[:3]]
    assert drawn == [[0.1, 0.5], [0.3, 0.7], pytest.approx([0.2, 0.6])]
    assert [line.get_xdata()[0] for line in accuracy.lines[3:]] == [10, 20]
    assert len(loss.lines) == 2 * 3 + 2
    assert len(plots.learning_curves(curves, "loss", [20]).axes) == 1


def test_curves_with_gaps_or_none_at_all_are_drawn():
    gaps = {"train/loss": (np.array([1, 2]), np.array([[1.0], [np.nan]]))}
    svg(plots.learning_curves(gaps, "accuracy", [1]))


@pytest.mark.parametrize(("evaluations", "marker"), [(1, "o"), (2, "")])
def test_a_curve_of_a_single_evaluation_is_seen(evaluations, marker):
    curves = {"valid/accuracy": (np.arange(evaluations), np.full((evaluations, 1), 0.5))}
    _, accuracy = plots.learning_curves(curves, "accuracy", [0]).axes
    assert accuracy.lines[0].get_marker() == marker


def test_confusion_writes_counts_of_the_classes_that_occur():
    counts_KK = np.array([[5, 0, 2], [0, 0, 0], [0, 0, 11]])
    figure = plots.confusion(counts_KK, CLASSES)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["5", "2", "11"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "鳥"]
    assert "鳥" in svg(figure)


def test_a_clip_of_any_length_and_silence_have_a_picture():
    for audio_T in (np.zeros(10, np.int16), np.full(500, -32768, np.int16), np.arange(20_000).astype(np.int16)):
        svg(plots.clip(audio_T, 8000))


def test_overview_of_hostile_rows():
    rows = {"<b>&\"'$x$": {"published": {"test": {"accuracy": 0.5}}}, "none": {"published": {}}}
    entries = scores.summarise(rows, [])
    assert "&lt;b&gt;&amp;" in svg(plots.overview(entries, Measure("test", "accuracy")))


def test_a_loss_that_is_the_metric_is_drawn_of_training_and_validation():
    step_S, value_SR = np.array([10, 20]), np.array([[2.0], [1.0]])
    figure = plots.learning_curves(
        {"train/loss": (step_S, value_SR), "valid/loss": (step_S, 2 * value_SR)}, "loss", [20]
    )
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[2.0, 1.0], [4.0, 2.0]]


def test_points_are_drawn_once_above_and_those_kept_below():
    rng = np.random.default_rng(0)
    label_N, kept_N = np.arange(30) % 10, np.arange(30) < 12
    classes = [f"<{k}>" for k in range(10)]
    figure = plots.embedding(rng.normal(size=(30, 2)), label_N, kept_N, classes)
    drawn = [sum(len(points.get_offsets()) for points in axes.collections) for axes in figure.axes]
    assert len(drawn) == 8 and sum(drawn[:4]) == 30 and sum(drawn[4:]) == 12
    named = [text.get_text() for axes in figure.axes[:4] for text in axes.get_legend().get_texts()]
    assert named == classes
    svg(figure)


def test_reconstructions_share_their_original_s_colours_and_large_images_are_thinned():
    image_NHW = np.random.default_rng(0).random((3, 300, 20)).astype(np.float16)
    figure = plots.reconstructions(image_NHW, 2 * image_NHW)
    drawn = [axes.images[0] for axes in figure.axes]
    assert len(drawn) == 6 and drawn[0].get_array().shape == (100, 20)
    assert [image.get_clim() for image in drawn[:3]] == [image.get_clim() for image in drawn[3:]]
    np.testing.assert_array_equal(drawn[0].get_array(), image_NHW[0, ::3].astype(float))
    svg(figure)


def test_every_filter_has_its_picture():
    response_HWF = np.random.default_rng(0).random((9, 7, 11))
    figure = plots.responses(response_HWF)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(np.stack(drawn, -1), response_HWF)
    svg(figure)
