//! The key of the digests: made once, kept beside the record, and read by nobody but the daemon.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Reads the key of a state directory, or makes it.
pub fn key(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join("approval.key");
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            io::Error::other(format!(
                "`{}` does not have 32 bytes; remove it, and what waits is asked anew",
                path.display()
            ))
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            // Whole or not at all, whatever happens meanwhile.
            let new = path.with_extension("new");
            let _ = std::fs::remove_file(&new);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&key)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            Ok(key)
        }
        Err(e) => Err(e),
    }
}
