"""The load generator wrk as a client of `/predict`: it leaves the cores to the servers."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.http_client import Load
from mnist_ops.local.ports import HOST

# wrk runs it: each request has the next image, and the figures are one line of JSON at the end.
_SCRIPT = """
local requests, sent = {}, 0
function init(arguments)
  for _, path in ipairs(arguments) do
    local file = io.open(path, "rb")
    table.insert(requests, wrk.format("POST", "/predict", {}, file:read("*a")))
    file:close()
  end
end
function request()
  sent = sent + 1
  return requests[sent % #requests + 1]
end
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"microseconds": %d, "requests": %d, "p50": %d, "p99": %d, "failed": %d}\\n',
    summary.duration, summary.requests, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def drive_with_wrk(port: int, payloads: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send images to `/predict`, each connection one after the other, for some seconds.

    Raises:
        FileNotFoundError: wrk is not installed.
        RuntimeError: a request failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "predict.lua"
        script.write_text(_SCRIPT)
        paths = [Path(folder) / f"{number}.png" for number in range(len(payloads))]
        for path, payload in zip(paths, payloads, strict=True):
            path.write_bytes(payload)
        options = [f"--connections={connections}", "--threads=1", f"--duration={max(1, round(seconds))}s"]
        command = ["wrk", *options, f"--script={script}", f"http://{HOST}:{port}", "--", *map(str, paths)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(output.splitlines()[-1])
    if figures["failed"]:
        raise RuntimeError(f"wrk counts {figures['failed']} failed requests")
    return Load(
        figures["microseconds"] / 1e6, figures["requests"], figures["p50"] / 1e6, figures["p99"] / 1e6
    )
