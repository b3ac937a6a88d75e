//! The `bpf(2)` commands that aya lacks, or offers only in a form that cannot be shared between threads.
//!
//! Owns cgroup links (aya cannot swap a link's program in place, nor say which cgroup a link is on) and single-element map
//! access through a descriptor, including the atomic look-up-and-delete. Called from any thread; no call blocks.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;
use nix::libc;

/// `enum bpf_cmd` of the kernel's uapi.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Command {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ObjPin = 6,
    ObjGet = 7,
    Info = 15,
    MapTake = 21,
    LinkCreate = 28,
    LinkUpdate = 29,
}

/// `enum bpf_attach_type` of the kernel's uapi: the cgroup hooks in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Attach {
    SockCreate = 2,
    SockOps = 3,
    Bind4 = 8,
    Bind6 = 9,
    Connect4 = 10,
    Connect6 = 11,
    Sendmsg4 = 14,
    Sendmsg6 = 15,
    Getpeername4 = 29,
    Getpeername6 = 30,
}

/// What the kernel says of a cgroup link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInfo {
    pub program: u32,
    /// 0: the cgroup was removed, and the link is dead.
    pub cgroup: u64,
}

/// `union bpf_attr`, of which each command uses a prefix. The kernel wants the rest zero.
#[repr(C, align(8))]
struct Attr([u64; 16]);

impl Attr {
    const fn new() -> Self {
        Self([0; 16])
    }
    /// Two 32-bit fields in the word at `word`.
    fn halves(mut self, word: usize, first: u32, second: u32) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&first.to_ne_bytes());
        bytes[4..].copy_from_slice(&second.to_ne_bytes());
        self.0[word] = u64::from_ne_bytes(bytes);
        self
    }
    fn pointer<T: ?Sized>(mut self, word: usize, to: *const T) -> Self {
        self.0[word] = to.cast::<u8>() as u64;
        self
    }
    fn word(mut self, word: usize, value: u64) -> Self {
        self.0[word] = value;
        self
    }
}

/// # Safety
/// Every pointer in `attr` must be valid for what `command` reads or writes through it.
unsafe fn bpf(command: Command, attr: &mut Attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a whole, initialised union; the caller vouches for the pointers in it.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command as i32, std::ptr::from_mut(attr), size_of::<Attr>()) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// # Safety
/// As for [`bpf`]; `command` must return a new descriptor.
unsafe fn bpf_fd(command: Command, attr: &mut Attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise, passed on.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel made the descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Opens a pinned link, map or program.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = Attr::new().pointer(0, path.as_ptr());
    // SAFETY: the path is a C string that lives until the call returns.
    unsafe { bpf_fd(Command::ObjGet, &mut attr) }
}

/// Pins a link, map or program; the path must not exist yet.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = Attr::new().pointer(0, path.as_ptr()).halves(1, raw(fd), 0);
    // SAFETY: the path is a C string that lives until the call returns.
    unsafe { bpf(Command::ObjPin, &mut attr).map(drop) }
}

/// Attaches a program to a cgroup, beside others that are there.
pub fn attach(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: Attach) -> io::Result<OwnedFd> {
    // Flags 0 already mean "with others" for links; BPF_F_ALLOW_MULTI is EINVAL.
    let mut attr = Attr::new().halves(0, raw(program), raw(cgroup)).halves(1, hook as u32, 0);
    // SAFETY: no pointers.
    unsafe { bpf_fd(Command::LinkCreate, &mut attr) }
}

/// Puts another program into a link, without a gap. `ENOLINK`: its cgroup is gone.
pub fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new().halves(0, raw(link), raw(program));
    // SAFETY: no pointers.
    unsafe { bpf(Command::LinkUpdate, &mut attr).map(drop) }
}

/// What a cgroup link is attached to.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // `struct bpf_link_info`: type, id, prog_id, padding, then a union that for cgroup links starts with the cgroup's id.
    let mut info = [0_u64; 16];
    let mut attr =
        Attr::new().halves(0, raw(link), size_of_val(&info) as u32).pointer(1, std::ptr::from_mut(&mut info));
    // SAFETY: `info` is writable for the length given, and outlives the call.
    unsafe { bpf(Command::Info, &mut attr)? };
    let program = u32::from_ne_bytes(info[1].to_ne_bytes()[..4].try_into().unwrap_or_default());
    Ok(LinkInfo { program, cgroup: info[2] })
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn read<K: Pod, V: Pod>(command: Command, map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = std::mem::MaybeUninit::<V>::zeroed();
    let mut attr =
        Attr::new().halves(0, raw(map), 0).pointer(1, std::ptr::from_ref(key)).pointer(2, value.as_mut_ptr());
    // SAFETY: key and value have the sizes that the map was made with (`crate::capture` opens each with its own types).
    let found = absent(unsafe { bpf(command, &mut attr) })?;
    // SAFETY: zeroed, then perhaps written by the kernel; any bytes are a value of a `Pod`.
    Ok(found.map(|_| unsafe { value.assume_init() }))
}

/// The value of `key`.
pub fn map_get<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    read(Command::MapLookup, map, key)
}

/// The value of `key`, removed in the same step: of two callers one gets it. Hash maps, from 5.14.
pub fn map_take<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    read(Command::MapTake, map, key)
}

/// Sets the value of `key`.
pub fn map_set<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = Attr::new()
        .halves(0, raw(map), 0)
        .pointer(1, std::ptr::from_ref(key))
        .pointer(2, std::ptr::from_ref(value))
        .word(3, 0);
    // SAFETY: as in `read`; the kernel only reads both.
    unsafe { bpf(Command::MapUpdate, &mut attr).map(drop) }
}

/// Removes `key`; whether it was there.
pub fn map_remove<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attr = Attr::new().halves(0, raw(map), 0).pointer(1, std::ptr::from_ref(key));
    // SAFETY: as in `read`.
    Ok(absent(unsafe { bpf(Command::MapDelete, &mut attr) })?.is_some())
}

/// All keys, as far as a map that changes meanwhile shows them; never more than `limit`.
pub fn map_keys<K: Pod>(map: BorrowedFd<'_>, limit: usize) -> io::Result<Vec<K>> {
    let mut keys: Vec<K> = Vec::new();
    while keys.len() < limit {
        let before = keys.last().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut next = std::mem::MaybeUninit::<K>::zeroed();
        let mut attr = Attr::new().halves(0, raw(map), 0).pointer(1, before).pointer(2, next.as_mut_ptr());
        // SAFETY: as in `read`; a null key asks for the first.
        match absent(unsafe { bpf(Command::MapNextKey, &mut attr) })? {
            // SAFETY: zeroed, then written by the kernel.
            Some(_) => keys.push(unsafe { next.assume_init() }),
            None => break,
        }
    }
    Ok(keys)
}

/// A value from the bytes of a ring buffer's record; `None` if there are too few.
pub fn from_bytes<V: Pod>(bytes: &[u8]) -> Option<V> {
    // SAFETY: as many bytes as the value has are readable, and any bytes are a value of a `Pod`.
    (bytes.len() >= size_of::<V>()).then(|| unsafe { bytes.as_ptr().cast::<V>().read_unaligned() })
}
