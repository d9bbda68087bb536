"""`python -m penstock.orchestrator.main`: one orchestrator, in the foreground."""

from __future__ import annotations

import argparse
import logging
import sys

from ..common.errors import PenstockError
from ..common.settings import Settings
from ..common.state.connection import check, connect


def main() -> int:
    """Runs until SIGTERM; returns the exit code (6: no Redis that could be used)."""
    parser = argparse.ArgumentParser(prog="penstock orchestrator start")
    parser.add_argument("--redis-url", help="redis://HOST:PORT/DB (default: PENSTOCK_REDIS_URL)")
    parser.add_argument(
        "--domains", help="serve only these, as gpu,rag (PENSTOCK_DOMAINS; else all)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings.load(redis_url=arguments.redis_url, domains=arguments.domains)
        url = settings.redis_url
        if not url:
            raise PenstockError(
                "PENSTOCK_REDIS_URL is not set; `penstock up` starts a private server"
            )
        check(connect(url), url)
        from .engine.process import run_process

        run_process(url, settings)
    except PenstockError as error:
        print(f"penstock orchestrator: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
