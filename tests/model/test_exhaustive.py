"""Every order in which the processes of a tiny cluster may call the scripts ends well."""  # Q5 Q6 Q7 W7

from __future__ import annotations

import pytest

from model.scenarios import SHORT
from model.search import Search
from model.server import InProcess


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SHORT)
def test_all_interleavings_end_well(name, figure):
    report = Search(SHORT[name], InProcess()).run()
    assert report.whole
    assert report.ends > 0
    figure(f"{report}, 0 violations")
