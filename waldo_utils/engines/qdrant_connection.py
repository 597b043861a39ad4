"""The way to Qdrant: a client of the engine at an address, and its faults told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from waldo_utils.disk import locks

PATIENCE = 5  # seconds for the first answer
LONG = 120  # seconds for any other


def is_served(where: str) -> bool:
    """Return whether an address is that of a server, not of a folder or of this process."""
    return where.startswith(("http://", "https://"))


@contextmanager
def opened(where: str) -> Iterator:
    """Give a client of the engine at an address; `:memory:`, or a folder for trials, is one in this process.

    Raises:
        ModuleNotFoundError: the client's package is missing; says what to install.
        ConnectionError: nobody answers there, or what answers refuses.
        locks.Held: another process works in the folder.
    """
    try:
        import qdrant_client
        from qdrant_client.http import exceptions
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "Qdrant is spoken to by a package that is missing: install the extra `qdrant` (qdrant-client)"
        ) from None
    if "://" in where and not is_served(where):
        raise ValueError(f"{where} is no address of Qdrant: give one like http://HOST:6333, or a folder")
    client = None
    try:
        if is_served(where):
            qdrant_client.QdrantClient(
                url=where, timeout=PATIENCE, check_compatibility=False
            ).get_collections()
            client = qdrant_client.QdrantClient(url=where, timeout=LONG, check_compatibility=False)
        elif where == ":memory:":
            client = qdrant_client.QdrantClient(":memory:")
        else:
            client = qdrant_client.QdrantClient(path=where)
        yield client
    except exceptions.UnexpectedResponse as error:
        raise ConnectionError(
            f"{where} answered {error.status_code} {error.reason_phrase}: is it Qdrant?"
        ) from None
    except exceptions.ResponseHandlingException as error:
        raise ConnectionError(
            f"nobody answers at {where} ({error}): start Qdrant there, or correct the address"
        ) from None
    except RuntimeError as error:
        if "already accessed" not in str(error):
            raise
        raise locks.Held(f"another process works in {where}: wait for it, or serve Qdrant") from None
    finally:
        if client is not None:
            client.close()
