"""Serves google.longrunning.Operations on an API's own host: every call is passed on to longhaul."""

from collections.abc import Awaitable, Callable

import grpc
from google.longrunning import operations_pb2_grpc
from google.protobuf.message import Message


async def pass_on(
    call: Callable[..., Awaitable[Message]], request: Message, context: grpc.aio.ServicerContext
) -> Message:
    """Makes the call for its caller: same deadline, same metadata, same response.

    It ends when the caller gives up, since the handler is cancelled then, and with it the call.
    """
    try:
        return await call(
            request,
            timeout=context.time_remaining(),
            metadata=context.invocation_metadata(),
        )
    except grpc.aio.AioRpcError as error:
        # The trailing metadata holds the error's details.
        trailers = tuple(error.trailing_metadata())
        await context.abort(error.code(), error.details(), trailers)


class ForwardedOperations(operations_pb2_grpc.OperationsServicer):
    """Authorise here: your API decides who may see its operations."""

    def __init__(self, longhaul: grpc.aio.Channel) -> None:
        self._longhaul = operations_pb2_grpc.OperationsStub(longhaul)

    async def GetOperation(self, request, context):
        return await pass_on(self._longhaul.GetOperation, request, context)

    async def ListOperations(self, request, context):
        return await pass_on(self._longhaul.ListOperations, request, context)

    async def WaitOperation(self, request, context):
        return await pass_on(self._longhaul.WaitOperation, request, context)

    async def CancelOperation(self, request, context):
        return await pass_on(self._longhaul.CancelOperation, request, context)

    async def DeleteOperation(self, request, context):
        return await pass_on(self._longhaul.DeleteOperation, request, context)
