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
        unsent = ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, _INT)
        unwritten += int.from_bytes(unsent, byteorder)
    return unwritten
