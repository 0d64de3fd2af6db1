"""Tests of the futures of google-api-core."""

import asyncio

import grpc
from google.api_core import exceptions, operation, operation_async, operations_v1
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from google.type import fraction_pb2, money_pb2
from longhaul.v1 import jobs_pb2, operation_pb2

from connection import Connection, fresh
from suite import test
from worker import TIMEOUT_SECONDS, Task, packed

# The server does not know either type: it compares their names alone.
Price = money_pb2.Money
Share = fraction_pb2.Fraction
PRICE_NAME = Price.DESCRIPTOR.full_name
SHARE_NAME = Share.DESCRIPTOR.full_name
TYPE_URL_PREFIX = "type.googleapis.com/"

THIRD = Share(numerator=1, denominator=3)
TWELVE_EUROS = Price(currency_code="EUR", units=12)


def start_pricing(api: Connection, queue: str) -> operations_pb2.Operation:
    """Starts an operation whose metadata is a share and whose response is a price."""
    return api.start(
        parent=f"projects/{queue}",
        queue=queue,
        method="price",
        metadata_type=SHARE_NAME,
        response_type=PRICE_NAME,
    )


def complete_pricing(task: Task) -> None:
    """Does the work of such an operation."""
    task.report(metadata=packed(THIRD))
    task.complete(TWELVE_EUROS)


@test
def a_result_is_of_the_declared_type_under_the_stock_polling_settings(api: Connection) -> None:
    queue = fresh("stock")
    with api.worker(queue, complete_pricing):
        started = start_pricing(api, queue)
        future = operation.from_gapic(started, api.client, Price, metadata_type=Share)
        assert future.result(timeout=TIMEOUT_SECONDS) == TWELVE_EUROS
    assert future.metadata == THIRD
    assert future.done() and not future.cancelled()


@test
def an_asyncio_future_gets_the_result_too(api: Connection) -> None:
    queue = fresh("asyncio")

    async def priced() -> tuple[Price, Share]:
        async with grpc.aio.insecure_channel(api.server) as channel:
            client = operations_v1.OperationsAsyncClient(channel)
            started = start_pricing(api, queue)
            future = operation_async.from_gapic(started, client, Price, metadata_type=Share)
            return await future.result(timeout=TIMEOUT_SECONDS), future.metadata

    with api.worker(queue, complete_pricing):
        assert asyncio.run(priced()) == (TWELVE_EUROS, THIRD)


@test
def metadata_is_empty_and_typed_before_the_first_report_and_as_reported_afterwards(
    api: Connection,
) -> None:
    queue = fresh("metadata")
    started = start_pricing(api, queue)
    assert started.metadata.type_url == TYPE_URL_PREFIX + SHARE_NAME
    future = api.future(started, Price, Share)
    assert future.metadata == Share()

    task = api.lease(queue)
    assert not future.done() and future.metadata == Share()
    for reported in (THIRD, Share(numerator=2, denominator=3)):
        task.report(metadata=packed(reported))
        assert not future.done() and future.metadata == reported

    task.complete(TWELVE_EUROS, metadata=packed(Share(numerator=3, denominator=3)))
    assert future.result() == TWELVE_EUROS
    assert future.metadata == Share(numerator=3, denominator=3)


@test
def initial_metadata_stands_until_a_worker_reports_some(api: Connection) -> None:
    queue = fresh("initial")
    started = api.start(queue=queue, metadata_type=SHARE_NAME, initial_metadata=packed(THIRD))
    future = api.future(started, empty_pb2.Empty, Share)
    assert future.metadata == THIRD

    task = api.lease(queue)
    assert task.lease.metadata == packed(THIRD)
    task.complete()
    assert future.done() and future.metadata == THIRD


@test
def payloads_pass_through_byte_for_byte(api: Connection) -> None:
    queue = fresh("bytes")
    # Fields out of order and one that no version of the type has: decoding would show.
    odd = b"\x18\x05" + b"\x0a\x03EUR" + b"\xa0\x06\x01"
    request = any_pb2.Any(type_url="types.example.com/google.type.Money", value=odd)
    started = api.start(queue=queue, response_type=PRICE_NAME, request=request)
    future = api.future(started, Price)

    task = api.lease(queue)
    normalised = any_pb2.Any(type_url=TYPE_URL_PREFIX + PRICE_NAME, value=odd)
    assert task.lease.request.value == odd
    task.complete(request)
    result = future.result()
    assert (result.currency_code, result.nanos) == ("EUR", 5)
    assert future.operation.response == normalised


@test
def well_known_types_serve_as_metadata_and_response(api: Connection) -> None:
    queue = fresh("wellknown")
    url = TYPE_URL_PREFIX + struct_pb2.Struct.DESCRIPTOR.full_name
    started = api.start(queue=queue, metadata_type=url, response_type=url)
    future = api.future(started, struct_pb2.Struct, struct_pb2.Struct)
    assert future.metadata == struct_pb2.Struct()

    halfway, whole = struct_pb2.Struct(), struct_pb2.Struct()
    halfway.update({"part": 0.5})
    whole.update({"rows": [1, 2, 3], "note": None})
    task = api.lease(queue)
    task.report(metadata=packed(halfway))
    assert not future.done() and future.metadata == halfway
    task.complete(whole)
    assert future.result() == whole


@test
def an_operation_without_a_response_ends_with_empty(api: Connection) -> None:
    for response_type in (empty_pb2.Empty.DESCRIPTOR.full_name, ""):
        queue = fresh("empty")
        started = api.start(queue=queue, response_type=response_type)
        future = api.future(started, empty_pb2.Empty)
        api.lease(queue).complete()
        assert future.result() == empty_pb2.Empty(), response_type


@test
def the_servers_own_metadata_stands_where_none_is_declared(api: Connection) -> None:
    State = operation_pb2.OperationRecord.State
    queue = fresh("own")
    options = operation_pb2.OperationOptions(target="shelves/1")
    started = api.start(queue=queue, method="sort", options=options)
    future = api.future(started, empty_pb2.Empty, operation_pb2.OperationMetadata)
    pending = future.metadata
    assert (pending.state, pending.verb, pending.target) == (State.PENDING, "sort", "shelves/1")
    assert pending.HasField("create_time") and not pending.HasField("start_time")

    task = api.lease(queue)
    task.report(progress=operation_pb2.Progress(fraction=0.5), status_detail="by colour")
    assert not future.done()
    running = future.metadata
    assert (running.state, running.attempt_count) == (State.RUNNING, 1)
    assert (running.progress.fraction, running.status_detail) == (0.5, "by colour")
    assert running.create_time == pending.create_time and running.HasField("start_time")

    task.complete()
    assert future.done()
    ended = future.metadata
    assert ended.state == State.SUCCEEDED
    assert ended.HasField("end_time") and ended.HasField("expire_time")


@test
def no_metadata_at_all_stands_where_the_producer_asks_for_none(api: Connection) -> None:
    options = operation_pb2.OperationOptions(
        metadata_policy=operation_pb2.OperationOptions.MetadataPolicy.NONE
    )
    started = api.start(queue=fresh("none"), options=options)
    assert api.future(started, empty_pb2.Empty).metadata is None


@test
def a_failed_operation_raises_its_own_error_with_message_and_details(api: Connection) -> None:
    queue = fresh("failed")
    started = start_pricing(api, queue)
    future = api.future(started, Price, Share)
    info = error_details_pb2.ErrorInfo(
        reason="OUT_OF_STOCK", domain="shop.example.com", metadata={"article": "17"}
    )
    error = status_pb2.Status(
        code=code_pb2.FAILED_PRECONDITION, message="article 17 is gone", details=[packed(info)]
    )
    assert not api.lease(queue).fail(error).will_retry

    try:
        result = future.result()
    except exceptions.FailedPrecondition as raised:
        assert raised.message == "article 17 is gone"
        assert raised.errors == [error]
        details = error_details_pb2.ErrorInfo()
        assert raised.errors[0].details[0].Unpack(details) and details == info
    else:
        raise AssertionError(f"not raised, but answered: {result}")
    assert future.metadata == Share()
    assert not future.cancelled()


@test
def every_error_code_raises_the_exception_that_stands_for_it(api: Connection) -> None:
    queue = fresh("codes")
    for status_code in grpc.StatusCode:
        code = status_code.value[0]
        # Code 0 is no error, and code 1 without a request to cancel is a failed attempt.
        if code in (code_pb2.OK, code_pb2.CANCELLED):
            continue
        future = api.future(start_pricing(api, queue), Price, Share)
        api.lease(queue).fail_for_good(status_pb2.Status(code=code, message=f"code {code}"))
        raised = future.exception()
        assert isinstance(raised, exceptions.GoogleAPICallError), f"{code}: {raised}"
        assert (raised.grpc_status_code, raised.message) == (status_code, f"code {code}")


@test
def a_retried_attempt_does_not_disturb_the_future(api: Connection) -> None:
    queue = fresh("retried")
    future = api.future(start_pricing(api, queue), Price, Share)
    outage = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the price list is down")
    task = api.lease(queue)
    task.report(metadata=packed(THIRD))
    assert task.fail(outage, retry_delay={"nanos": 1_000_000}).will_retry
    assert not future.done() and future.metadata == THIRD

    task = api.lease(queue)
    assert (task.lease.attempt, task.lease.last_error) == (2, outage)
    task.complete(TWELVE_EUROS)
    assert future.result() == TWELVE_EUROS


@test
def cancelling_a_pending_operation_ends_it_at_once(api: Connection) -> None:
    future = api.future(start_pricing(api, fresh("pending")), Price, Share)
    assert future.cancel()
    assert future.cancelled()
    assert isinstance(future.exception(), exceptions.Cancelled)
    assert future.operation.error.code == code_pb2.CANCELLED
    assert not future.cancel(), "it was done already"


@test
def cancelling_a_running_operation_ends_it_once_its_worker_agrees(api: Connection) -> None:
    queue = fresh("running")
    future = api.future(start_pricing(api, queue), Price, Share)
    task = api.lease(queue)
    assert not task.report(metadata=packed(THIRD)).cancel_requested

    assert future.cancel()
    assert not future.done(), "its worker has not stopped yet"
    assert task.report(cancel_acknowledged=True).cancel_requested
    assert not future.done(), "its worker has only heard of it"
    assert not task.stop_as_asked().will_retry
    assert future.cancelled()
    assert isinstance(future.exception(), exceptions.Cancelled)
    assert future.metadata == THIRD


@test
def a_worker_that_finishes_before_it_hears_of_the_cancellation_wins(api: Connection) -> None:
    queue = fresh("late")
    future = api.future(start_pricing(api, queue), Price, Share)
    task = api.lease(queue)
    assert future.cancel()
    task.complete(TWELVE_EUROS)
    assert future.result() == TWELVE_EUROS
    assert not future.cancelled()


@test
def a_finished_operation_never_changes(api: Connection) -> None:
    queue = fresh("final")
    name = start_pricing(api, queue).name
    task = api.lease(queue)
    task.complete(TWELVE_EUROS)
    before = api.get(name)
    assert before.done

    api.client.cancel_operation(name)
    task.complete(TWELVE_EUROS)
    assert api.get(name) == before


@test
def a_future_over_a_run_of_a_job_resolves_to_its_typed_response(api: Connection) -> None:
    queue = fresh("job")
    template = jobs_pb2.JobTemplate(queue=queue, method="price", response_type=PRICE_NAME)
    job = api.jobs.CreateJob(
        jobs_pb2.CreateJobRequest(
            parent=f"projects/{queue}", job_id="nightly", job=jobs_pb2.Job(template=template)
        )
    )
    with api.worker(queue, lambda task: task.complete(TWELVE_EUROS)):
        started = api.jobs.RunJob(jobs_pb2.RunJobRequest(name=job.name))
        future = operation.from_gapic(
            started,
            api.client,
            jobs_pb2.RunJobResponse,
            metadata_type=jobs_pb2.RunJobMetadata,
        )
        response = future.result(timeout=TIMEOUT_SECONDS)
    price = Price()
    assert response.response.Unpack(price) and price == TWELVE_EUROS
    assert future.metadata.job == job.name
    assert future.metadata.execution == response.execution
    execution = api.jobs.GetExecution(jobs_pb2.GetExecutionRequest(name=response.execution))
    assert execution.operation == started.name
