"""``isthmus chat``: a conversation read from a terminal or a pipe, line by line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from isthmus.data.media.reply_files import Content, as_content
from isthmus.inference.printable import printable
from isthmus.inference.session import Session
from isthmus.modalities import is_medium, known_media
from isthmus.model.reply import Reply
from isthmus.paths import user_path

HELP = """\
words             send them, with the media that were added
/MEDIUM FILE      add a medium to your next message: {media}
/send             send the added media without words
/require MEDIUM   the next answer must hold this medium, such as image
/save [FOLDER]    write the conversation and its media
/reset            start a new conversation
/help             this list
/quit             leave"""


class Chat:
    """Reads lines, answers, and writes each answer's media into a folder.

    Args:
        session: the conversation.
        out: folder for media, numbered after those that it already has; ``/save`` without a folder writes there.
        write: prints a line.
    """

    def __init__(self, session: Session, out: Path, write: Callable[[str], None] = print) -> None:
        self.session = session
        self.out = user_path(out)
        self.write = write
        self.added: Content = []
        self.required: list[str] = []

    def run(self, lines: Iterable[str]) -> None:
        """Runs until ``/quit`` or the last line. An invalid line prints an error and changes nothing."""
        for line in lines:
            if line.strip() == "/quit":
                return
            try:
                self.take(line.strip())
            except ValueError as error:
                self.write(f"error: {error}")

    def take(self, line: str) -> None:
        """Handles one line: a command, or words.

        Raises:
            ValueError: an unknown command, a file that can't be read, or a request that can't be answered.
        """
        command, _, value = line.partition(" ")
        value = value.strip()
        if not line:
            return
        if not line.startswith("/"):
            self._send([*self.added, {"type": "text", "text": line}])
        elif is_medium(command[1:]):
            modality = command[1:]
            if not value:
                raise ValueError(f"{command}: found no file; give its path")
            self.added += self.session.read([{"type": modality, modality: value}])
            self.write(f"({modality} added; it is sent with your next message)")
        else:
            self._command(command, value)

    def _command(self, command: str, value: str) -> None:
        match command:
            case "/send":
                if not self.added:
                    raise ValueError("/send: nothing was added; type words, or add a medium first")
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
                media = [f"/{modality}" for modality in self.session.requests or known_media()]
                self.write(HELP.format(media=", ".join(media)))
            case _:
                raise ValueError(f"found the command '{command}'; /help lists all commands")

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
    """Lines of a stream; a terminal gets a prompt, line editing and history."""
    if not stream.isatty():
        yield from stream
        return
    try:
        import readline  # noqa: F401 # importing it is what gives input() line editing
    except ImportError:
        pass  # not on every platform; typing works without
    print("/help lists all commands", file=sys.stderr)
    while True:
        try:
            yield input("> ")
        except EOFError:
            return
