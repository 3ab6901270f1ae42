"""How the verbs print an object."""

import json
import sys
from collections.abc import Mapping


def write_object(value: Mapping[str, object]) -> int:
    """Print an object as JSON, ASCII only: a policy's text must not steer the terminal."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    return 0
