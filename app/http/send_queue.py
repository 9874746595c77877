"""What was sent and has not arrived."""

import termios
from asyncio import Transport
from contextlib import suppress
from fcntl import ioctl
from sys import byteorder

_INT = bytes(4)


def unacknowledged_bytes(transport: Transport) -> int:
    """Linux counts those that the client's side has not acknowledged (SIOCOUTQ in tcp(7)).

    Elsewhere only those count that the kernel has not taken yet.
    """
    unwritten: int = transport.get_write_buffer_size()
    with suppress(OSError):
        unwritten += int.from_bytes(ioctl(_descriptor(transport), termios.TIOCOUTQ, _INT), byteorder)
    return unwritten


def _descriptor(transport: Transport) -> int:
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor
