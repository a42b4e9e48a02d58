"""The official client: pictures from words, from words and pictures, streamed; and what they say of themselves."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
from PIL import Image

from isthmus import __version__
from isthmus.inference.pipeline import Pipeline
from isthmus.serving.routes import images


def picture(data: str) -> Image.Image:
    """The picture in base64, which must be a PNG."""
    opened = Image.open(io.BytesIO(base64.b64decode(data)))
    assert opened.format == "PNG"
    return opened


def seeded(seed: int = 3, **more: Any) -> dict[str, Any]:
    """Fields that the official client doesn't know."""
    return {"extra_body": {"seed": seed, **more}}


def test_words_become_a_picture(client: openai.OpenAI, opened: Pipeline) -> None:
    made = client.images.generate(model="tiny", prompt="a seven", n=1, **seeded())
    assert made.data is not None and made.usage is not None
    image = picture(made.data[0].b64_json or "")
    assert (made.size, made.output_format) == ("16x16", "png") and image.size == (16, 16)
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0
    details = made.usage.input_tokens_details
    assert (details.image_tokens, details.text_tokens) == (0, made.usage.input_tokens)
    (reply,) = opened(["a seven"], [["image"]], seed=3)
    shown = Image.fromarray(reply.media()[0].array)
    assert max(abs(a - b) for a, b in zip(image.tobytes(), shown.tobytes(), strict=True)) <= 2, "the pipeline's own"
    again = client.images.generate(prompt="a seven", **seeded())
    assert again.data == made.data, "the model's name may be left out, and the seed fixes the picture"


def test_a_picture_says_where_it_comes_from(client: openai.OpenAI, serving: Any) -> None:
    made = client.images.generate(model="tiny", prompt="a seven", **seeded(5))
    assert made.data is not None
    texts = picture(made.data[0].b64_json or "").info
    assert (texts["Software"], texts["Model"], texts["Seed"]) == (f"isthmus {__version__}", "tiny", "5")
    assert "trainedAlgorithmicMedia" in texts["XML:com.adobe.xmp"]
    with serving(marks=False) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as silent:
        plain = silent.images.generate(model="tiny", prompt="a seven", **seeded(5))
        assert plain.data is not None
        bare = picture(plain.data[0].b64_json or "")
    assert "Model" not in bare.info and "XML:com.adobe.xmp" not in bare.info
    assert bare.tobytes() == picture(made.data[0].b64_json or "").tobytes(), "its pixels are the same"


@pytest.mark.parametrize("count", [1, 2])
def test_a_picture_is_edited(client: openai.OpenAI, files: dict[str, Path], count: int) -> None:
    given = [files["image"].open("rb") for _ in range(count)]
    made = client.images.edit(model="tiny", image=given if count > 1 else given[0], prompt="the next", **seeded())
    assert made.data is not None and picture(made.data[0].b64_json or "").size == (16, 16)
    words = client.images.generate(model="tiny", prompt="the next", **seeded())
    assert made.usage is not None and words.usage is not None
    assert made.usage.input_tokens > words.usage.input_tokens, "the model has seen it"
    details = made.usage.input_tokens_details
    assert details.image_tokens >= count and details.image_tokens + details.text_tokens == made.usage.input_tokens


def test_a_stream_ends_with_the_picture(client: openai.OpenAI) -> None:
    whole = client.images.generate(model="tiny", prompt="a seven", **seeded())
    events = list(client.images.generate(model="tiny", prompt="a seven", stream=True, **seeded()))
    last = events[-1]
    assert last.type == "image_generation.completed" and whole.data is not None and whole.usage is not None
    assert last.b64_json == whole.data[0].b64_json and last.size == "16x16"
    told = last.usage.model_dump(exclude_none=True)
    assert told == whole.usage.model_dump(exclude_none=True) and "input_tokens_details" in told


def test_a_picture_that_cannot_be_written_ends_its_stream_with_an_event(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no space left for secret")

    monkeypatch.setattr(images, "to_base64", fails)
    with pytest.raises(openai.APIError, match="failed to answer this request") as refused:
        list(client.images.generate(model="tiny", prompt="a seven", stream=True, **seeded()))
    assert refused.value.code == "internal_error" and "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "status", "param", "expected"),
    [
        ({"model": "other"}, 404, "model", "this server has 'tiny'"),
        ({"prompt": ""}, 400, "prompt", "at least 1 character"),
        ({"prompt": "word " * 1000}, 400, None, "in its last turn alone"),
        ({"n": 2}, 400, "n", "less than or equal to 1"),
        ({"size": "1024x1024"}, 400, "size", "input should be 'auto'"),
        ({"response_format": "url"}, 400, "response_format", "b64_json"),
        ({"style": "vivid"}, 400, "style", "doesn't know the parameter"),
        ({"extra_body": {"num_inference_steps": 5}}, 400, "num_inference_steps", "at most 4"),
    ],
)
def test_what_is_refused(client: openai.OpenAI, options: Any, status: int, param: str | None, expected: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(**{"model": "tiny", "prompt": "a seven"} | options)
    error = refused.value
    assert error.status_code == status and expected in error.message and "messages" not in error.message, error.message
    assert param is None or (isinstance(error.body, dict) and error.body["param"] == param)


def test_forms_that_are_refused(client: openai.OpenAI, files: dict[str, Path], address: str) -> None:
    with pytest.raises(openai.BadRequestError, match="mask: this server doesn't know"):
        client.images.edit(prompt="a", image=files["image"].open("rb"), mask=files["image"].open("rb"))
    with pytest.raises(openai.BadRequestError, match=r"image\[0\]: found no readable image"):
        client.images.edit(prompt="a", image=("damaged.png", b"\x89PNG"))
    many = [files["image"].open("rb") for _ in range(12)]
    with pytest.raises(openai.BadRequestError, match="image: found 13 parts in 1 turns") as refused_many:
        client.images.edit(prompt="a", image=many)
    assert isinstance(refused_many.value.body, dict) and refused_many.value.body["param"] == "image"
    with pytest.raises(openai.BadRequestError, match="image: found a file with the ending"):
        client.images.edit(prompt="a", image=("picture.exe", b"MZ"))
    with pytest.raises(openai.BadRequestError, match="seed: input should be greater"):
        client.images.edit(prompt="a", image=files["image"].open("rb"), extra_body={"seed": -1})

    def post(**options: Any) -> httpx.Response:
        return httpx.post(f"{address}/v1/images/edits", **options)

    sent = {"image": ("a.png", files["image"].read_bytes())}
    own = post(files=sent, data={"prompt": "a"}, headers={"origin": address}, timeout=60)
    assert own.status_code == 200 and own.json()["data"]
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://["):
        foreign = post(files=sent, data={"prompt": "a"}, headers={"origin": origin})
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "invalid_origin")
    form = {"content-type": "multipart/form-data; boundary=x"}
    words = b'--x\r\ncontent-disposition: form-data; name="\\ud800"\r\n\r\na\r\n--x--\r\n'
    for charset in ("undefined", "unicode_escape", "utf-16", "nothing"):
        refused = post(content=words, headers={"content-type": f"{form['content-type']}; charset={charset}"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "invalid_content_type")
    assert post(content=words, headers={"content-type": f"{form['content-type']}; charset=UTF-8"}).status_code == 400
    for body in (b"", b"--x", b"--x\r\n\r\na\r\n--x--", b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n'):
        assert post(content=body, headers=form).status_code == 400
    assert post(content=b"--x--", headers={"content-type": "multipart/form-data"}).status_code == 400
    assert post(content=b"{}", headers={"content-type": "application/json"}).status_code == 415
    both = post(data={"prompt": "a", "x": "1", "x[]": "2"}, files=sent)
    assert both.status_code == 400 and both.json()["error"]["code"] == "unsupported_parameter"
    assert post(content=bytes(3 << 20), headers=form).status_code == 413
