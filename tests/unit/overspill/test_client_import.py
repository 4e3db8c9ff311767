"""`import overspill` is light: other services pay for it."""

import json
import subprocess
import sys

#: What a service that only submits jobs must not have to load, or even to have installed.
HEAVY = [
    "torch",
    "modal",
    "numpy",
    "av",
    "boto3",
    "fastapi",
    "uvicorn",
    "celery",
    "kombu",
    "typer",
    "rich",
    "PIL",
    "structlog",
]
#: What importing the client may add to importing the ledger, seconds. Measured: 0.01 to 0.03.
ADDS_AT_MOST_S = 0.5

PROGRAM = f"""
import json, sys, time
import ledger
began = time.perf_counter()
import overspill
took_s = time.perf_counter() - began
overspill.submit, overspill.status, overspill.wait, overspill.cancel, overspill.Client, overspill.AsyncClient
print(json.dumps([took_s, [name for name in {HEAVY} if name in sys.modules]]))
"""


def test_importing_the_client_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    took_s, loaded = json.loads(done.stdout)
    assert loaded == []
    assert took_s < ADDS_AT_MOST_S
