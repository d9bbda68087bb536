"""A reply lost, for every script that writes (F08)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..lossy import lose_replies
from ..replies import writing_scripts
from ..scenario import Run, scenario
from ..server import Server


@scenario("replies", row="F08", full=1000, short=2)
def replies(run: Run) -> None:
    """Each script that writes loses so many replies; what it was asked, it is asked again."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        server = Server(Path(folder), ("--appendonly", "no"))
        server.start()
        try:
            tally = lose_replies(
                server.url, str(server.socket), run.target, run.seed, goes_on=run.goes_on
            )
        finally:
            server.close()
    run.hit(min(tally.done[name] for name in writing_scripts()))
    run.note(f"{len(writing_scripts())} scripts, {tally.lost} replies lost")
    for difference in tally.differences:
        run.violated("idempotence", str(difference))
