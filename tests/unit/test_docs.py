"""What the documentation promises is what the code has."""  # A5

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.common.handlers import BUILTIN_TYPES
from penstock.common.settings import Settings
from penstock.common.spec import spelling

DOCS = Path(__file__).parents[2] / "docs"
SPELLINGS = {
    name: getattr(spelling, name)
    for name in ("WORKFLOW", "JOB", "TEMPLATE", "RETRY", "AGGREGATION", "RESOURCES")
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_key_is_documented(name):
    words = set(re.findall(r"[a-z_]+", (DOCS / "workflows.md").read_text()))
    for field in SPELLINGS[name].fields:
        assert words & set(SPELLINGS[name].of(field)), f"{name}: {field}"


def test_every_setting_is_documented():
    text = (DOCS / "settings.md").read_text()
    assert [f for f in Settings.model_fields if f"`PENSTOCK_{f.upper()}`" not in text] == []


def test_every_built_in_type_is_documented():
    text = (DOCS / "workflows.md").read_text().replace("_", "-")
    assert [name for name in BUILTIN_TYPES if name.replace("_", "-") not in text] == []


def test_links_lead_somewhere():
    root = DOCS.parent
    for page in [root / "README.md", *DOCS.rglob("*.md"), *root.glob("examples/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
