"""Tests of each call of the stock client of google.longrunning.Operations."""

import time

import grpc
from google.api_core import exceptions
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, struct_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from longhaul.v1 import callers_pb2, operation_pb2, producers_pb2

from connection import Connection, fresh
from suite import refused, test
from worker import TIMEOUT_SECONDS, packed

STRUCT_NAME = struct_pb2.Struct.DESCRIPTOR.full_name


def violated_fields(error: exceptions.GoogleAPICallError) -> list[str]:
    """Returns the invalid fields named by the error."""
    return [
        violation.field
        for detail in error.details
        if isinstance(detail, error_details_pb2.BadRequest)
        for violation in detail.field_violations
    ]


def resources(error: exceptions.GoogleAPICallError) -> list[str]:
    """Returns the resources that the error is about."""
    return [
        detail.resource_name
        for detail in error.details
        if isinstance(detail, error_details_pb2.ResourceInfo)
    ]


@test
def both_families_of_names_are_served_as_they_were_started(api: Connection) -> None:
    for parent in ("", "projects/atlas", "projects/atlas/locations/here"):
        queue, wanted = fresh("names"), fresh("op")
        started = api.start(parent=parent, operation_id=wanted, queue=queue)
        name = f"{parent}/operations/{wanted}".removeprefix("/")
        assert started.name == name
        assert api.get(name).name == name

        task = api.lease(queue)
        assert task.lease.operation == name
        task.complete()
        ended = api.get(name)
        assert (ended.name, ended.done) == (name, True)


@test
def an_id_is_made_where_none_is_given(api: Connection) -> None:
    first, second = (api.start(parent="projects/ids", queue=fresh("ids")).name for _ in range(2))
    assert first != second
    for name in (first, second):
        prefix, _, made = name.rpartition("/")
        assert prefix == "projects/ids/operations" and made, name


@test
def a_list_of_three_pages_names_every_operation_of_its_parent_once_newest_first(
    api: Connection,
) -> None:
    project, queue = fresh("listed"), fresh("listed")
    parent = f"projects/{project}"
    names = []
    for _ in range(105):
        names.append(api.start(parent=parent, queue=queue).name)
    others = (f"{parent}0", f"{parent}/shelves/1", f"shelves/1/projects/{project}", "")
    strangers = [api.start(parent=other, queue=queue).name for other in others]

    # The stock client has no page size, so these are the server's own 50.
    pages = [
        [listed.name for listed in page] for page in api.client.list_operations(parent, "").pages
    ]
    assert [len(page) for page in pages] == [50, 50, 5]
    assert [name for page in pages for name in page] == names[::-1]

    by_collection = api.client.list_operations(f"{parent}/operations", "")
    assert [listed.name for listed in by_collection] == names[::-1]
    for root in ("", "operations"):
        listed = next(iter(api.client.list_operations(root, "")))
        assert listed.name == strangers[-1], root


@test
def a_list_shows_each_operation_as_get_does(api: Connection) -> None:
    queue = fresh("shown")
    parent = f"projects/{queue}"
    options = {"queue": queue, "parent": parent, "response_type": STRUCT_NAME}
    ended = api.start(**options).name
    api.lease(queue).complete(struct_pb2.Struct())
    running = api.start(**options).name
    api.lease(queue)
    waiting = api.start(**options).name
    listed = list(api.client.list_operations(parent, ""))
    assert listed == [api.get(name) for name in (waiting, running, ended)]
    assert [operation.done for operation in listed] == [False, False, True]


@test
def a_list_refuses_what_it_cannot_answer(api: Connection) -> None:
    parent = f"projects/{fresh('refusals')}"
    for _ in range(2):
        api.start(parent=parent, queue=fresh("refusals"))

    def ask(**fields: object) -> operations_pb2.ListOperationsResponse:
        request = operations_pb2.ListOperationsRequest(**fields)
        return api.operations.ListOperations(request, timeout=TIMEOUT_SECONDS)

    token = ask(name=parent, page_size=1).next_page_token
    assert token
    assert not ask(name=parent, page_size=1, page_token=token).next_page_token

    invalid = exceptions.InvalidArgument
    for foreign in ("no token", token[:-1], token + "A"):
        refused(lambda: ask(name=parent, page_token=foreign), invalid, "INVALID_PAGE_TOKEN")
    refused(lambda: ask(name="projects/x", page_token=token), invalid, "INVALID_PAGE_TOKEN")
    error = refused(lambda: ask(name=parent, page_size=-1), invalid, "INVALID_ARGUMENT")
    assert violated_fields(error) == ["page_size"] and error.metadata["field"] == "page_size"
    error = refused(lambda: ask(name=parent, filter="done=maybe"), invalid, "INVALID_FILTER")
    assert violated_fields(error) == ["filter"] and error.metadata["position"] == "5"
    assert len(ask(name=parent, filter="done=false").operations) == 2
    assert not ask(name=parent, filter="done=true").operations
    partial = ask(name=parent, return_partial_success=True)
    assert len(partial.operations) == 2 and not partial.unreachable


@test
def an_unknown_name_is_not_found_and_a_malformed_one_is_refused(api: Connection) -> None:
    name = f"projects/p/operations/{fresh('missing')}"
    calls = (
        api.client.get_operation,
        api.client.cancel_operation,
        api.client.delete_operation,
    )
    for call in calls:
        error = refused(lambda: call(name), exceptions.NotFound, "OPERATION_NOT_FOUND")
        assert resources(error) == [name] and name in error.message
        for malformed in ("", "projects/p", "operations/", "operations/a/b"):
            refused(lambda: call(malformed), exceptions.InvalidArgument, "INVALID_NAME")


@test
def a_deleted_operation_is_not_found_from_then_on(api: Connection) -> None:
    queue = fresh("deleted")
    parent = f"projects/{queue}"
    name = api.start(parent=parent, queue=queue).name
    api.lease(queue).complete()

    api.client.delete_operation(name)
    for call in (api.client.get_operation, api.client.delete_operation):
        refused(lambda: call(name), exceptions.NotFound, "OPERATION_DELETED")
    assert not list(api.client.list_operations(parent, ""))


@test
def deleting_a_running_operation_discards_what_its_worker_makes_of_it(api: Connection) -> None:
    queue = fresh("discarded")
    parent = f"projects/{queue}"
    name = api.start(parent=parent, queue=queue).name
    task = api.lease(queue)

    api.client.delete_operation(name)
    refused(lambda: api.get(name), exceptions.NotFound, "OPERATION_DELETED")
    assert not list(api.client.list_operations(parent, ""))
    assert task.complete(struct_pb2.Struct()).discarded
    refused(lambda: api.get(name), exceptions.NotFound, "OPERATION_DELETED")


def wait(
    api: Connection, name: str, timeout: float | None, deadline: float = TIMEOUT_SECONDS
) -> operations_pb2.Operation:
    """Waits through the plain stub, since the stock client has no such method."""
    request = operations_pb2.WaitOperationRequest(name=name)
    if timeout is not None:
        request.timeout.CopyFrom(duration_pb2.Duration(nanos=round(timeout * 1e9)))
    return api.operations.WaitOperation(request, timeout=deadline)


@test
def wait_answers_with_the_state_shortly_before_its_deadline(api: Connection) -> None:
    name = api.start(queue=fresh("patient")).name
    began = time.monotonic()
    # After its deadline the stub would raise.
    waited = wait(api, name, None, deadline=1.0)
    assert time.monotonic() - began > 0.5, "it did not wait"
    assert waited == api.get(name) and not waited.done


@test
def wait_answers_with_the_state_when_its_own_time_is_over(api: Connection) -> None:
    name = api.start(queue=fresh("hasty")).name
    for timeout in (0.0, 0.05):
        assert not wait(api, name, timeout).done
    error = refused(lambda: wait(api, name, -0.5), exceptions.InvalidArgument, "INVALID_ARGUMENT")
    assert violated_fields(error) == ["timeout"]


@test
def wait_answers_as_soon_as_the_operation_is_done(api: Connection) -> None:
    queue = fresh("awaited")
    name = api.start(queue=queue).name
    request = operations_pb2.WaitOperationRequest(name=name)
    waiting = api.operations.WaitOperation.future(request, timeout=TIMEOUT_SECONDS)
    api.lease(queue).complete()
    ended = waiting.result()
    assert ended.done and ended == api.get(name)
    assert wait(api, name, None) == ended, "it was done already"
    missing = f"operations/{fresh('missing')}"
    refused(lambda: wait(api, missing, None), exceptions.NotFound, "OPERATION_NOT_FOUND")


@test
def a_watch_begins_with_the_state_and_ends_with_the_last_one(api: Connection) -> None:
    Type = callers_pb2.WatchOperationResponse.Type
    queue = fresh("watched")
    name = api.start(queue=queue).name
    request = callers_pb2.WatchOperationRequest(name=name)
    watch = api.callers.WatchOperation(request, timeout=TIMEOUT_SECONDS)
    first = next(watch)
    assert first.type == Type.SNAPSHOT and first.operation.name == name
    assert first.server_metadata.state == operation_pb2.OperationRecord.State.PENDING

    api.lease(queue).complete()
    *between, last = watch
    assert {message.type for message in between} <= {Type.UPDATE}
    assert last.type == Type.DONE and last.operation == api.get(name)


@test
def a_repeated_start_finds_the_operation_and_says_so(api: Connection) -> None:
    fields = {"parent": "projects/repeat", "queue": fresh("repeat"), "request_id": fresh("id")}

    def ask(**more: object) -> tuple[operations_pb2.Operation, str | None]:
        request = producers_pb2.StartOperationRequest(**fields, **more)
        answer, call = api.producers.StartOperation.with_call(request, timeout=TIMEOUT_SECONDS)
        return answer, dict(call.initial_metadata()).get("longhaul-replayed")

    started, replayed = ask()
    assert replayed is None
    assert ask() == (started, "true")
    refused(lambda: ask(method="other"), exceptions.InvalidArgument, "REQUEST_ID_REUSED")


@test
def what_a_worker_sends_must_be_of_the_declared_types(api: Connection) -> None:
    queue = fresh("typed")
    invalid = exceptions.InvalidArgument
    started = api.start(queue=queue, response_type=STRUCT_NAME)
    task = api.lease(queue)
    undeclared = packed(struct_pb2.Struct())
    refused(lambda: task.report(metadata=undeclared), invalid, "TYPE_MISMATCH")
    refused(lambda: task.complete(duration_pb2.Duration()), invalid, "TYPE_MISMATCH")
    refused(task.complete, invalid, "TYPE_MISMATCH")
    assert not api.get(started.name).done, "the lease goes on"
    task.complete(struct_pb2.Struct())
    assert api.get(started.name).done


@test
def an_operation_is_done_exactly_once(api: Connection) -> None:
    queue = fresh("once")
    name = api.start(queue=queue).name
    task = api.lease(queue)
    task.complete(struct_pb2.Struct())
    task.complete(struct_pb2.Struct())
    late = duration_pb2.Duration(seconds=1)
    refused(lambda: task.complete(late), exceptions.FailedPrecondition, "INVALID_STATE")
    assert api.get(name).response == packed(struct_pb2.Struct())


@test
def the_health_service_tells_the_server_from_what_it_does_not_know(api: Connection) -> None:
    health = health_pb2_grpc.HealthStub(api.channel)

    def ask(service: str) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return health.Check(request, timeout=TIMEOUT_SECONDS).status

    for served in ("", "google.longrunning.Operations"):
        assert ask(served) == health_pb2.HealthCheckResponse.SERVING, served
    try:
        status = ask("no.such.Service")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND
    else:
        raise AssertionError(f"not refused, but answered: {status}")
