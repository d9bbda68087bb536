"""What the jobs of the worker's tests run: this text is a module in their code folder."""

CODE = '''
import asyncio, os, subprocess, sys, time
from pathlib import Path

def noop(**_):
    return None

def add(a, b):
    print("adding", a, b)
    return {"sum": a + b}

async def double(x):
    await asyncio.sleep(0)
    return 2 * x

def who():
    return {"pid": os.getpid(), "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "cwd": os.getcwd()}

def threads():
    import numpy  # its pools
    from penstock import context
    from threadpoolctl import threadpool_info
    return {"pid": os.getpid(), "cpus": context.current().cpus,
            "variable": os.environ.get("OMP_NUM_THREADS"),
            "pools": [pool["num_threads"] for pool in threadpool_info()]}

def fail(text="no"):
    raise ValueError(text)

class Broken(Exception):
    def __str__(self):
        raise RuntimeError

def broken():
    raise Broken

def leave(code=9):
    os._exit(code)

def once(mark, how):
    """Breaks on its first run, in the way given."""
    if not Path(mark).exists():
        Path(mark).write_text("x")
        if how == "kill":
            os.kill(os.getpid(), 9)
        sys.exit(3)
    return "second"

def unjson():
    return {"model": Broken(), "fine": (1, 2)}

def nap(s):
    time.sleep(s)

def hold(mark, until):
    """Runs until a file is there; says that it began in another."""
    Path(mark).write_text(str(os.getpid()))
    while not Path(until).exists():
        time.sleep(0.01)
    return "held"

def spin(mark):
    """Never ends, and holds the interpreter."""
    Path(mark).write_text(str(os.getpid()))
    while True:
        pass

def family(mark):
    """Never ends; a child and a daemonised grandchild without our environment live on."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(sleeper)
    out = subprocess.run(
        ["/bin/sh", "-c", "env -i setsid sleep 600 >/dev/null 2>&1 & echo $!"],
        capture_output=True, text=True)
    Path(mark + ".tmp").write_text(f"{os.getpid()} {child.pid} {out.stdout.strip()}")
    os.rename(mark + ".tmp", mark)
    time.sleep(600)

def litter():
    """Ends well, and leaves a process."""
    return {"child": subprocess.Popen(["sleep", "600"]).pid, "pid": os.getpid()}

def flood(mib):
    line = "x" * 1023 + "\\n"
    for _ in range(mib):
        sys.stdout.write(line * 1024)
    return "flooded"

def say(text, until=None):
    print(text)
    while until and not Path(until).exists():
        time.sleep(0.01)

def wait_for(execution, name):
    """Waits inside the job for another job, as the SDK does."""
    import redis
    from penstock import context
    client = redis.Redis.from_url(os.environ["PENSTOCK_REDIS_URL"])
    with context.waiting():
        while client.hget(f"rq:job:{execution}-{name}", "status") != b"finished":
            time.sleep(0.01)
    return context.current().job
'''
