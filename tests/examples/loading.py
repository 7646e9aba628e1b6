"""The examples as modules: they are scripts, not a package."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def load(path: str) -> Any:
    """Return the module of an example that does nothing on import."""
    file = EXAMPLES / path
    spec = spec_from_file_location(f"example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_beside(path: str) -> Any:
    """Return the module of an example that imports files beside it."""
    file = EXAMPLES / path
    sys.path.insert(0, str(file.parent))
    try:
        return import_module(file.stem)
    finally:
        sys.path.remove(str(file.parent))
