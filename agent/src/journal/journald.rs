//! journald's native protocol: one datagram an entry, `NAME=value` lines, binary lengths where a value has line feeds,
//! and a sealed memory file where the datagram is too long (systemd.io/JOURNAL_NATIVE_PROTOCOL).

use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

pub(super) const PATH: &str = "/run/systemd/journal/socket";

/// A socket towards journald.
#[derive(Debug)]
pub(super) struct Socket(UnixDatagram);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Fails now if nobody listens; not connected for good, so that journald may restart.
        UnixDatagram::unbound()?.connect(PATH)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    pub(super) fn send(&self, fields: &[(&str, String)]) -> io::Result<()> {
        let entry = encode(fields);
        match self.0.send_to(&entry, PATH) {
            Ok(_) => Ok(()),
            Err(e) if e.raw_os_error() == Some(nix::libc::EMSGSIZE) => self.send_file(&entry),
            Err(e) => Err(e),
        }
    }

    fn send_file(&self, entry: &[u8]) -> io::Result<()> {
        let memory = memfd_create(c"tollgate-event", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let mut file = std::fs::File::from(memory);
        file.write_all(entry)?;
        let all = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(all))?;
        let fds = [file.as_raw_fd()];
        let to = UnixAddr::new(PATH)?;
        sendmsg(
            self.0.as_raw_fd(),
            &[IoSlice::new(&[])],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::empty(),
            Some(&to),
        )?;
        Ok(())
    }
}

fn encode(fields: &[(&str, String)]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    for (name, value) in fields {
        entry.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // A line feed would begin another field: such a value is given by its length.
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_in_a_value_cannot_make_a_field() {
        let entry = encode(&[("A", "x\nPRIORITY=0".into()), ("B", "y".into())]);
        assert_eq!(entry, b"A\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\nB=y\n");
    }
}
