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


HALF = """
import os, time
import IPython
shown = []
real = IPython.display.display
def display(data, **options):
    handle = real(data, **options)
    update = handle.update
    handle.update = lambda data, **options: (shown.append(data["text/plain"]), update(data, **options))
    return handle
sys.modules["IPython.display"].display = display
from sdk_tasks import await_file
with cluster:
    done = sleep.map([0, 0])
    done.wait()
    late = await_file({mark!r})
    late.wait(0.1)
    while not any("2 of 3 jobs ended, 1 running" in text for text in shown):
        late.wait(0.1)
    open({mark!r}, "w").close()
    late.wait()
"""


def executed(machines, *sources):
    """The outputs of each cell, run by a real kernel."""
    mark = str(machines.folder / "mark")
    said = {"code": str(machines.code), "url": machines.url, "mark": mark}
    cells = [v4.new_code_cell(source.format(**said)) for source in sources]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own
        NotebookClient(v4.new_notebook(cells=cells), timeout=90).execute()
    return [cell.outputs for cell in cells]


def shown(outputs):
    return [output.data for output in outputs if output.output_type == "display_data"]


def test_a_cell_has_one_line_for_each_execution_that_it_waits_for(sdk_machines):
    sdk_machines.orchestrator()
    _, block, file, half = executed(sdk_machines, SETUP, BLOCK, FILE, HALF)
    (line,) = shown(block)
    assert re.match(
        r"8 of 8 jobs ended, 1 failed, 1 canceled, [\d.]+ s \(\w{15}\)", line["text/plain"]
    )
    assert '<progress max="8" value="8"' in line["text/html"]
    assert [one.text for one in block if one.output_type == "stream"] == ["False False\n"]
    assert [one["text/plain"].partition(",")[0] for one in shown(file)] == ["1 of 1 jobs ended"]
    assert [one["text/plain"].partition(",")[0] for one in shown(half)] == ["3 of 3 jobs ended"]
