"""The numbers and structures of libproc, as XNU's headers define them. `tests/test_libproc.py` compares them."""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int, c_int16, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64

PROC_ALL_PIDS = 1
PROC_PIDLISTFDS, PROC_PIDTBSDINFO, PROC_PIDT_SHORTBSDINFO, PROC_PIDUNIQIDENTIFIERINFO = 1, 3, 13, 17
PROC_PIDFDVNODEINFO, PROC_PIDFDVNODEPATHINFO, PROC_PIDFDSOCKETINFO = 1, 2, 3
PROX_FDTYPE_VNODE, PROX_FDTYPE_SOCKET = 1, 2
SOCKINFO_TCP = 2
TSI_S_LISTEN = 1
INI_IPV4, INI_IPV6 = 1, 2
SSTOP = 4
"""State of a process that a signal has stopped, sys/proc.h."""
FWASLOCKED = 0x4000
"""Flag of an open file on which flock(2) has succeeded, sys/fcntl.h. All who inherited the description share it."""
CTL_KERN, KERN_PROCARGS2 = 1, 49


class BsdInfo(ctypes.Structure):
    """``struct proc_bsdinfo``."""

    _fields_ = (
        ("pbi_flags", c_uint32),
        ("pbi_status", c_uint32),
        ("pbi_xstatus", c_uint32),
        ("pbi_pid", c_uint32),
        ("pbi_ppid", c_uint32),
        ("pbi_uid", c_uint32),
        ("pbi_gid", c_uint32),
        ("pbi_ruid", c_uint32),
        ("pbi_rgid", c_uint32),
        ("pbi_svuid", c_uint32),
        ("pbi_svgid", c_uint32),
        ("rfu_1", c_uint32),
        ("pbi_comm", c_char * 16),
        ("pbi_name", c_char * 32),
        ("pbi_nfiles", c_uint32),
        ("pbi_pgid", c_uint32),
        ("pbi_pjobc", c_uint32),
        ("e_tdev", c_uint32),
        ("e_tpgid", c_uint32),
        ("pbi_nice", c_int32),
        ("pbi_start_tvsec", c_uint64),
        ("pbi_start_tvusec", c_uint64),
    )


class ShortBsdInfo(ctypes.Structure):
    """``struct proc_bsdshortinfo``, which processes of other users show too."""

    _fields_ = (
        ("pbsi_pid", c_uint32),
        ("pbsi_ppid", c_uint32),
        ("pbsi_pgid", c_uint32),
        ("pbsi_status", c_uint32),
        ("pbsi_comm", c_char * 16),
        ("pbsi_flags", c_uint32),
        ("pbsi_uid", c_uint32),
        ("pbsi_gid", c_uint32),
        ("pbsi_ruid", c_uint32),
        ("pbsi_rgid", c_uint32),
        ("pbsi_svuid", c_uint32),
        ("pbsi_svgid", c_uint32),
        ("pbsi_rfu", c_uint32),
    )


class UniqueIdentifierInfo(ctypes.Structure):
    """``struct proc_uniqidentifierinfo``, likewise."""

    _fields_ = (
        ("p_uuid", c_uint8 * 16),
        ("p_uniqueid", c_uint64),
        ("p_puniqueid", c_uint64),
        ("p_idversion", c_int32),
        ("p_orig_ppidversion", c_int32),
        ("p_reserve2", c_uint64),
        ("p_reserve3", c_uint64),
    )


class DescriptorInfo(ctypes.Structure):
    """``struct proc_fdinfo``."""

    _fields_ = (("proc_fd", c_int32), ("proc_fdtype", c_uint32))


class FileInfo(ctypes.Structure):
    """``struct proc_fileinfo``."""

    _fields_ = (
        ("fi_openflags", c_uint32),
        ("fi_status", c_uint32),
        ("fi_offset", c_int64),
        ("fi_type", c_int32),
        ("fi_guardflags", c_uint32),
    )


class VnodeStat(ctypes.Structure):
    """``struct vinfo_stat``."""

    _fields_ = (
        ("vst_dev", c_uint32),
        ("vst_mode", c_uint16),
        ("vst_nlink", c_uint16),
        ("vst_ino", c_uint64),
        ("vst_uid", c_uint32),
        ("vst_gid", c_uint32),
        ("vst_times", c_int64 * 8),
        ("vst_size", c_int64),
        ("vst_blocks", c_int64),
        ("vst_blksize", c_int32),
        ("vst_flags", c_uint32),
        ("vst_gen", c_uint32),
        ("vst_rdev", c_uint32),
        ("vst_qspare", c_int64 * 2),
    )


class VnodeDescriptor(ctypes.Structure):
    """``struct vnode_fdinfo``, with ``struct vnode_info`` taken apart."""

    _fields_ = (
        ("pfi", FileInfo),
        ("vi_stat", VnodeStat),
        ("vi_type", c_int),
        ("vi_pad", c_int),
        ("vi_fsid", c_int32 * 2),
    )


class VnodePathDescriptor(ctypes.Structure):
    """``struct vnode_fdinfowithpath``, likewise."""

    _fields_ = (
        ("pfi", FileInfo),
        ("vi_stat", VnodeStat),
        ("vi_type", c_int),
        ("vi_pad", c_int),
        ("vi_fsid", c_int32 * 2),
        ("vip_path", c_char * 1024),
    )


class InternetSocket(ctypes.Structure):
    """``struct in_sockinfo``."""

    _fields_ = (
        ("insi_fport", c_int),
        ("insi_lport", c_int),
        ("insi_gencnt", c_uint64),
        ("insi_flags", c_uint32),
        ("insi_flow", c_uint32),
        ("insi_vflag", c_uint8),
        ("insi_ip_ttl", c_uint8),
        ("rfu_1", c_uint32),
        ("insi_faddr", c_uint8 * 16),
        ("insi_laddr", c_uint8 * 16),
        ("insi_v4_tos", c_uint8),
        ("insi_v6", c_uint32 * 3),
    )


class TcpSocket(ctypes.Structure):
    """``struct tcp_sockinfo``."""

    _fields_ = (
        ("tcpsi_ini", InternetSocket),
        ("tcpsi_state", c_int),
        ("tcpsi_timer", c_int * 4),
        ("tcpsi_mss", c_int),
        ("tcpsi_flags", c_uint32),
        ("rfu_1", c_uint32),
        ("tcpsi_tp", c_uint64),
    )


class SocketBuffer(ctypes.Structure):
    """``struct sockbuf_info``."""

    _fields_ = (("sbi_counts", c_uint32 * 5), ("sbi_flags", c_int16), ("sbi_timeo", c_int16))


class _Protocol(ctypes.Union):
    _fields_ = (("pri_tcp", TcpSocket), ("largest", c_uint64 * 66))  # struct un_sockinfo


class SocketDescriptor(ctypes.Structure):
    """``struct socket_fdinfo``, with ``struct socket_info`` taken apart."""

    _fields_ = (
        ("pfi", FileInfo),
        ("soi_stat", VnodeStat),
        ("soi_so", c_uint64),
        ("soi_pcb", c_uint64),
        ("soi_type", c_int),
        ("soi_protocol", c_int),
        ("soi_family", c_int),
        ("soi_shorts", c_int16 * 8),
        ("soi_oobmark", c_uint32),
        ("soi_rcv", SocketBuffer),
        ("soi_snd", SocketBuffer),
        ("soi_kind", c_int),
        ("rfu_1", c_uint32),
        ("soi_proto", _Protocol),
    )
