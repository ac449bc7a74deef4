"""What examples/serve.py answers in a second: `python benchmarks/serve.py`.

One process serves, another asks over TCP on this machine: one client after the other's answer, and
32 at once; with requests labelled together, and each alone.
"""

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
FACE = (ROOT / "examples/faces/drawn_happy.png").read_bytes()
PHOTOGRAPH = (ROOT / "examples/photographs/eileen_collins.jpg").read_bytes()


def serve(port: int, crops: bool, together: int) -> subprocess.Popen:
    """Start the service, and wait until it answers."""
    flags = ["--model", "resnet18_025", "--port", str(port), *(["--crops"] if crops else [])]
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r}); import serve; "
    code += f"serve.TOGETHER = {together}; serve.main()"
    server = subprocess.Popen([sys.executable, "-c", code, *flags], env=os.environ)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except ConnectionRefusedError:
            if server.poll() is not None:
                raise SystemExit("the service did not start") from None
            time.sleep(0.1)


def load(port: int, body: bytes, clients: int, requests: int) -> tuple[float, list[float]]:
    """Return answers a second, and the seconds that each took."""

    def ask(count: int) -> list[float]:
        client, took = http.client.HTTPConnection("127.0.0.1", port, timeout=120), []
        for _ in range(count):
            begun = time.perf_counter()
            client.request("POST", "/predict", body)
            answer = client.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"answered {answer.status}")
            took.append(time.perf_counter() - begun)
        client.close()
        return took

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        took = [s for part in threads.map(ask, [requests // clients] * clients) for s in part]
    return len(took) / (time.perf_counter() - begun), took


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--port", type=int, default=8765)
    given = parser.parse_args()
    print("| images | labelled | clients | answers/s | median ms | 95 % below ms |")
    print("|---|---|--:|--:|--:|--:|")
    for crops, body, what in ((True, FACE, "faces"), (False, PHOTOGRAPH, "photographs 512x512")):
        for together, how in ((32, "together"), (1, "each alone")):
            server = serve(given.port, crops, together)
            try:
                load(given.port, body, 32, 64)
                for clients in (1, 32):
                    speed, took = load(given.port, body, clients, given.requests)
                    high = statistics.quantiles(took, n=20)[-1]
                    figures = (
                        f"{speed:.0f} | {1e3 * statistics.median(took):.0f} | {1e3 * high:.0f}"
                    )
                    print(f"| {what} | {how} | {clients} | {figures} |", flush=True)
            finally:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    main()
