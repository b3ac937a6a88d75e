//! The redo log: links that have been promised and are not in the database yet.
//!
//! A file of a fixed size beside the database, written from its start towards its end, and from its start again when the
//! database has, safely, all that it holds. A commit is one write of whole blocks that goes to the disk past the page
//! cache: the same lines in the database would dirty several pages, each of them written twice, and be synced by a call
//! of its own. Owns the file's format. Runs on the writer's thread, and once before that.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

use super::chain;
use crate::config::Durability;

/// Bytes of the file. Once around is some thousand exchanges.
const SIZE: usize = 8 << 20;
/// Writes past the page cache are of whole blocks of the disk's, from memory that is aligned as they are.
const BLOCK: usize = 4096;
const MAGIC: [u8; 8] = *b"tollredo";
/// Of an entry: [`MAGIC`], number of its first link, how many, bytes of their lines, hash of the last.
const HEADER: usize = 8 + 8 + 4 + 4 + 32;

/// Where the log of a database stands.
pub(super) fn beside(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-redo");
    path.into()
}

/// The log, for writing.
#[derive(Debug)]
pub(super) struct Redo {
    file: File,
    /// Where the next entry goes.
    at: usize,
    entry: Vec<u8>,
    links: u32,
    /// The entry once more, where the disk can take it from.
    aligned: Vec<u8>,
}

impl Redo {
    /// Opens or makes the file, to be written from its start: whatever it held must be in the database.
    pub(super) fn open(path: &Path, durability: Durability) -> io::Result<Self> {
        make(path)?;
        let open = |flags| OpenOptions::new().write(true).custom_flags(flags).open(path);
        let file = match durability {
            Durability::Power => match open(libc::O_DSYNC | libc::O_DIRECT) {
                // Not every file system can.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => open(libc::O_DSYNC)?,
                file => file?,
            },
            Durability::Process => open(0)?,
        };
        Ok(Self { file, at: 0, entry: Vec::new(), links: 0, aligned: Vec::new() })
    }

    /// Begins an entry, whose first link has this number.
    pub(super) fn begin(&mut self, first: i64) {
        self.entry.clear();
        self.links = 0;
        self.entry.extend_from_slice(&MAGIC);
        self.entry.extend_from_slice(&first.to_le_bytes());
        self.entry.resize(HEADER, 0);
    }

    pub(super) fn link(&mut self, kind: &str, body: &str) {
        self.links += 1;
        for text in [kind, body] {
            // What does not fit into 32 bits does not fit into the file.
            self.entry.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            self.entry.extend_from_slice(text.as_bytes());
        }
    }

    /// Whether there is room for the entry.
    pub(super) fn has_room(&self) -> bool {
        self.at + self.entry.len() <= SIZE
    }

    /// Writes the entry, whose last link has this hash. Durable when it returns.
    pub(super) fn commit(&mut self, last: &[u8; 32]) -> io::Result<()> {
        if !self.has_room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let lines = u32::try_from(self.entry.len() - HEADER).unwrap_or(u32::MAX);
        self.entry[16..20].copy_from_slice(&self.links.to_le_bytes());
        self.entry[20..24].copy_from_slice(&lines.to_le_bytes());
        self.entry[24..HEADER].copy_from_slice(last);
        let length = self.entry.len().next_multiple_of(BLOCK);
        if self.aligned.len() < length + BLOCK {
            self.aligned.resize(length + BLOCK, 0);
        }
        let start = self.aligned.as_ptr().align_offset(BLOCK);
        let aligned = &mut self.aligned[start..start + length];
        aligned[..self.entry.len()].copy_from_slice(&self.entry);
        aligned[self.entry.len()..].fill(0);
        self.file.write_all_at(aligned, self.at as u64)?;
        // Only now: what failed is written over.
        self.at += length;
        Ok(())
    }

    /// The next entry goes to the start of the file: the database has, safely, what all others say.
    pub(super) fn restart(&mut self) {
        self.at = 0;
    }
}

/// Puts a log out of the way that is another database's: nobody can say whether it is needed.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    let written = std::fs::metadata(path)?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    aside.push(format!(".{}", written.as_micros()));
    std::fs::rename(path, &aside)?;
    Ok(aside.into())
}

/// A file whose blocks are there: writing to them changes nothing else on the disk.
fn make(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length < SIZE {
        file.write_all(&vec![0; SIZE - length])?;
        file.sync_all()?;
        // That it is there has to be on the disk, too.
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
    }
    Ok(())
}

/// A link as the log has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Promised<'a> {
    pub seq: i64,
    pub kind: &'a str,
    pub body: &'a str,
    pub hash: [u8; 32],
}

/// What the log holds; nothing if there is none.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        log => log,
    }
}

/// The links in a log, in order. `hash`: that of the link with a number, which is in the database. An entry that
/// was not written to its end, and one from an earlier time around, does not go on from the one before it. `None`: it
/// goes on from a link that the database does not have, so it is another one's.
pub(super) fn promised<E>(
    mut log: &[u8],
    hash: impl FnOnce(i64) -> Result<Option<[u8; 32]>, E>,
) -> Result<Option<Vec<Promised<'_>>>, E> {
    let mut promised = Vec::new();
    let Some(first) = entry(log).map(|e| e.first) else { return Ok(Some(promised)) };
    let Some(mut before) = hash(first - 1)? else { return Ok(None) };
    let mut next = first;
    while let Some(entry) = entry(log)
        && entry.first == next
        && let Some(links) = entry.links(before)
    {
        next += i64::from(entry.count);
        before = entry.last;
        promised.extend(links);
        log = log.get((HEADER + entry.lines.len()).next_multiple_of(BLOCK)..).unwrap_or_default();
    }
    Ok(Some(promised))
}

struct Entry<'a> {
    first: i64,
    count: u32,
    last: [u8; 32],
    lines: &'a [u8],
}

fn entry(log: &[u8]) -> Option<Entry<'_>> {
    let log = log.strip_prefix(&MAGIC)?;
    let (first, log) = log.split_first_chunk()?;
    let (count, log) = log.split_first_chunk()?;
    let (lines, log) = log.split_first_chunk()?;
    let (last, log) = log.split_first_chunk()?;
    let lines = log.get(..usize::try_from(u32::from_le_bytes(*lines)).ok()?)?;
    Some(Entry { first: i64::from_le_bytes(*first), count: u32::from_le_bytes(*count), last: *last, lines })
}

impl<'a> Entry<'a> {
    /// Its links, if they go on from a hash and end with the entry's own.
    fn links(&self, mut before: [u8; 32]) -> Option<Vec<Promised<'a>>> {
        let (mut links, mut lines) = (Vec::new(), self.lines);
        for seq in (self.first..).take(usize::try_from(self.count).ok()?) {
            let (kind, body);
            (kind, lines) = text(lines)?;
            (body, lines) = text(lines)?;
            let hash = chain::hash(&before, seq, kind, body);
            links.push(Promised { seq, kind, body, hash });
            before = hash;
        }
        (before == self.last && !links.is_empty()).then_some(links)
    }
}

fn text(lines: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = lines.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::{Temporary, temporary};

    struct Log {
        path: PathBuf,
        redo: Redo,
        head: (i64, [u8; 32]),
        _database: Temporary,
    }

    impl Log {
        fn open(durability: Durability) -> Self {
            let database = temporary();
            let path = beside(&database);
            let redo = Redo::open(&path, durability).expect("opens");
            Self { path, redo, head: (0, chain::START), _database: database }
        }

        fn write(&mut self, bodies: &[&str]) {
            self.redo.begin(self.head.0 + 1);
            for body in bodies {
                self.redo.link("event", body);
                self.head = (self.head.0 + 1, chain::hash(&self.head.1, self.head.0 + 1, "event", body));
            }
            self.redo.commit(&self.head.1).expect("written");
        }

        fn read(&self) -> Vec<u8> {
            read(&self.path).expect("reads")
        }
    }

    /// Bodies of the links in a log that goes on from the start of a chain.
    fn bodies(log: &[u8]) -> Vec<&str> {
        let hash = |seq| Ok::<_, ()>((seq == 0).then_some(chain::START));
        promised(log, hash).expect("no database").into_iter().flatten().map(|p| p.body).collect()
    }

    #[test]
    fn what_was_written_is_read_in_both_durabilities() {
        for durability in [Durability::Power, Durability::Process] {
            let mut log = Log::open(durability);
            assert!(bodies(&log.read()).is_empty());
            let long = "x".repeat(3 * BLOCK);
            log.write(&["one", "two"]);
            log.write(&[&long]);
            log.write(&["four"]);
            assert_eq!(bodies(&log.read()), ["one", "two", &long, "four"]);
        }
    }

    #[test]
    fn what_was_not_written_to_its_end_and_what_is_older_is_left_out() {
        let mut log = Log::open(Durability::Power);
        log.write(&["one", "two"]);
        log.write(&["three"]);
        let whole = log.read();
        for (at, left) in [(HEADER + 20, 0), (BLOCK + HEADER + 14, 2), (BLOCK + 9, 2), (BLOCK, 2)] {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            assert_eq!(bodies(&torn).len(), left, "byte {at}");
        }
        // Cut anywhere: whole entries, or none, and no panic.
        for length in 0..2 * BLOCK {
            assert!([0, 2, 3].contains(&bodies(&whole[..length]).len()));
        }
        // The next time around: what is behind it is of the last.
        log.redo.restart();
        let before = log.head;
        log.write(&["four"]);
        let links = promised(&log.read(), |seq| Ok::<_, ()>((seq == before.0).then_some(before.1)))
            .expect("no database")
            .into_iter()
            .flatten()
            .map(|p| (p.seq, p.body.to_owned(), p.hash))
            .collect::<Vec<_>>();
        assert_eq!(links, [(4, "four".into(), log.head.1)]);
        // A database that does not have the link before it is not the log's.
        assert_eq!(promised(&log.read(), |_| Ok::<_, ()>(None)), Ok(None));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut log = Log::open(Durability::Process);
        let long = "x".repeat(SIZE / 2);
        log.write(&[&long]);
        log.redo.begin(2);
        log.redo.link("event", &long);
        assert!(!log.redo.has_room());
        assert!(log.redo.commit(&chain::START).is_err());
        log.redo.restart();
        assert!(log.redo.has_room());
    }
}
