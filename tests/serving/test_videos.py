"""The official client: a film as a job, from its creation to its end; its keeping, its bounds, and who may see it."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import socket
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
from isthmus.serving.keys import Keys
from isthmus.serving.routes import videos
from isthmus.serving.routes.video_jobs import VideoJob

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled")


@pytest.fixture(scope="module")
def films(serving: Any) -> Iterator[openai.OpenAI]:
    """A client of a server that keeps three films."""
    with serving(limits=replace(LIMITS, videos=3)) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            yield client


def forget(client: openai.OpenAI) -> None:
    for job in client.videos.list():
        client.videos.delete(job.id)


def known(*names: str) -> list[VideoJob]:
    """The jobs of these names that anything in this process still holds."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is VideoJob and each.id in names]


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


def test_films_are_bounded(films: openai.OpenAI) -> None:
    jobs = [films.videos.create(prompt="a seven") for _ in range(3)]
    with pytest.raises(openai.RateLimitError, match="3 kept ones") as busy:
        films.videos.create(prompt="a seven")
    assert busy.value.response.headers["retry-after"] == "60"
    ended = films.videos.poll(jobs[0].id, poll_interval_ms=50)
    assert ended.completed_at is not None and ended.expires_at == ended.completed_at + LIMITS.video_seconds
    films.videos.delete(jobs[0].id)
    films.videos.create(prompt="a seven")
    forget(films)


def test_films_go_after_their_time(serving: Any) -> None:
    with serving(limits=replace(LIMITS, videos=1, video_seconds=1.0)) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            client.videos.create(prompt="a seven")
            wait_for(lambda: not list(client.videos.list()))
            client.videos.create(prompt="a seven")


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
        (kept,) = known(job.id)
        own = kept.job
        assert own is not None and not own.is_cancelled
        films.videos.delete(job.id)
        assert own.is_cancelled, "while it can't have ended by itself"
        held.set()
        wait_for(lambda: jobs(films) == 0)

    def fails(*_: Any) -> None:
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(opened.model, "begin", fails)
        failed = films.videos.create_and_poll(prompt="a seven", poll_interval_ms=50)
        assert failed.status == "failed" and failed.error is not None
        assert failed.error.code == "internal_error" and "secret" not in failed.error.message
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                films.videos.download_content(failed.id)
        (kept,) = known(failed.id)
        assert kept.error is not None and kept.error.__traceback__ is None and kept.error.__cause__ is None
    forget(films)


def test_nothing_of_a_deleted_film_is_kept(client: openai.OpenAI) -> None:
    made = [client.videos.create_and_poll(prompt="a seven", poll_interval_ms=50) for _ in range(2)]
    assert [each.job for each in known(*(film.id for film in made))] == [None, None], "the prompt is gone"
    for film in made:
        client.videos.delete(film.id)
    wait_for(lambda: not known(*(film.id for film in made)))


def test_a_film_that_cannot_be_written_frees_its_place(films: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no space left for secret")

    with monkeypatch.context() as patch:
        patch.setattr(videos, "to_bytes", fails)
        failed = films.videos.create_and_poll(prompt="a seven", poll_interval_ms=50)
    assert failed.status == "failed" and failed.error is not None and failed.error.code == "internal_error"
    assert "secret" not in failed.error.message and failed.completed_at is not None
    forget(films)


def test_a_request_that_is_still_read_has_a_place(serving: Any) -> None:
    text = json.dumps({"prompt": "a seven"}).encode()
    with serving(limits=replace(LIMITS, videos=1, body_seconds=1.0)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        host, port = address.removeprefix("http://").split(":")
        with client, socket.create_connection((host, int(port))) as slow:
            head = f"POST /v1/videos HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            slow.sendall(f"{head}Expect: 100-continue\r\nContent-Length: {len(text)}\r\n\r\n".encode())
            assert b"100" in slow.recv(100), "the server waits for the body"
            with pytest.raises(openai.RateLimitError, match="1 kept ones"):
                client.videos.create(prompt="a seven")
            assert b"408" in slow.recv(100), "the body took too long"
            client.videos.delete(client.videos.create(prompt="a seven").id)


def test_a_server_that_stops_gives_films_up(serving: Any, opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    found, begin = [], opened.model.begin
    given_up = threading.Event()

    def held(*given: Any) -> Any:
        wait_for(lambda: bool(found) and found[0].is_cancelled)
        given_up.set()
        return begin(*given)

    monkeypatch.setattr(opened.model, "begin", held)
    with serving() as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        (kept,) = known(client.videos.create(prompt="a seven").id)
        assert kept.job is not None
        found.append(kept.job)
    assert given_up.is_set()


def test_who_may_see_a_job_and_how_many_one_may_hold(serving: Any) -> None:
    keys = Keys([hashlib.sha256(key).digest() for key in (b"sesame", b"another")])
    with (
        serving(keys=keys, limits=replace(LIMITS, videos=5)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="sesame", max_retries=0) as client,
    ):
        job = client.videos.create(prompt="a seven")
        other = client.with_options(api_key="another")
        assert not list(other.videos.list()) and [own.id for own in client.videos.list()] == [job.id]
        for refused in (other.videos.retrieve, other.videos.delete, other.videos.download_content):
            with pytest.raises(openai.NotFoundError, match="found none called"):
                refused(job.id)
        same = httpx.get(f"{address}/v1/videos/{job.id}", headers={"authorization": "bearer  sesame"})
        assert same.status_code == 200 and same.json()["id"] == job.id
        for _ in range(3):
            client.videos.create_and_poll(prompt="a seven", poll_interval_ms=50)
        with pytest.raises(openai.RateLimitError, match="found 4 kept ones of yours and 1 free places, which are left"):
            client.videos.create(prompt="a seven")
        other.videos.create_and_poll(prompt="a seven", poll_interval_ms=50)
        for each in (client, other):
            with pytest.raises(openai.RateLimitError, match="found 5 kept ones, which is the most"):
                each.videos.create(prompt="a seven")
        client.videos.delete(job.id)
        other.videos.delete(other.videos.create(prompt="a seven").id)


def test_what_is_refused(films: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="found none called 'video_1'"):
        films.videos.retrieve("video_1")
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
    assert 'route="/v1/videos/{video}",status="404"' in text and "video_1" not in text


def jobs(client: openai.OpenAI) -> float:
    lines = httpx.get(f"{str(client.base_url).removesuffix('/v1/')}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("isthmus_jobs{"))
