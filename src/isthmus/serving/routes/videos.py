"""``/v1/videos``: a film as a job, which is created, looked at, downloaded and deleted."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from isthmus.serving.errors import invalid
from isthmus.serving.media import to_bytes
from isthmus.serving.routes.asking import Asking, Run
from isthmus.serving.routes.forms import read_form
from isthmus.serving.routes.questions import Question
from isthmus.serving.routes.video_jobs import Film, VideoJob, VideoJobs
from isthmus.serving.schema import Making, read_fields
from isthmus.types import Modality

REFERENCE = "input_reference"
NAMES = {
    "messages[0].content[0]": "prompt",
    "messages[0].content[1].image_url": REFERENCE,
    "messages[0].content": "prompt",
    "messages[0]": "prompt",
    "messages": "prompt",
}
"""Of the fields of the chat that is made of a request."""


class VideoRequest(Making):
    """A request's fields. Length and size are the generator's own."""

    prompt: str = Field(min_length=1)


class Videos:
    """The routes.

    Args:
        asking: runs requests.
        jobs: keeps films.
    """

    def __init__(self, asking: Asking, jobs: VideoJobs) -> None:
        self.asking, self.jobs = asking, jobs

    async def create(self, request: Request) -> Response:
        """Begins a film. It goes on when the client leaves.

        Raises:
            ApiError: it can't be begun.
        """
        with self.jobs.room(request.state.client):
            asked, run = await self.asking.begin(request, self._read)
            facts = {"model": run.model, "prompt": asked.prompt}
            job = VideoJob(request.state.client, facts, run.job)

            def progress(modality: Modality, done: int, total: int) -> None:
                if modality is Modality.VIDEO:
                    job.progress = min(99, 100 * done // total)

            run.job.on_step = progress
            self.jobs.add(job, self._film(run))
        return JSONResponse(job.told(self.jobs.kept))

    async def all(self, request: Request) -> Response:
        """The client's jobs.

        Raises:
            ApiError: a wrong query.
        """
        query = request.query_params
        order, limit, after = query.get("order", "desc"), query.get("limit", "20"), query.get("after")
        if order not in ("asc", "desc"):
            raise invalid(f"order: found '{order[:20]}'; expected asc or desc. Fix: correct it.", "order")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= 100):
            raise invalid(f"limit: found '{limit[:20]}'; expected 1 to 100. Fix: correct it.", "limit")
        jobs = self.jobs.of(request.state.client)
        jobs = jobs if order == "asc" else jobs[::-1]
        if after is not None:
            jobs = jobs[jobs.index(self.jobs.find(after, request.state.client)) + 1 :]
        page = [job.told(self.jobs.kept) for job in jobs[: int(limit)]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return JSONResponse({"object": "list", "data": page, "has_more": len(jobs) > len(page), **ends})

    async def look(self, request: Request) -> Response:
        """How far a job is.

        Raises:
            ApiError: there is none of this name.
        """
        return JSONResponse(self._found(request).told(self.jobs.kept))

    async def content(self, request: Request) -> Response:
        """The film's file.

        Raises:
            ApiError: there is none of this name, or it isn't made yet.
        """
        job = self._found(request)
        variant = request.query_params.get("variant", "video")
        if variant != "video":
            raise invalid(f"variant: found '{variant[:20]}'; expected video. Fix: leave it out.", "variant")
        if job.error is not None:
            raise job.error.again()
        if job.film is None:
            raise invalid("video: it isn't made yet. Fix: wait for its status to be completed.", code="not_ready")
        return Response(job.film.data, media_type="video/mp4")

    async def delete(self, request: Request) -> Response:
        """Forgets a job; one that runs is stopped.

        Raises:
            ApiError: there is none of this name.
        """
        job = self._found(request)
        self.jobs.remove(job)
        return JSONResponse({"id": job.id, "object": "video.deleted", "deleted": True})

    def _found(self, request: Request) -> VideoJob:
        return self.jobs.find(request.path_params["video"], request.state.client)

    async def _read(self, request: Request) -> tuple[VideoRequest, Question]:
        form = await read_form(request, self.asking.limits)
        pictures = form.taken(REFERENCE) if REFERENCE in form.files else []
        address = form.fields.pop(f"{REFERENCE}[image_url]", None)
        form.close()
        asked = read_fields(form.fields, VideoRequest)
        parts: list[dict[str, Any]] = [{"type": "text", "text": asked.prompt}]
        uri = await run_in_threadpool(pictures[0].uri) if pictures else address
        if uri is not None:
            parts.append({"type": "image_url", "image_url": {"url": uri}})
        takes = [Modality.IMAGE] if uri is not None else []
        chat = asked.chat(self.asking.name, parts, ["video"])
        return asked, Question(chat, NAMES, takes=takes, makes=[Modality.VIDEO])

    async def _film(self, run: Run) -> Film:
        reply = await run.reply()
        self.asking.counted(run, reply)
        medium = reply.media(Modality.VIDEO)[0]
        frames, height, width = medium.array.shape[:3]
        data = await run_in_threadpool(to_bytes, medium, self.asking.made(run))
        return Film(data, frames / medium.pace, f"{width}x{height}")
