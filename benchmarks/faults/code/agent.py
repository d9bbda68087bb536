"""A client of another system, in that system's environment: a request a line, an answer a line.

    {"op": "submit", "unit": id, "shape": "job" | "pair" | "merge", "s": seconds, "n": children}
    {"op": "states", "ids": [...]}  ->  {"id": [state, result], ...}

A state is finished, failed, open, or missing (the system knows of no such job).
"""

import importlib
import json
import sys


def main():
    app = importlib.import_module(sys.argv[1])
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        operation = request.pop("op")
        try:
            done = getattr(app, operation)(**request)
            answer = {"done": done}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
