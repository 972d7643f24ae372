"""The page's files: read from the package once, and served under names that change with their content."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from pathlib import PurePath
from typing import Final

from starlette.responses import Response

from ...http.compression import accepts_gzip

_OWN: Final = ("boot.js", "page.css")
_VENDORED: Final = (
    "react.production.min.js",
    "react-dom.production.min.js",
    "graphiql.min.js",
    "graphiql.min.css",
)
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css"}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, stored gzipped. Its name contains a digest of its content, so browsers may cache it for ever."""

    name: str
    media_type: str
    digest: str
    gzipped: bytes

    def answer(self, headers: Mapping[str, str]) -> Response:
        """The response to a request with these headers: gzipped if the client accepts that, 304 if it has the file."""
        compressed = accepts_gzip(headers.get("accept-encoding", ""))
        tag = f'"{self.digest}-gzip"' if compressed else f'"{self.digest}"'
        about = {"ETag": tag, "Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
        known = [part.strip().removeprefix("W/") for part in headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=about)
        if compressed:
            about["Content-Encoding"] = "gzip"
        body = self.gzipped if compressed else gzip.decompress(self.gzipped)
        return Response(body, media_type=self.media_type, headers=about)


def load_assets() -> dict[str, Asset]:
    """Every asset by the name of its file."""
    folder = files(__package__)
    own = {name: gzip.compress(folder.joinpath(name).read_bytes(), mtime=0) for name in _OWN}
    vendored = {name: folder.joinpath("vendor", f"{name}.gz").read_bytes() for name in _VENDORED}
    return {name: asset_of(name, gzipped) for name, gzipped in (own | vendored).items()}


def template() -> str:
    """The page, with placeholders for `string.Template`."""
    return files(__package__).joinpath("page.html").read_text(encoding="utf-8")


def asset_of(name: str, gzipped: bytes) -> Asset:
    """A file of that name, of which these are the gzipped bytes."""
    digest = sha256(gzipped).hexdigest()[:16]
    path = PurePath(name)
    return Asset(f"{path.stem}.{digest}{path.suffix}", _MEDIA_TYPES[path.suffix], digest, gzipped)
