"""``isthmus serve``: a trained model over HTTP."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

from jsonargparse import Namespace

from isthmus.cli.parsing.model import model_parser, open_pipelines
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path
from isthmus.serving.limits import MEDIA_LIMITS, ServingLimits

log = logging.getLogger(__name__)
NAME = "isthmus"
"""Of a single model that is given none."""
NAMED = re.compile(r"([\w.-]+)=(.+)")
EXTRA = ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "gradio", "mcp")
REQUESTS = {
    "slots": ("slots", "answers that are decoded at once"),
    "queue": ("queue", "requests that may wait beyond these; others get 429"),
    "max_tokens": ("tokens", "the most that a request may ask for"),
    "max_parts": ("parts", "messages and content parts of a request"),
    "max_bytes": ("body", "of a request's body"),
    "max_inference_steps": ("inference_steps", "of the generators"),
    "timeout": ("seconds", "in which a request must be answered"),
    "decoders": ("decoders", "processes that decode media"),
    "decode_seconds": ("decode_seconds", "in which all media of a request must be decoded"),
    "decoder_memory": ("decoder_memory", "bytes that a decoder's process may allocate"),
    "max_media_megabytes": ("media_megabytes", "of all media of a request, files and what they decode to"),
    "fetch_seconds": ("fetch_seconds", "in which all media of a request must be fetched; see --fetch"),
    "max_connections": ("connections", "that may be open; others are closed"),
    "media_wait": ("media_wait", "seconds that a medium waits for others, while answers are decoded"),
    "kept_megabytes": (
        "kept",
        "for keys and values of prompts, and for media, that later turns need again; 0: nothing",
    ),
    "max_videos": ("videos", "jobs of /v1/videos that are kept at once"),
    "keep_videos": ("video_seconds", "seconds for which a film is kept after it was made"),
    "media_batch": ("media_batch", "answers whose media are made together; above 1, media are the same to rounding"),
}
"""Option -> the field of :class:`~isthmus.serving.limits.ServingLimits`, and what ``--help`` says of it."""
MEDIA = {
    "max_pixels": ("pixels", "of a picture or a frame"),
    "max_seconds": ("seconds", "of a recording or a film"),
    "max_points": ("points", "of a point cloud"),
}
"""The same of :class:`~isthmus.data.media.limits.MediaLimits`."""


def parser() -> Parser:
    """Of the command's options."""
    own = model_parser("Answers over HTTP, as OpenAI's clients ask; docs/serving.md tells the routes.", several=True)
    own.add_argument("--host", type=str, default="127.0.0.1", help="the address that it listens at; this machine's own")
    own.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    says = "names that it answers to, with commas; at this machine's own address those of it, else any"
    own.add_argument("--hosts", type=str, default="", help=says)
    own.add_argument("--name", type=str, help="of the model, by which requests name it; isthmus where not given")
    own.add_argument(
        "--page", type=bool, default=True, help="whether people can talk to the model at /; false leaves it out"
    )
    own.add_argument("--provenance", type=bool, default=True, help="whether made media say: made by, model, seed")
    own.add_argument("--api_keys", type=user_path, help="a file: a key a line, or sha256:DIGEST of it")
    says = "hosts from which media of requests may be fetched: a.example.org,*.b.example.org; none by default"
    own.add_argument("--fetch", type=str, default="", help=says)
    for limits, options in ((ServingLimits(), REQUESTS), (MEDIA_LIMITS, MEDIA)):
        for name, (field, says) in options.items():
            default = getattr(limits, field)
            own.add_argument(f"--{name}", type=type(default), default=default, help=says)
    return own


def named_folders(given: list[str], name: str | None) -> dict[str, Path]:
    """``FOLDER``, or several ``NAME=FOLDER`` -> folders by name.

    Args:
        given: values of ``--model``.
        name: of a single folder without one.

    Raises:
        ValueError: one of several has no name, two have the same, or a name is given in two ways.
    """
    if len(given) == 1 and (user_path(given[0]).exists() or not NAMED.match(given[0])):
        return {name or NAME: user_path(given[0])}
    if name is not None:
        raise ValueError(
            f"serve name: found '{name}' beside --model {given[0]}; expected names in --model NAME=FOLDER alone. Fix: "
            "leave --name out."
        )
    folders: dict[str, Path] = {}
    for each in given:
        found = NAMED.match(each)
        if found is None or found[1] in folders:
            raise ValueError(
                f"serve model: found '{each}' among several; expected each as NAME=FOLDER, under a name of its own. "
                "Fix: name it."
            )
        folders[found[1]] = user_path(found[2])
    return folders


def run(options: Namespace) -> None:
    """Serves until a signal ends it.

    Raises:
        ValueError: the extra isn't installed, a limit or the key file is wrong, or the model can't be opened.
    """
    from importlib.util import find_spec

    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise ValueError(f"serve: found no {missing[0]}; expected the extra. Fix: pip install 'isthmus[serve]'.")
    from isthmus.serving.guard.allocator import bound_allocator

    bound_allocator()  # before models' libraries start threads
    from isthmus.inference.same_experts import share_experts
    from isthmus.serving.app import create_app
    from isthmus.serving.guard.addresses import read_hosts
    from isthmus.serving.keys import Keys
    from isthmus.serving.server import LOOPBACK, serve

    media = replace(MEDIA_LIMITS, **{field: options[name] for name, (field, _) in MEDIA.items()})
    chosen = {field: options[name] for name, (field, _) in REQUESTS.items()}
    limits = replace(ServingLimits(), media=media, fetch=read_hosts(options.fetch), **chosen)
    keys = None if options.api_keys is None else Keys.read(options.api_keys)
    hosts = tuple(filter(None, map(str.strip, options.hosts.split(",")))) or (
        LOOPBACK if options.host in LOOPBACK else None
    )
    name, *others = models = named_folders(options.model, options.name)
    pipelines = open_pipelines(options, models)
    for each in others:
        apart = share_experts(pipelines[each].model, pipelines[name].model)
        if apart:
            log.warning("model %s: has %s of its own beside that of %s", each, ", ".join(apart), name)
    adapters = {each: pipelines[each] for each in others}
    app = create_app(
        pipelines[name],
        name,
        limits,
        keys,
        hosts,
        has_page=options.page,
        folders=models,
        adapters=adapters,
        marks=options.provenance,
    )
    serve(app, options.host, options.port, keys is not None, limits)
