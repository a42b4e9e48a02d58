"""``isthmus chat``: a conversation that is typed, or piped in line by line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from isthmus.inference.replies import Content, as_content, printable
from isthmus.inference.session import Session
from isthmus.model.reply import Reply
from isthmus.paths import user_path
from isthmus.types import MEDIA

HELP = """\
words             say them, together with the media that were added
/image FILE       add a picture to what you say next; likewise /video, /audio and /points
/send             send what was added without words
/require MEDIUM   the next answer must hold this medium, such as image
/save [FOLDER]    write the conversation and its media
/reset            start anew
/help             this list
/quit             leave"""


class Chat:
    """Reads lines, answers, and writes each answer's media into a folder.

    Args:
        session: the conversation.
        out: folder for media, whose numbers go on from those that lie there; ``/save`` without a folder writes there.
        write: where lines go.
    """

    def __init__(self, session: Session, out: Path, write: Callable[[str], None] = print) -> None:
        self.session = session
        self.out = user_path(out)
        self.write = write
        self.added: Content = []
        self.required: list[str] = []

    def run(self, lines: Iterable[str]) -> None:
        """Until ``/quit`` or the last line. A mistake is said and changes nothing."""
        for line in lines:
            if line.strip() == "/quit":
                return
            try:
                self.take(line.strip())
            except ValueError as error:
                self.write(f"error: {error}")

    def take(self, line: str) -> None:
        """One line: a command, or words.

        Raises:
            ValueError: an unknown command, a file that can't be read, or an answer that can't be given.
        """
        command, _, value = line.partition(" ")
        value = value.strip()
        if not line:
            return
        if not line.startswith("/"):
            self._send([*self.added, {"type": "text", "text": line}])
        elif command[1:] in MEDIA:
            modality = command[1:]
            if not value:
                raise ValueError(f"{command}: found no file; give its path")
            self.added += self.session.read([{"type": modality, modality: value}])
            self.write(f"({modality} added; it goes with what you say next)")
        else:
            self._command(command, value)

    def _command(self, command: str, value: str) -> None:
        match command:
            case "/send":
                if not self.added:
                    raise ValueError("/send: nothing was added; say something, or add a medium first")
                self._send(self.added)
            case "/require":
                made = self.session.pipeline.outputs
                if value not in made:
                    raise ValueError(f"/require: found '{value}'; this model makes {', '.join(made) or 'text alone'}")
                self.required.append(value)
            case "/save":
                self.write(f"(saved: {self.session.save(value or self.out)})")
            case "/reset":
                self.session.reset()
                self.added, self.required = [], []
                self.write("(a new conversation)")
            case "/help":
                self.write(HELP)
            case _:
                raise ValueError(f"found the command '{command}'; /help lists those that there are")

    def _send(self, content: Content) -> None:
        reply = self.session.say(content, self.required)
        self.added, self.required = [], []
        self._show(reply)

    def _show(self, reply: Reply) -> None:
        if reply.left_out:
            self.write(f"(the model no longer reads the oldest {reply.left_out} messages: its context is full)")
        folder = self.session.folder(self.out)
        for item in folder.save(as_content(reply.content), f"{folder.next_number():03}_"):
            text = (
                printable(item["text"])
                if item["type"] == "text"
                else f"[{item['type']}: {self.out / item[item['type']]}]"
            )
            if text:
                self.write(text)


def typed_lines(stream: TextIO) -> Iterator[str]:
    """Lines of a stream; at a terminal with a prompt, line editing and history."""
    if not stream.isatty():
        yield from stream
        return
    try:
        import readline  # noqa: F401 # importing it is what gives input() line editing
    except ImportError:
        pass  # not on every platform; typing works without
    print("/help lists what can be typed", file=sys.stderr)
    while True:
        try:
            yield input("> ")
        except EOFError:
            return
