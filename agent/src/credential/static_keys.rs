//! Fixed keys, their secrets in files that only their owner reads. Blocking; runs when a configuration is loaded.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::{BrokerError, Held, Secret};

/// A secret is a line; a file larger than this is something else.
const MAX_FILE: u64 = 16 << 10;

/// Reads the keys of a static binding.
pub(super) fn load(key: &str, secret: &Path, token: Option<&Path>, account: Option<&str>) -> Result<Held, BrokerError> {
    Ok(Held {
        access_key_id: key.to_owned(),
        secret_access_key: read(secret, key, "secret access key", 16)?,
        session_token: token.map(|path| read(path, key, "session token", 16)).transpose()?,
        expires: None,
        account: account.map(str::to_owned),
    })
}

fn read(path: &Path, key: &str, what: &'static str, min: usize) -> Result<Secret, BrokerError> {
    let failed = |reason: String| BrokerError::File { path: path.into(), key: key.to_owned(), reason };
    // O_NONBLOCK: a FIFO put there must not hang the daemon. The checks are of what was opened, not of the name.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(path)
        .map_err(|e| failed(format!("{e}; check that it exists and that the daemon may read it")))?;
    let meta = file.metadata().map_err(|e| failed(e.to_string()))?;
    if !meta.is_file() {
        return Err(failed("it is not a regular file; give the path of one".into()));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(BrokerError::Exposed { path: path.into(), mode: meta.mode() & 0o7777 });
    }
    if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(BrokerError::Owner { path: path.into(), owner: meta.uid() });
    }
    // Room for all of it, so that no half of it stays behind in a buffer that grew.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize + 1));
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| failed(format!("{e}; it must be text")))?;
    let line = text.lines().next().unwrap_or_default().trim();
    let rest_is_blank = text.lines().skip(1).all(|l| l.trim().is_empty());
    if line.len() < min || !rest_is_blank || text.len() as u64 > MAX_FILE || !line.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(BrokerError::Content { path: path.into(), what });
    }
    Ok(Secret::new(line))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const KEY: &str = "AKIAABCDEFGHIJKLMNOP";

    fn file(name: &str, text: &[u8], mode: u32) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tollgate-static-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        path
    }

    #[test]
    fn reads_the_first_line() {
        let secret = file("good", b"  wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\r\n\n", 0o600);
        let token = file("token", b"FwoGZXIvYXdzEXAMPLETOKEN", 0o400);
        let held = load(KEY, &secret, Some(&token), Some("123456789012")).expect("valid");
        assert_eq!(held.secret_access_key.expose(), "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        assert_eq!(held.session_token.expect("there").expose(), "FwoGZXIvYXdzEXAMPLETOKEN");
        assert_eq!((held.access_key_id.as_str(), held.account.as_deref()), (KEY, Some("123456789012")));
    }

    #[test]
    fn every_bad_file_says_what_to_do() {
        let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let cases = [
            (
                PathBuf::from("/nonexistent/secret"),
                "cannot read `/nonexistent/secret` of the static binding for `AKIAABCDEFGHIJKLMNOP`",
            ),
            (std::env::temp_dir(), "is not a regular file"),
            (file("group", secret, 0o640), "(mode 0640); run `chmod 600"),
            (file("world", secret, 0o604), "(mode 0604); run `chmod 600"),
            (file("empty", b"", 0o600), "does not hold a secret access key on its first line"),
            (file("short", b"hunter2", 0o600), "does not hold a secret access key"),
            (file("two", b"wJalrXUtnFEMI/K7MDENG\nwJalrXUtnFEMI/K7MDENG", 0o600), "does not hold a secret access key"),
            (file("ini", b"aws_secret_access_key = wJalrXUtnFEMI", 0o600), "does not hold a secret access key"),
            (file("binary", &[0xff; 40], 0o600), "it must be text"),
            (file("large", &[b'a'; 20 << 10], 0o600), "does not hold a secret access key"),
        ];
        for (path, expected) in cases {
            let error = load(KEY, &path, None, None).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}\n  not: {expected}");
            assert!(!error.contains("wJalr"), "{error}");
        }
    }
}
