"""The log: a JSON object a record, each on a line of its own whatever it says."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["JsonFormatter", "log_as_json"]

OURS, UVICORN = "runtime.server", "uvicorn"


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message, and what a record was given as `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; all but ASCII is escaped, so that nothing in it moves a terminal."""
        moment = datetime.fromtimestamp(record.created, UTC)
        entry = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_as_json(stream: TextIO | None = None) -> None:
    """Sends the server's records and uvicorn's to a stream, by default stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in (OURS, UVICORN):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
