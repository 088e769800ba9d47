"""The page of a small study in a browser: it opens, loads nothing else, plays sounds, and survives any name."""

import json
import re
import shutil

import numpy as np
import pytest

from audiojax.report import page
from tests.report.conftest import CLASSES, IDS, config_of, result_of, tone, write_run, write_tones

HOSTILE = "<img src=x onerror=\"hacked=1\"> & 'row'"
ROWS = {
    HOSTILE: {"published": {"test": {"accuracy": 0.9}}},
    "tags": {"published": {"test": {"mAUC": 0.8}}},
    "second": {"published": {}},
    "without": {"published": {"test": {"accuracy": 0.7}}},
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]


def write_study(workdir, data_dir):
    """Writes two rows of tones (six clips, two seeds) and a row of tags without audio (30 classes, two absent)."""
    write_tones(data_dir)
    label_N = np.arange(6) % 3
    first_N = np.where(np.arange(6) < 3, label_N, (label_N + 1) % 3)  # three right, three wrong
    share_N = np.linspace(0.5, 0.9, 6)[:, None]
    score_NK = (share_N * np.eye(3)[first_N] + (1 - share_N) / 3).astype(np.float32)
    score_RNK = np.stack([score_NK, score_NK[:, ::-1]])
    for row, protocol, split_seed, accuracy in (
        *((HOSTILE, "paper", 0, 0.9), (HOSTILE, "honest", 0, 0.3), (HOSTILE, "honest", 1, 0.5)),
        ("second", "honest", 0, 0.6),
    ):
        result = result_of(
            {"loss": [1.0, 1.0], "accuracy": [accuracy, accuracy]},
            {"accuracy": [[accuracy - 0.1, accuracy + 0.1]] * 2},
            skipped=[["<script>hacked=1</script>.wav", "cannot be read"]],
            notes=["<script>hacked=1</script>"],
        )
        folder = workdir / row / protocol / f"split_{split_seed}"
        write_run(folder, config_of(protocol, split_seed), result, label_N, score_RNK, IDS)

    rng = np.random.default_rng(1)
    label_NK = (rng.random((40, 30)) < 0.3).astype(np.uint8)
    label_NK[:, :2] = 0
    score_RNK = rng.random((1, 40, 30), np.float32)
    result = result_of({"loss": [1.0], "mAP": [0.4], "mAUC": [0.6]}, classes=[f"tag {k}" for k in range(30)])
    folder = workdir / "tags" / "honest" / "split_0"
    config = config_of("honest", select="mAUC", name="embeddings")
    write_run(folder, config, result, label_NK, score_RNK, [f"clip {n}" for n in range(40)])
    (folder / "metrics.jsonl").write_text("")  # as an ensemble leaves it


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    workdir, data_dir = tmp_path_factory.mktemp("study"), tmp_path_factory.mktemp("data")
    write_study(workdir, data_dir)
    page.write("a <b>study</b>", ROWS, {}, workdir, data_dir)
    return workdir


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(study, browser):
    """The page on a dark phone with all details open, its console messages and its requests."""
    context = browser.new_context(viewport={"width": 360, "height": 800}, color_scheme="dark")
    view = context.new_page()
    complaints, requests = [], []
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.goto((study / "report.html").as_uri())
    view.evaluate("document.querySelectorAll('details').forEach(x => x.open = true)")
    view.wait_for_function("[...document.querySelectorAll('[data-media]')].every(x => x.src)")
    view.wait_for_function("[...document.images].every(x => x.complete)")
    yield view, complaints, requests
    context.close()


def test_it_runs_without_complaint_and_asks_nobody_for_anything(opened):
    view, complaints, requests = opened
    assert complaints == []
    assert requests == [view.url]


def test_no_name_becomes_markup(opened):
    view, _, _ = opened
    assert view.evaluate("typeof hacked") == "undefined"
    assert view.locator("h1").inner_text() == "a <b>study</b>"
    assert view.locator("h3").first.inner_text() == HOSTILE
    shown = set(view.locator("figcaption code").all_inner_texts())
    assert {f"{name} at {0.5 * (row % 2):.1f} s" for row, name in enumerate(IDS)} <= shown
    assert CLASSES[1] in view.locator("table").nth(3).inner_text()


def test_every_picture_is_there_and_named(opened):
    view, _, _ = opened
    widths = view.evaluate("[...document.images].map(x => x.naturalWidth)")
    # Three overviews; three details with one label, each with curves, a confusion matrix and nine clips.
    assert len(widths) == 3 + 3 + 3 + 3 * 9
    assert min(widths) > 0
    assert view.evaluate("[...document.images].every(x => x.alt.length > 10)")


def test_sounds_play(opened):
    view, _, _ = opened
    view.wait_for_function("[...document.querySelectorAll('audio')].every(x => x.readyState > 0 || x.error)")
    durations = view.evaluate(
        "[...document.querySelectorAll('audio')].map(x => x.error ? x.error.message : x.duration)"
    )
    assert len(durations) == 3 * 9
    assert durations == pytest.approx([0.5] * len(durations), abs=0.1)


def test_each_clip_is_embedded_once(study):
    text = (study / "report.html").read_text()
    assert text.count("data:audio/mpeg;base64,") == len(IDS)
    # It is wrong and not among the least decided, so it has one picture and one sound.
    assert text.count('data-media="tones/released/all/plain@4000+4000"') == 2 * 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_fits_the_screen(opened, width, scheme, tmp_path):
    view, _, _ = opened
    view.set_viewport_size({"width": width, "height": 900})
    view.emulate_media(color_scheme=scheme)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    ground = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 3 * 128) == (scheme == "light")
    view.screenshot(path=tmp_path / f"report_{width}_{scheme}.png", full_page=True)
    assert (tmp_path / f"report_{width}_{scheme}.png").stat().st_size > 10_000


def test_a_click_on_a_column_sorts_by_it(opened):
    view, _, _ = opened
    rows = lambda: view.evaluate(
        "[...document.querySelector('.sortable').tBodies[0].rows].map(x => x.cells[4].innerText)"
    )
    before = rows()
    honest = view.get_by_role("button", name="honest", exact=True)
    honest.focus()
    view.keyboard.press("Enter")
    down = rows()
    assert sorted(down) == sorted(before)
    assert [text.split()[0] for text in down] == ["0.600", "0.600", "0.400", "0.400", "–"]
    honest.click()
    assert [text.split()[0] for text in rows()] == ["0.400", "0.400", "0.600", "0.600", "–"]
    assert view.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_links_of_the_table_lead_to_rows(opened):
    view, _, _ = opened
    links = view.eval_on_selector_all(
        ".sortable a", "links => links.map(x => [x.textContent, document.querySelector(x.hash).textContent])"
    )
    assert {name for name, _ in links} == {HOSTILE, "tags", "second"}
    assert all(name == heading for name, heading in links)


def test_what_it_says_of_each_row(study):
    text = (study / "report.html").read_text()
    assert "No finished run: without." in re.sub(r"\s+", " ", text)
    assert "split 0, the first of 2 splits; seed 0, the first of 2 (the curves show all)." in text
    assert (
        "The clips below are without picture and sound: embeddings (released), split all, is not in the data folder."
        in text
    )
    assert "20 of 30, the best and the worst of those in the test split" in text
    assert "&lt;script&gt;hacked=1&lt;/script&gt;.wav" in text
    assert "--config.protocol=honest" in text
    assert text.count("<summary><b>") == 4 and text.count("<h4>Learning curves</h4>") == 3


def test_tables_lie_beside_the_page(study):
    assert {path.name for path in study.glob("*.*")} == {"table.md", "table.csv", "table.tex", "report.html"}
    assert "| 0.400 ± 0.115 (0.30–0.50) | +0.600 |" in (study / "table.md").read_text()


def test_the_same_runs_make_the_same_page(study, tmp_path):
    before = (study / "report.html").read_bytes()
    write_tones(tmp_path)
    page.write("a <b>study</b>", ROWS, {}, study, tmp_path)
    assert (study / "report.html").read_bytes() == before


@pytest.mark.parametrize("text", [b"", b"PK\x03\x04 and nothing else"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "predictions/test.npz"])
def test_a_broken_file_of_a_run_is_named_and_the_rest_is_written(tmp_path, name, text):
    write_study(tmp_path, tmp_path / "data")
    broken = tmp_path / "second" / "honest" / "split_0" / name
    broken.write_bytes(text)
    damaged = page.write("study", ROWS, {}, tmp_path, tmp_path / "data")
    written = (tmp_path / "report.html").read_text()
    if name == "metrics.jsonl" and not text:  # as an ensemble leaves it
        assert damaged == []
        return
    [sentence] = damaged
    assert sentence.startswith(str(broken)) and "cannot be read" in sentence and "remove it" in sentence
    assert name in written and written.count("<summary><b>") == 4
    assert written.count("<h4>Least decided</h4>") == (3 if name == "predictions/test.npz" else 4)
    assert "| second |" in (tmp_path / "table.md").read_text()


def test_of_broken_lines_the_others_are_drawn(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "train/loss": [1.0, 2.0]}', "[]", '{"step": 2, "train/loss": [1.0]}', '{"step": "x"}', "{"]
    path.write_text("\n".join([*lines, '{"step": 3, "train/loss": [0.5, null], "valid/loss": [0.1]}']))
    damaged = []
    step_S, value_SR = page.read_curves(path, damaged)["train/loss"]
    assert step_S.tolist() == [1, 3] and value_SR[0].tolist() == [1, 2] and value_SR[1, 0] == 0.5
    [sentence] = damaged
    assert sentence == f"{path}, line 2, 3, 4, 5 cannot be read; remove it: the curves are drawn without it."
    path.unlink()
    assert page.read_curves(path, damaged) == {} and "No such file" in damaged[1]


def test_a_result_of_another_shape_leaves_the_other_rows(tmp_path):
    write_study(tmp_path, tmp_path / "data")
    folder = tmp_path / "second" / "honest" / "split_0"
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"per_class": {"test": []}}))
    [sentence] = page.write("study", ROWS, {}, tmp_path, tmp_path / "data")
    assert sentence.startswith(f"{folder} is not on the page: unforeseen IndexError")
    assert "IndexError" in (folder / "error.log").read_text()
    assert (tmp_path / "report.html").read_text().count("<summary><b>") == 3


def test_names_that_utf_8_lacks_are_on_the_page_and_in_the_table(tmp_path):
    write_tones(tmp_path / "data")
    label_N, names = np.arange(6) % 3, ["caf\udce9", "a\x00b", "line\nfeed"]
    score_NK = np.eye(3, dtype=np.float32)[label_N]
    rows = {"row": {"published": {}}}
    result = result_of({"accuracy": [0.5], "loss": [1.0]}, classes=names, notes=["\udc80"])
    folder = tmp_path / "row" / "caf\udce9" / "split_0"
    write_run(folder, config_of("honest"), result, label_N, score_NK[None], [f"{name}\udce9" for name in IDS])
    assert page.write("study", rows, {}, tmp_path, tmp_path / "data") == []
    text = (tmp_path / "report.html").read_text()
    assert "caf\\udce9" in text and "a\\x00b" in text and "\x00" not in text
    assert "| caf\\udce9 |" in (tmp_path / "table.md").read_text()


def test_the_command_names_the_file_given(tmp_path):
    write_study(tmp_path, tmp_path / "data")
    page.write("study", ROWS, {}, tmp_path, tmp_path / "data", "/elsewhere/my.py")
    text = (tmp_path / "report.html").read_text()
    assert "--config=/elsewhere/my.py:" in text and "--config=configs/" not in text


@pytest.fixture
def recipes(tmp_path):
    """Rows of recipes: one with tables and pictures instead of scores, two with a loss alone."""
    counts = {"header": ["classes", "clips"], "lines": [["<all>", "9,473"]]}
    nothing = result_of({"loss": [0.5]}) | {"per_class": {"test": [{}]}}
    spread = nothing | {"metrics": {"train": {}, "valid": {}, "test": {}}, "tables": {"Promotion": counts}}
    rng = np.random.default_rng(0)
    points = dict(
        xy=rng.normal(size=(40, 2)), label=np.arange(40) % 3, subset=np.array(["verified", "unverified"] * 20)
    )
    images = rng.random((4, 30, 20)).astype(np.float16)
    left = {
        "spread": {"embedding": points | {"group": np.array(["music", "other"]).repeat(20)}},
        "encoder": {"reconstructions": {"id": np.array(IDS[:4]), "image": images, "again": images}},
        "network": {"first_layer": {"id": IDS[0], "response": rng.random((300, 20, 11)).astype(np.float16)}},
    }
    for row, arrays in left.items():
        folder = write_run(
            tmp_path / row / "honest" / "split_0", config_of("honest"), spread if row == "spread" else nothing
        )
        (folder / "plots").mkdir()
        for name, of in arrays.items():
            np.savez(folder / "plots" / f"{name}.npz", **of)
    return tmp_path, {row: {"published": {}} for row in left}


def test_tables_and_pictures_of_recipes_are_on_the_page(recipes):
    workdir, rows = recipes
    page.write("study", rows, {}, workdir, workdir / "data")
    text = (workdir / "report.html").read_text()
    assert "<h4>Promotion</h4>" in text and "&lt;all&gt;" in text and "9,473" in text
    for title in (
        "Latents of music by t-SNE",
        "Latents of other by t-SNE",
        "Spectrograms, and their",
        "First layer: activations",
    ):
        assert f"<h4>{title}" in text
    assert "a&lt;/script&gt;" in text and IDS[0] not in text
    assert "<h4>Classes" not in text and text.count("<h4>Scores</h4>") == 2


@pytest.mark.parametrize("text", [b"", b"PK\x03\x04"])
def test_a_broken_picture_is_named_and_the_others_are_drawn(recipes, text):
    workdir, rows = recipes
    plots = workdir / "spread" / "honest" / "split_0" / "plots"
    (plots / "embedding.npz").write_bytes(text)
    (plots / ".embedding.npz").write_bytes(text)  # as a killed process leaves it
    [sentence] = page.write("study", rows, {}, workdir, workdir / "data")
    assert "plots/embedding.npz cannot be read" in sentence and "remove it and result.json of that run" in sentence
    assert "<h4>First layer: activations" in (workdir / "report.html").read_text()


def test_a_study_that_never_ran_has_a_page(tmp_path):
    page.write("study", ROWS, {}, tmp_path, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "0 of 4 rows have finished runs." in text
    assert "No run is finished yet." in text


def test_what_a_gan_generated_is_on_the_page(tmp_path):
    write_tones(tmp_path / "data")
    folder = tmp_path / "runs" / "gan" / "honest" / "split_0"
    own = {"per_class": {"test": [{}]}, "tables": {"judged": {"header": ["", "real"], "lines": [["far", "1"]]}}}
    test = {"loss": [2.0], "frechet": [7.0], "recognised": [0.3]}
    config = config_of("honest", select="frechet") | {"row": "gan"}
    write_run(folder, config, result_of(test, **own | {"best_step": [20]}))
    (folder / "samples").mkdir()
    for step in (0, 10, 20, 30):
        audio = np.stack([tone(row) // (1 + step) for row in range(3)])
        np.savez(folder / "samples" / f"step_{step}.npz", audio=audio)
    page.write("study", {"gan": {"published": {}}}, {}, tmp_path / "runs", tmp_path / "data")
    text = (tmp_path / "runs" / "report.html").read_text()
    for when in ("before training (step 0)", "halfway (step 10)", "chosen (step 20)"):
        assert text.count(f"<figcaption>cat, {when}") == 1
    assert "(step 30)" not in text and text.count("<figure>") == 9
    assert text.count('"gan/honest/cat@20"') == 3  # picture, sound and the media list
    (folder / "samples" / "step_10.npz").rename(folder / "samples" / "step_40.npz")
    page.write("study", {"gan": {"published": {}}}, {}, tmp_path / "runs", tmp_path / "data")
    text = (tmp_path / "runs" / "report.html").read_text()
    assert "halfway" not in text and text.count("<figure>") == 6
    (folder / "samples" / "step_40.npz").rename(folder / "samples" / "step_10.npz")
    (folder / "samples" / "step_10.npz").write_bytes(b"nothing")
    [sentence] = page.write("study", {"gan": {"published": {}}}, {}, tmp_path / "runs", tmp_path / "data")
    assert "step_10.npz cannot be read" in sentence and "remove that file" in sentence
    assert (tmp_path / "runs" / "report.html").read_text().count("<figure>") == 6
