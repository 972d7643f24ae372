"""Python runs this at start if its folder is on the path: one module is loaded with one piece of its text replaced.

`MUTATION` is JSON: `[module, old text, new text]`. The old text must be there exactly once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, ModuleType


class _Loader(SourceFileLoader):
    """Compiles the changed text, and neither reads nor writes compiled files."""

    def get_code(self, fullname: str) -> CodeType:
        """See `SourceLoader.get_code`."""
        text, path = self.get_data(self.get_filename(fullname)).decode(), self.get_filename(fullname)
        if text.count(OLD) != 1:
            sys.exit(f"{MODULE} has {text.count(OLD)} times {OLD!r}")
        return compile(text.replace(OLD, NEW), path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the one module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        found = PathFinder.find_spec(fullname, path, target) if fullname == MODULE else None
        if found is None or found.origin is None:
            return None
        return spec_from_file_location(fullname, found.origin, loader=_Loader(fullname, found.origin))


if "MUTATION" in os.environ:
    MODULE, OLD, NEW = json.loads(os.environ["MUTATION"])
    sys.meta_path.insert(0, _Finder())
