"""What a release tells of the project: its addresses, and a description whose links work outside of the repository.

`WALLET_REPOSITORY_URL` says where the repository is; the release's workflow sets it. Without it the description is
README.md as it stands.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "WALLET_REPOSITORY_URL"
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")
"""A link to a file of the repository; with `!` it is an image."""


class Addresses(MetadataHookInterface):
    """Sets `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """See `MetadataHookInterface.update`."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        url = os.environ.get(VARIABLE, "").rstrip("/")
        if url:
            pages = f"{url}/blob/HEAD"
            text = LINK.sub(lambda found: _linked(found, url), text)
            metadata["urls"] = {
                "Repository": url,
                "Documentation": f"{pages}/docs",
                "Changelog": f"{pages}/CHANGELOG.md",
                "Issues": f"{url}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def _linked(found: re.Match[str], url: str) -> str:
    mark, shown, target = found.groups()
    return f"{mark}[{shown}]({url}/{'raw' if mark else 'blob'}/HEAD/{target})"
