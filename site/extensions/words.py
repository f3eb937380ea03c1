"""Words that explain themselves on hover and lead further: other pages, terms of the glossary, papers."""

import re
from pathlib import Path

from docutils import nodes
from pybtex.database import parse_file

PROSE = (nodes.title, nodes.caption, nodes.reference, nodes.literal, nodes.literal_block, nodes.raw, nodes.math)


def link_words(doctree, word, target):
    """Make links of what a pattern finds in prose; ``target`` of a match is its address and hover text."""
    for text in list(doctree.findall(nodes.Text)):
        parent, parts, end = text.parent, [], 0
        while parent and not isinstance(parent, PROSE):
            parent = parent.parent
        for match in () if parent else word.finditer(text.astext()):
            if found := target(match):
                uri, title = found
                link = nodes.reference("", match[0], internal=True, refuri=uri, reftitle=title, classes=["term"])
                parts += [nodes.Text(text.astext()[end : match.start()]), link]
                end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text.astext()[end:])])


def link_terms(app, doctree, docname):
    """Link the first use of each term of the glossary on a page of the course; its meaning shows on hover."""
    if not docname[0].isdigit():
        return
    meanings, uri = {}, app.builder.get_relative_uri(docname, "glossary")
    for item in app.env.get_doctree("glossary").findall(nodes.definition_list_item):
        *terms, meaning = item.children
        for term in terms:
            meanings[term.astext()] = f"{uri}#{term['ids'][0]}", " ".join(meaning.astext().split())

    def first_use(match):
        spelt = (match[0], match[0].removesuffix("s"), match[0].lower())
        return meanings.pop(next((word for word in spelt if word in meanings), None), None)

    words = "|".join(sorted(meanings, key=len, reverse=True))
    link_words(doctree, re.compile(rf"(?<![\w-])(?<!wide )(?:{words})s?(?![\w-])", re.IGNORECASE), first_use)


def papers(path):
    """The bibliography: what to show of each entry on hover, the addresses of its text, and ways to name it."""
    found, ways = {}, {}
    for key, entry in parse_file(path).entries.items():
        field = {name.lower(): re.sub(r"[{}]", "", value) for name, value in entry.fields.items()}
        names = [re.sub(r"[{}]", "", " ".join(person.last_names)) for person in entry.persons["author"]]
        *most, last = names
        authors = f"{', '.join(most)} and {last}" if most else last
        short = authors if len(names) < 3 else f"{names[0]} et al."
        start = {"eprint": "https://arxiv.org/abs/", "doi": "https://doi.org/", "url": ""}
        links = {start[name] + field[name] for name in start if name in field}
        where = next((f"{field[name]} " for name in ("journal", "booktitle", "publisher") if name in field), "")
        found[key] = f"{short}: {field['title']}. {where}{field['year']}", links
        spelt = "|".join(map(re.escape, {short, authors, ", ".join(names)}))
        year = field["year"]  # "Shi et al. 2016", "Keys (1981)", and the names alone in "Odena et al. (2016, ..."
        ways[key] = [rf"(?:{spelt})(?:,? {year}\b| \({year}\)|(?= \({year}\b))", re.escape(field["title"])]
        ways[key] += [f"arXiv {number}"] if (number := field.get("eprint")) else []
    dated = [names[0] for names in ways.values()]  # two of one year and author: only title and number tell apart
    return found, {key: [way for way in names if dated.count(way) < 2] for key, names in ways.items()}


PAPERS, WAYS = papers(Path(__file__).parent.with_name("references.bib"))
GROUPS = "|".join(f"(?P<{key}>{'|'.join(ways)})" for key, ways in WAYS.items())
PAPER = re.compile(rf"\b(?:{GROUPS})", re.IGNORECASE)


def link_pages(app, doctree, docname):
    """Link what is said of another page of the course, as "page 4", to it."""
    numbers = {int(page[:2]): page for page in app.env.found_docs if page[0].isdigit() and page != docname}

    def page(match):
        if name := numbers.get(int(match[1])):
            return app.builder.get_relative_uri(docname, name), app.env.titles[name].astext()
        return None

    link_words(doctree, re.compile(r"\bpage 0?(\d)\b", re.IGNORECASE), page)


VERSION = re.compile(r"(?<=\d)v\d+$")  # of a paper on arXiv


def papers_named(doctree):
    """The entries of the bibliography that a page names in its prose or links to."""
    links = {VERSION.sub("", link.get("refuri", "")) for link in doctree.findall(nodes.reference)}
    found = {match.lastgroup for text in doctree.findall(nodes.Text) for match in PAPER.finditer(text.astext())}
    return found | {key for key, (_, urls) in PAPERS.items() if links & set(urls)}


def link_papers(app, doctree, docname):
    """Link papers to the bibliography, say what they are on hover, and in the bibliography who names them."""
    if docname != "references":
        uri = app.builder.get_relative_uri(docname, "references")
        link_words(doctree, PAPER, lambda match: (f"{uri}#{match.lastgroup}", PAPERS[match.lastgroup][0]))
        for link in doctree.findall(nodes.reference):
            for about, urls in PAPERS.values():
                if VERSION.sub("", link.get("refuri", "")) in urls:
                    link["reftitle"] = about
        return
    named = {page: papers_named(app.env.get_doctree(page)) for page in sorted(app.env.found_docs - {docname})}
    for citation in doctree.findall(nodes.citation):
        before = " Named in "
        for page in (page for page, keys in named.items() if citation["ids"][0] in keys):
            uri = app.builder.get_relative_uri(docname, page)
            name = f"page {int(page[:2])}" if page[0].isdigit() else app.env.titles[page].astext()
            citation[-1] += [nodes.Text(before), nodes.reference("", name, internal=True, refuri=uri)]
            before = ", "


def setup(app):
    app.connect("doctree-resolved", link_pages)
    app.connect("doctree-resolved", link_papers)
    app.connect("doctree-resolved", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
