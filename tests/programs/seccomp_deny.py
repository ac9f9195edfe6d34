"""Run a command to which the kernel refuses some system calls, as a container may.

usage: python seccomp_deny.py ERRNO NUMBER[,NUMBER] COMMAND...

It does not look at the kind of machine: the numbers of the calls for pidfds are the same on x86-64 and aarch64.
"""

import ctypes
import os
import struct
import sys

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""Instructions of a filter, include/uapi/linux/bpf_common.h."""
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
"""What a filter returns, include/uapi/linux/seccomp.h."""
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def main() -> None:
    refusal, numbers = int(sys.argv[1]), [int(number) for number in sys.argv[2].split(",")]
    steps = [(LOAD, 0, 0, 0)]
    steps += [(JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | refusal)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0), (PR_SET_SECCOMP, FILTER, ctypes.byref(program))):
        if libc.prctl(*arguments, 0, 0) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
