"""``/mcp``: the model as tools of agents, by the Model Context Protocol over streamable HTTP.

No session is kept: each message is a request of its own, and its answer JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from mcp import MCPError, types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import ClientDisconnect
from starlette.types import Message

from isthmus import __version__
from isthmus.serving.bodies import read_body
from isthmus.serving.errors import ApiError, told
from isthmus.serving.guard.origins import is_foreign
from isthmus.serving.media import to_base64
from isthmus.serving.routes.asking import Asking
from isthmus.serving.routes.completions import finish_reason
from isthmus.serving.routes.mcp_tools import Tool, blocks, tools_of
from isthmus.serving.routes.questions import Question
from isthmus.serving.schema import read_object

SMALL_BODY = 64 << 10
"""Bytes of a message that is read without a place in the queue, as those by which agents look for tools."""


class Agents:
    """The endpoint.

    Args:
        asking: runs requests.
    """

    def __init__(self, asking: Asking) -> None:
        self.asking, self.tools = asking, tools_of(asking)
        server: Server[Any] = Server("isthmus", version=__version__, on_list_tools=self._list, on_call_tool=self._call)
        # Hosts are checked for all routes, and origins below.
        self._sessions = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=asking.limits.body
        )

    def running(self) -> AbstractAsyncContextManager[None]:
        """Answers within the block; once."""
        return self._sessions.run()

    async def answer(self, request: Request) -> Response:
        """Answers a message of the protocol.

        Raises:
            ApiError: it isn't read: from another site's page, not JSON, too large, too slow, or nobody has a place.
            ClientDisconnect: the client has left.
        """
        if is_foreign(request.headers.get("origin"), request.headers.get("host")):
            raise ApiError(403, "origin: found another site's page; expected this server's own.", code="wrong_origin")
        declared = request.headers.get("content-length", "")
        is_small = declared.isdigit() and int(declared) <= SMALL_BODY
        with nullcontext() if is_small else self.asking.place(request):
            unread = [await read_body(request, self.asking.limits)]
        begun: Message = {}
        pieces: list[bytes] = []

        async def receive() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await request.receive()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
            else:
                pieces.append(message.get("body", b""))

        await self._sessions.handle_request(request.scope, receive, send)
        if getattr(request.state, "has_left", False):
            raise ClientDisconnect
        response = Response(b"".join(pieces), begun["status"])
        response.raw_headers = [*begun["headers"]]
        return response

    async def _list(
        self, _: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool.shown for tool in self.tools.values()])

    async def _call(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Calls a tool. What its agent can mend is told as the tool's error, which models read.

        Raises:
            MCPError: there is no tool of this name.
        """
        if (tool := self.tools.get(params.name)) is None:
            found = (
                f"tool: found '{params.name[:40]}'; expected one of {', '.join(self.tools)}. Fix: name one of these."
            )
            raise MCPError(types.INVALID_PARAMS, found)
        request = context.request
        assert isinstance(request, Request), "the endpoint is HTTP's"
        try:
            return await self._answered(request, tool, params.arguments or {})
        except ClientDisconnect:
            request.state.has_left = True
            said = "The client has left."
        except Exception as error:
            said = told(error).message
        return types.CallToolResult(content=[types.TextContent(text=said)], is_error=True)

    async def _answered(self, request: Request, tool: Tool, arguments: Mapping[str, Any]) -> types.CallToolResult:
        async def read(_: Request) -> tuple[None, Question]:
            asked = await run_in_threadpool(read_object, arguments, tool.kind)
            return None, tool.question(asked, self.asking.name)

        _, run = await self.asking.begin(request, read)
        reply = await self.asking.whole(request, run)
        content = await run_in_threadpool(blocks, reply, partial(to_base64, made=self.asking.made(run)))
        facts = {"model": run.model, "seed": run.job.sampling.seed, "finish_reason": finish_reason(reply)}
        facts |= {"usage": self.asking.usage(run, reply)}
        return types.CallToolResult(content=content, _meta=facts)
