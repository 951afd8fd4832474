#!/bin/sh
# enter.sh QEMU ROOT COMMAND...: runs a command of another CPU in a root directory, without a network.
#
# QEMU is registered in a user namespace of the command's own, as Linux can since 6.7. So processes
# that the command starts are emulated too, nothing else on this machine sees it, and root's rights
# are not needed.
set -eu
exec unshare --user --map-root-user --mount --pid --net --fork --kill-child sh -euc '
qemu=$1 root=$2
shift 2
mount -t proc proc /proc
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
# ELF, 64 bits, little endian, executable or shared, aarch64. F: opened now, so that ROOT needs no
# QEMU in it; P: argv[0] as it was given.
magic="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
printf "%s" ":aarch64:M:0:$magic:$mask:$qemu:FP" > /proc/sys/fs/binfmt_misc/register
ip link set lo up
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
# QEMU shows the CPU of this machine there, and ONNX Runtime ends at the sight of it.
mount --bind "$root/etc/cpuinfo" "$root/proc/cpuinfo"
exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 \
  PATH=/opt/alpaca2/bin:/usr/sbin:/usr/bin "$@"
' sh "$@"
