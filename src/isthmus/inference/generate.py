"""``isthmus generate``: answers one request, and writes the reply as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isthmus.data.media.reply_files import Content
from isthmus.inference.pipeline import Pipeline
from isthmus.inference.printable import printable
from isthmus.inference.session import read_content


def read_request(pieces: Sequence[Sequence[str]]) -> Content:
    """Ordered pairs ``[type, value]`` of words or files -> a message's content, with decoded media.

    Raises:
        ValueError: the request is empty, or a file can't be read.
    """
    if not pieces:
        raise ValueError("generate: found an empty request; expected --text, or a medium such as --image")
    return read_content([{"type": kind, kind: value} for kind, value in pieces])


def generate(pipeline: Pipeline, request: Content, require: Sequence[str], out: Path) -> None:
    """Answers one request, prints the words and the files' paths, and writes ``reply.json`` beside the files.

    Args:
        pipeline: answers.
        request: the content of the user's message.
        require: media that the reply must hold.
        out: folder for the reply.

    Raises:
        ValueError: the request can't be answered.
    """
    reply = pipeline.session().say(request, require)
    for line in [printable(reply.text), *map(str, reply.save(out))]:
        if line:
            print(line)
