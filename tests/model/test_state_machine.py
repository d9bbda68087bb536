"""The scripts do what the model says, whatever is sent twice, late, or never answered."""  # Q5 Q6 Q7 W7

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import missing

from model.clients import Dice, Scripted
from model.play import Play
from model.server import InProcess, Wire, own_server

TESTS = Path(__file__).resolve().parents[1]


def model(*options: str) -> str:
    """The last line that `python -m model` prints; fails with all it said if it fails."""
    command = [sys.executable, "-m", "model", "--seed", "3", *options]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.timeout(900)
def test_model_and_scripts_agree(figure):
    figure(model("--runs", "2000", "--steps", "50", "--search", "0"))


def test_the_redis_of_this_process_answers_as_a_real_one():
    """The same runs on both give the same answers and the same states, word for word."""
    if shutil.which("redis-server") is None:
        missing("there is no redis-server (`make model-short` installs it)")
    with own_server() as path:
        wire = Wire(path)
        try:
            ours, real = Scripted(InProcess()), Scripted(wire)
            for number in range(40):
                assert _played(ours, number) == _played(real, number)
        finally:
            wire.close()


def _played(scripted: Scripted, number: int) -> list[str]:
    play = Play(scripted, Dice(number * 7919))
    steps = (play.work, play.orchestrate, play.work, play.beats, play.die, play.wait, play.command,
             play.again, play.upkeep)  # fmt: skip
    for step in range(60):
        dice = Dice((number * 1_000_003 + step * 7919) * 2_654_435_761 % 2**24)
        steps[dice.pick(len(steps))](dice)
        play.note(str(sorted(play.view.items())))
    play.finish()
    return play.log
