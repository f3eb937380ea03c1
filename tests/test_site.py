"""The course as a site: that it builds, that it holds together, and what a reader with no network sees of it."""

import os
import re
import runpy
import shutil
import tomllib
from html import unescape
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from conftest import code_cells, phone
from nbconvert import HTMLExporter
from nbformat import v4
from photo_files import saved
from PIL import Image

from course import pages, site, widgets
from course.__main__ import main
from srlib.files import ROOT

FIRST, SECOND = pages.NAMES[:2]
AXE_RULES = ("color-contrast", "document-title", "empty-heading", "heading-order", "html-has-lang", "image-alt",
             "link-name", "page-has-heading-one", "scrollable-region-focusable", "table-fake-caption",
             "td-headers-attr", "th-has-data-cells")  # fmt: skip


def html_files(folder):
    """The pages that a reader can come to."""
    return [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]


def test_no_link_between_the_pages_or_to_another_file_is_dead(built):
    texts = {path: path.read_text(encoding="utf-8") for path in html_files(built.resolve())}
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for url in sorted(map(unescape, set(re.findall(r'\b(?:href|src)="([^"]+)"', text)))):
            parts = urlsplit(url)
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = parts.fragment and to in ids and unquote(parts.fragment) not in ids[to]
            assert parts.scheme or (to.exists() and not lost), f"{path.name}: {url}"


def test_the_course_is_whole_and_figures_are_numbered(built):
    index = (built / "index.html").read_text(encoding="utf-8")
    for name, notebook in pages.read_all(pages.FOLDER).items():
        html = (built / f"{name}.html").read_text(encoding="utf-8")
        raw = (pages.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
        assert f'href="{name}.html"' in index
        assert (built / "_sources" / f"{name}.ipynb").read_text(encoding="utf-8") == raw
        # the marker in code; prose may speak of it
        assert not any(left in html for left in ('"c1"># NBVAL', ">contents</", "cell-id="))
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        texts = [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]
        assert [unescape(alt) for alt in re.findall(r'<img alt="([^"]*)" src="_images', html)] == texts
        numbers = [(name[1], str(number)) for number, _ in enumerate(texts, 1)]
        assert re.findall(r'<figure [^>]*id="figure-(\d)-(\d+)"', html) == numbers
        assert re.findall(r'<span class="caption-text">Figure (\d)\.(\d+)\. [^<]{9}', html) == numbers
        found = re.findall(r'href="(?:\w+\.html)?#figure-[\d-]+"><span class="std std-ref">.*?\(Figure ', html)
        assert len(found) == len(re.findall(r"\]\(\w+\.ipynb#cell-id=", raw))


def test_papers_terms_pages_and_functions_explain_themselves(built):
    words = runpy.run_path(str(site.TEXTS / "extensions" / "words.py"))
    known = str([urls for _, urls in words["PAPERS"].values()])
    for name, page in pages.read_all(pages.FOLDER).items():
        prose = "".join(cell.source for cell in page.cells if "outputs" not in cell)
        named = re.findall(r"(?:arxiv\.org/abs/|doi\.org/|arXiv[: ](?=\d{4}\.))([^])\s]*[^])\s.,;])", prose)
        lost = [paper for paper in named if words["VERSION"].sub("", paper) not in known]
        assert lost == [], f"{name}: not in references.bib"
    references = (built / "references.html").read_text(encoding="utf-8")
    entries = dict(re.findall(r'<div class="citation" id="(\w+)"(.*?)</div>', references, re.DOTALL))
    assert [key for key, entry in entries.items() if " Named in <a" in entry] == [*entries]
    assert entries.keys() == words["PAPERS"].keys()
    html, api = ((built / name).read_text(encoding="utf-8") for name in (f"{SECOND}.html", "api/measure.html"))
    assert re.search(r'href="references.html#shi2016espcn" title="Shi et al.: Real-Time [^"]*2016">Shi et', html)
    assert re.search(r'<a class="term[^>]* href="\w+.html" title="4 Checkerboard[^"]*">page 4</a>', html)
    assert re.search(r'<a class="term[^>]*title="The grid that a network prints[^"]*"[^>]*>ripple</a>', html)
    assert len(re.findall(r">HR</a>", html)) == 1, "the first use alone"
    assert re.search(r'id="srlib\.measure\.metrics\.psnr"(.|\n)*Peak signal-to-noise ratio in dB', api)


@pytest.fixture
def few_texts(tmp_path, monkeypatch):
    """The site without its API, which takes most of the time."""
    shutil.copytree(site.TEXTS, folder := tmp_path / "texts", ignore=shutil.ignore_patterns("api", "own.md"))
    index = folder / "index.md"
    index.write_text(index.read_text(encoding="utf-8").replace("own\napi/index\n", ""), encoding="utf-8")
    monkeypatch.setattr(site, "TEXTS", folder)
    return folder


def test_warnings_are_errors_and_a_folder_without_pages_is_refused(few_texts, tmp_path, capsys):
    wrong = f"[gone](gone.md), $\\nosuch{{x}}$, [a figure]({FIRST}.ipynb#cell-id=lost)"
    (few_texts / "launch.md").write_text(f"# Launch\n\n{wrong}\n", encoding="utf-8")
    assert main(["site", "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert all(said in error for said in ("gone.md", "nosuch", "cell-id=lost): no figure is there")), error
    assert main(["site", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_site_of_a_failed_run_shows_how_far_it_came(few_texts, tiny_series, tmp_path):
    page = pages.read(tiny_series() / f"{FIRST}.ipynb")
    links = f"[the next]({SECOND}.ipynb), [a figure]({SECOND}.ipynb#cell-id=x)"
    page.cells[0].source = f"[contents](../README.md)\n\n# Page 01\n\n{links}, [this](#x), [far](https://a.org)"
    page.cells[3].outputs = [v4.new_output("error", ename="KeyError", evalue="'x'", traceback=["KeyError"])]
    pages.write(tmp_path / f"{FIRST}.ipynb", page)
    assert site.build(tmp_path, tmp_path) == ""
    html, index, found = ((tmp_path / f"{name}.html").read_text() for name in (FIRST, "index", "results"))
    assert "KeyError" in html
    assert "the next, a figure, " in html, "a page that is not there is not linked"
    assert 'href="https://a.org"' in html
    assert "try.html" not in index, "the demo is in the site alone"
    assert "failed" in found
    (few_texts / "conf.py").unlink()
    assert "conf.py" in site.build(tmp_path, tmp_path), "what went wrong is said, not raised"


def test_ten_lines_for_a_project_of_ones_own_work(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (site.TEXTS / "own.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 10
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        saved(f"photos/{number}.png", size=(40 + number, 40), repeat=10)
    saved("holiday.jpg", size=(40, 60))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    exec(code.replace("steps=600", "steps=2"), {})
    assert Image.open("holiday_x4.png").size == (160, 240)


def test_launchers_know_where_the_course_is_published_and_how_it_is_set_up(built):
    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    (offered,) = built.glob("_downloads/*/colab.ipynb")
    assert f'ADDRESS = "{address}"' in pages.read(offered).cells[1].source
    launch = (built / "launch.html").read_text(encoding="utf-8")
    assert f"git clone {address}" in re.sub(r"<[^>]*>", "", launch)
    assert ("does not know where it is published" in launch) == ("OWNER/" in address), "the reader is told"
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)


def test_every_page_is_whole_without_a_network_and_fits_a_phone(built, browser):
    for path in html_files(built):
        with phone(browser, path) as page:
            page.wait_for_timeout(100)  # for what scripts do after it has loaded
            assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
            prose = page.evaluate("""() => {
                const copy = document.body.cloneNode(true);
                copy.querySelectorAll("pre, code, script, style").forEach(element => element.remove());
                return copy.textContent;
            }""")
            assert re.findall(r"\\[a-zA-Z]{2,}|\$\$", prose) == [], "TeX that was not set"


def test_search_finds_pixel_shuffle_and_a_desk_has_its_tools(built, browser):
    with browser.new_page(viewport={"width": 1400, "height": 900}) as page:
        page.goto((built / "search.html").as_uri() + "?q=pixel+shuffle")
        page.wait_for_selector(f'#search-results a[href^="{SECOND}.html"]', timeout=10_000)
        page.goto((built / f"{FIRST}.html").as_uri())
        assert page.locator("button.copybtn").count() > 10
        assert page.locator(f'a[href="_sources/{FIRST}.ipynb"]').count() == 1
        page.locator(".theme-switch-button:visible").click()
        page.locator("[data-mode=dark]:visible", has_text="Dark").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"
        for event, theme in (("beforeprint", "light"), ("afterprint", "dark")):  # paper is white
            page.evaluate(f"dispatchEvent(new Event('{event}'))")
            assert page.evaluate("document.documentElement.dataset.theme") == theme


def test_slides_show_questions_and_figures_one_at_a_time(built, browser):
    cells = [cell for cell in code_cells(SECOND) if not pages.has_tag(cell, pages.SOLUTION)]
    figures = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    with browser.new_page(viewport={"width": 1280, "height": 720}) as page:
        page.goto((built / "for-teachers.html").as_uri())
        page.locator('a[href^="slides/"]').nth(1).click()
        page.wait_for_url((built / "slides" / f"{SECOND}.html").as_uri())
        assert page.locator("figure").count() == len(figures)
        assert page.locator(".question").count() == sum(cell.source.count("predict(") for cell in cells)
        slides = page.locator("section").count()
        for key, place in (("ArrowRight", 2), (" ", 3), ("ArrowLeft", 2)):
            page.keyboard.press(key)
            page.wait_for_function(f"document.getElementById('place').textContent == '{place} of {slides}'")
            box = page.locator("section").nth(place - 1).bounding_box()
            assert box["y"] == pytest.approx(0, abs=2)
            assert box["height"] <= 721
        assert page.locator(f'figcaption a[href="../{SECOND}.html#figure-2-1"]').count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_headings_and_alternative_texts_pass_axe(scheme, built, browser):
    rules = {"type": "rule", "values": AXE_RULES if scheme == "light" else AXE_RULES[:1]}  # dark: its contrast
    with browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme) as page:
        for path in html_files(built):
            if "_modules" in path.parts and path.stem != "trainer":
                continue  # source code, all of one kind
            page.goto(path.as_uri())
            # the theme lets the keyboard scroll wide code, a moment after it has loaded
            page.wait_for_function("[...document.querySelectorAll('pre')].every(e => e.hasAttribute('tabindex'))")
            page.evaluate(AXE_SCRIPT)
            # thousands of coloured words of code, of the same colours as on the page of the trainer
            where = {"exclude": [".highlight"]} if path.stem in pages.NAMES else {"include": ["html"]}
            result = page.evaluate("([where, runOnly]) => axe.run(where, { runOnly })", [where, rules])
            found = [(v["id"], node["html"][:200]) for v in result["violations"] for node in v["nodes"]]
            assert found == [], path.name


def test_a_page_that_nbconvert_saves_keeps_its_solutions_folded(browser, tmp_path):
    html, _ = HTMLExporter().from_filename(pages.FOLDER / f"{SECOND}.ipynb")
    script = (widgets.FOLDER / "fold.js").read_text(encoding="utf-8").strip()
    assert script[script.index("document") :] in html, "older than the script: run `make notebooks`"
    (path := tmp_path / "page.html").write_text(html, encoding="utf-8")
    with browser.new_page(offline=True) as page:
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        solutions = page.locator(".celltag_solution")
        assert solutions.count() > 0
        assert not any(solutions.nth(number).is_visible() for number in range(solutions.count()))
        page.locator("summary", has_text="Solution").last.click()
        assert solutions.last.is_visible()
