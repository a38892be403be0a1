"""The two READMEs' numbers: every one stands in a stored result that the page itself names."""

import re

import pytest
from documents import ROOT

PAGES = [ROOT / "README.md", ROOT / "experiments" / "README.md"]
SOURCES = re.compile(r"^<!-- numbers: (.*) -->$")
# A number of its own, not part of a name such as 2s3z, with what it is counted in
NUMBER = re.compile(r"(?<![\w./-])[-+]?(\d[\d,]*(?:\.\d+)?)(?: ?(M|k|%)(?!\w)|(?![\w]))")
UNITS = {"M": 1e6, "k": 1e3, "%": 0.01}
# What has digits and was not measured
FIXED = re.compile(
    r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->|Figure \d|Python 3\.\d+|licence 2\.0|95 %(?= interval)",
    re.DOTALL,
)


def numbers(text):
    """(as written, value, half of its last digit) of every number in a text."""
    found = []
    for match in NUMBER.finditer(text):
        digits, unit = match[1], match[2]
        size = UNITS.get(unit, 1.0)
        places = len(digits.partition(".")[2])
        sign = -1.0 if match[0].startswith("-") else 1.0
        value = sign * float(digits.replace(",", "")) * size
        found.append((match[0], value, 0.5 * 10.0**-places * size))
    return found


def blocks(text):
    """(files named, the text that follows) of a page; after a heading none is named."""
    found, names, lines = [], (), []
    for line in text.splitlines():
        match = SOURCES.match(line)
        if match or line.startswith("#"):
            found.append((names, "\n".join(lines)))
            names, lines = tuple(match[1].split()) if match else (), []
        else:
            lines.append(line)
    return [*found, (names, "\n".join(lines))]


def untraced(page):
    """Numbers of a page that stand in none of the files named for them."""
    text, missing = page.read_text(), []
    for names, block in blocks(text):
        known = [value for name in names for _, value, _ in numbers((page.parent / name).read_text())]
        for written, value, half in numbers(FIXED.sub(lambda match: " ", block)):
            if not any(abs(value - own) <= half * (1 + 1e-9) for own in known):
                missing.append(written)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_number_stands_in_a_stored_result(page):
    assert not untraced(page)


@pytest.mark.parametrize(
    "text, missing",
    [
        ("no digits in 2s3z, five seeds", []),
        ("<!-- numbers: kept.md -->\n0.92, 92 %, 91.6 %, 1,200 steps and 1.2k\n", []),
        ("<!-- numbers: kept.md -->\n0.93\n", ["0.93"]),
        ("0.916 without a file\n", ["0.916"]),
        ("<!-- numbers: kept.md -->\n0.916\n## Next\n0.916\n", ["0.916"]),
        ("`seeds=7` and [here](x-9.md)\n", []),
    ],
)
def test_a_number_that_stands_nowhere_is_found(tmp_path, text, missing):
    (tmp_path / "kept.md").write_text("| 0.916 | 1200 |\n")
    (tmp_path / "page.md").write_text(text)
    assert untraced(tmp_path / "page.md") == missing
