"""In a notebook it is shown how jobs stand while they are waited for."""  # S2

from __future__ import annotations

import re
import warnings

from nbclient import NotebookClient
from nbformat import v4

SETUP = """
import sys
sys.path.insert(0, {code!r})
from penstock import Cluster
from sdk_tasks import double, fails, sleep
cluster = Cluster({url!r})
"""
BLOCK = """
with cluster:
    for nap in sleep.map([0.2] * 6):
        nap.get_result()
    bad = fails("why")
    print(bad.wait(), double.after(bad)(1).wait())
"""
FILE = """
import os
os.chdir({code!r})
workflow = {{"jobs": [{{"id": "a", "run": "sdk_tasks:plain", "config": {{"x": 3}}}}]}}
cluster.submit(workflow).result(60)
"""


def executed(machines, *sources):
    """The outputs of each cell, run by a real kernel."""
    said = {"code": str(machines.code), "url": machines.url}
    cells = [v4.new_code_cell(source.format(**said)) for source in sources]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own
        NotebookClient(v4.new_notebook(cells=cells), timeout=90).execute()
    return [cell.outputs for cell in cells]


def shown(outputs):
    return [output.data for output in outputs if output.output_type == "display_data"]


def test_a_cell_has_one_line_for_each_execution_that_it_waits_for(sdk_machines):
    sdk_machines.orchestrator()
    _, block, file = executed(sdk_machines, SETUP, BLOCK, FILE)
    (line,) = shown(block)
    assert re.match(
        r"8 of 8 jobs ended, 1 failed, 1 canceled, [\d.]+ s \(\w{15}\)", line["text/plain"]
    )
    assert '<progress max="8" value="8"' in line["text/html"]
    assert [one.text for one in block if one.output_type == "stream"] == ["False False\n"]
    assert [one["text/plain"].partition(",")[0] for one in shown(file)] == ["1 of 1 jobs ended"]
