"""Exports a shelf with nothing but the API's stubs and google-api-core; it knows one host."""

import argparse

import grpc
import library_pb2
import library_pb2_grpc
from google.api_core import operation, operations_v1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", default="127.0.0.1:8080", metavar="HOST:PORT")
    arguments = parser.parse_args()
    with grpc.insecure_channel(arguments.api) as channel:
        library = library_pb2_grpc.LibraryStub(channel)
        started = library.ExportBooks(library_pb2.ExportBooksRequest(shelf="shelves/fiction"))
        print(started.name)
        # What a client library that is generated for the API does inside ExportBooks.
        future = operation.from_gapic(
            started,
            operations_v1.OperationsClient(channel),
            library_pb2.ExportBooksResponse,
            metadata_type=library_pb2.ExportBooksMetadata,
        )
        print(future.result().books, end="")
        print(f"{future.metadata.exported_books} of {future.metadata.total_books} books")


if __name__ == "__main__":
    main()
