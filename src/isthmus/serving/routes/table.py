"""Which paths of the API are answered by what."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import Response

from isthmus.serving.routes.asking import Asking
from isthmus.serving.routes.completions import Completions
from isthmus.serving.routes.images import Images
from isthmus.serving.routes.mcp_endpoint import Agents
from isthmus.serving.routes.responses import Responses
from isthmus.serving.routes.speech import Speech
from isthmus.serving.routes.transcriptions import Transcriptions
from isthmus.serving.routes.video_jobs import VideoJobs
from isthmus.serving.routes.videos import Videos

Route = Callable[[Request], Awaitable[Response]]


LABELS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/videos",
    "/v1/models",
    "/mcp",
    "/health",
    "/ready",
    "/metrics",
)
"""Of routes in logs and metrics, which have no names in them."""
FILM = re.compile(r"/v1/videos/[^/]+(/content)?")


def label_of(path: str) -> str:
    """A path as logs and metrics name it: few names, whatever clients ask for."""
    if film := FILM.fullmatch(path):
        return f"/v1/videos/{{video}}{film[1] or ''}"
    return path if path in LABELS else "other"


def needs_key(path: str) -> bool:
    """Whether a path is for holders of a key alone, where there are keys."""
    return path.startswith("/v1/") or path == "/mcp"


def api_routes(asking: Asking, films: VideoJobs, agents: Agents) -> list[tuple[str, str, Route]]:
    """Method, path and what answers it.

    Args:
        asking: runs requests.
        films: keeps those of ``/v1/videos``.
        agents: answers those who use the model as tools.
    """
    images, videos = Images(asking), Videos(asking, films)
    return [
        ("POST", "/v1/chat/completions", Completions(asking).answer),
        ("POST", "/v1/responses", Responses(asking).answer),
        ("POST", "/v1/images/generations", images.generate),
        ("POST", "/v1/images/edits", images.edit),
        ("POST", "/v1/audio/speech", Speech(asking).speak),
        ("POST", "/v1/audio/transcriptions", Transcriptions(asking).transcribe),
        ("POST", "/v1/videos", videos.create),
        ("GET", "/v1/videos", videos.all),
        ("GET", "/v1/videos/{video}", videos.look),
        ("GET", "/v1/videos/{video}/content", videos.content),
        ("DELETE", "/v1/videos/{video}", videos.delete),
        ("POST", "/mcp", agents.answer),
    ]
