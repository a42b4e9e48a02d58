"""The official client: a film as a job, from its creation to its end; its keeping, its bounds, and who may see it."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import httpx2 as httpx
import openai
import pytest
from served import LIMITS, wait_for

from isthmus.inference.pipeline import Pipeline

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled")


@pytest.fixture(scope="module")
def films(serving: Any) -> Iterator[openai.OpenAI]:
    """A client of a server that keeps three films, each for two seconds."""
    limits = replace(LIMITS, videos=3, video_seconds=2.0)
    with serving(limits=limits) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            yield client


def forget(client: openai.OpenAI) -> None:
    for job in client.videos.list():
        client.videos.delete(job.id)


def test_a_film_is_made_downloaded_and_deleted(films: openai.OpenAI, files: dict[str, Path]) -> None:
    options: Any = {"model": "tiny", "extra_body": {"seed": 3}}
    done = films.videos.create_and_poll(prompt="a seven", poll_interval_ms=50, **options)
    assert (done.status, done.progress, done.prompt, done.model) == ("completed", 100, "a seven", "tiny")
    content = films.videos.download_content(done.id)
    assert content.response.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(content.read())) as film:
        frames = [frame for frame in film.decode(video=0)]
        assert "model tiny, seed 3" in film.metadata["comment"]
    assert len(frames) == 8 and done.size == f"{frames[0].width}x{frames[0].height}"
    with pytest.raises(openai.BadRequestError, match="variant: found 'thumbnail'"):
        films.videos.download_content(done.id, variant="thumbnail")
    second = films.videos.create(prompt="a seven", input_reference=files["image"].open("rb"), **options)
    assert [job.id for job in films.videos.list()] == [second.id, done.id]
    assert [job.id for job in films.videos.list(order="asc", limit=1)] == [done.id, second.id], "page by page"
    deleted = films.videos.delete(done.id)
    assert deleted.deleted and deleted.id == done.id
    with pytest.raises(openai.NotFoundError):
        films.videos.retrieve(done.id)
    assert films.videos.poll(second.id, poll_interval_ms=50).status == "completed"
    forget(films)


def test_films_go_after_their_time_and_are_bounded(films: openai.OpenAI) -> None:
    jobs = [films.videos.create(prompt="a seven") for _ in range(3)]
    with pytest.raises(openai.RateLimitError, match="3 kept ones") as busy:
        films.videos.create(prompt="a seven")
    assert busy.value.response.headers["retry-after"] == "60"
    ended = films.videos.poll(jobs[0].id, poll_interval_ms=50)
    assert ended.expires_at is not None and ended.completed_at is not None
    wait_for(lambda: not list(films.videos.list()))
    films.videos.delete(films.videos.create(prompt="a seven").id)


def test_a_deleted_job_stops_and_a_failed_one_says_why(
    films: openai.OpenAI, opened: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, begin = threading.Event(), opened.model.begin
    with monkeypatch.context() as patch:
        patch.setattr(opened.model, "begin", lambda *given: (held.wait(30), begin(*given))[1])
        job = films.videos.create(prompt="a seven")
        assert films.videos.retrieve(job.id).status in ("queued", "in_progress")
        with pytest.raises(openai.BadRequestError, match="isn't made yet"):
            films.videos.download_content(job.id)
        films.videos.delete(job.id)
        held.set()
        wait_for(lambda: jobs(films) == 0)

    def fails(*_: Any) -> None:
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(opened.model, "begin", fails)
        failed = films.videos.create_and_poll(prompt="a seven", poll_interval_ms=50)
        assert failed.status == "failed" and failed.error is not None
        assert failed.error.code == "internal_error" and "secret" not in failed.error.message
        with pytest.raises(openai.InternalServerError):
            films.videos.download_content(failed.id)
    forget(films)


def test_who_may_see_a_job_and_what_is_refused(films: openai.OpenAI) -> None:
    job = films.videos.create(prompt="a seven")
    other = films.with_options(api_key="another")
    assert not list(other.videos.list()) and [own.id for own in films.videos.list()] == [job.id]
    for refused in (other.videos.retrieve, other.videos.delete, other.videos.download_content):
        with pytest.raises(openai.NotFoundError, match="found none called"):
            refused(job.id)
    with pytest.raises(openai.BadRequestError, match="seconds: this server doesn't know"):
        films.videos.create(prompt="a seven", seconds="4")
    with pytest.raises(openai.BadRequestError, match="limit: found '0'"):
        list(films.videos.list(limit=0))
    forget(films)
    address = str(films.base_url).removesuffix("/v1/")
    form = {"prompt": (None, "a"), "input_reference[image_url]": (None, "https://example.org/a.png")}
    fetched = httpx.post(f"{address}/v1/videos", files=form)  # type: ignore[arg-type] # fields without a file's name
    assert fetched.status_code == 400 and fetched.json()["error"]["param"] == "input_reference"
    text = httpx.get(f"{address}/metrics").text
    assert 'route="/v1/videos/{video}",status="404"' in text and job.id not in text


def jobs(client: openai.OpenAI) -> float:
    lines = httpx.get(f"{str(client.base_url).removesuffix('/v1/')}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("isthmus_jobs{"))
