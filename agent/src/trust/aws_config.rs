//! `~/.aws` as the session sees it: the user's own configuration with a region and a CA bundle added.
//!
//! One file serves every Python environment and both CLIs. Credentials are left out: real keys are hidden from the
//! session, so that the default chain ends at the metadata service.
//!
//! The user can put anything there at any time, and so can an agent of the user's; the daemon, which is root, looks at
//! it with the user's rights alone. What is written for the session stays root's until the launcher has bound it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, fchown};

use super::{Bind, Facts, MountPoint, PATIENCE, Place, Prepared, TrustError, file};
use crate::sys::rights::{self, Rights};

const NAME: &str = ".aws";
/// Files of `~/.aws` that are replaced or hidden; the rest is shown as it is.
const OURS: &[&str] = &["config", "credentials"];
/// Largest configuration that is taken over.
const MAX_CONFIG: u64 = 1 << 20;
/// Most directories of `~/.aws` that are shown: each is a mount, and a host has a limit on those.
const MAX_DIRECTORIES: usize = 64;

/// What the user has.
struct Theirs {
    point: MountPoint,
    config: String,
    directories: Vec<OsString>,
}

pub(super) fn prepare(
    facts: &Facts<'_>,
    home: &Path,
    bundle: &Path,
    prepared: &mut Prepared,
) -> Result<(), TrustError> {
    let rights = facts.rights.clone();
    let place = home.to_owned();
    let looked = facts.rights.run(PATIENCE, move || Ok(look(&place, &rights))).map_err(file("look at", home))?;
    // No such home: the system's files are all there is.
    let Some(theirs) = looked? else { return Ok(()) };
    prepared.points.push(theirs.point);
    let ours = facts.dir.join("aws");
    fs::DirBuilder::new().mode(0o700).create(&ours).map_err(file("make", &ours))?;
    let path = ours.join("config");
    let mut config =
        File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(file("make", &path))?;
    config.write_all(merge(&theirs.config, facts.region, bundle).as_bytes()).map_err(file("write", &path))?;
    fchown(&config, Some(Uid::from_raw(facts.rights.uid)), Some(Gid::from_raw(facts.rights.gid)))
        .map_err(|e| file("give away", &path)(e.into()))?;
    for name in theirs.directories {
        let point = ours.join(&name);
        fs::create_dir(&point).map_err(file("make", &point))?;
        // The source is reached by the host's path, which the bind below hides: so these come before it, onto the
        // directory that is about to be bound.
        prepared.binds.push(Bind {
            source: Place::Theirs { home: home.into(), below: Path::new(NAME).join(&name) },
            target: Place::Ours(point),
            read_only: false,
            give: false,
        });
    }
    prepared.binds.push(Bind {
        source: Place::Ours(ours),
        target: Place::Theirs { home: home.into(), below: NAME.into() },
        read_only: false,
        give: true,
    });
    Ok(())
}

/// Looks at the user's home; runs with the user's rights.
fn look(home: &Path, rights: &Rights) -> Result<Option<Theirs>, TrustError> {
    let opened = match rights::open(home, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK) {
        Ok(opened) => File::from(opened),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(_) => return Err(TrustError::Home(home.into())),
    };
    let owner = opened.metadata().map_err(file("look at", home))?.uid();
    // A bind needs a mount point; making one in somebody else's directory is not ours to do.
    if owner != rights.uid && rights.uid != 0 {
        return Err(TrustError::Home(home.into()));
    }
    let path = home.join(NAME);
    let opened = OwnedFd::from(opened);
    let (point, dir) = MountPoint::claim(home, &opened, NAME, rights.clone()).map_err(|e| match e.raw_os_error() {
        Some(nix::libc::ELOOP | nix::libc::ENOTDIR) => TrustError::NotDirectory(path.clone()),
        _ => file("open or make the mount point", &path)(e),
    })?;
    let config = path.join("config");
    let config = read_config(&dir).map_err(file("read", &config))?;
    let directories = directories(&dir).map_err(file("list", &path))?;
    if directories.len() > MAX_DIRECTORIES {
        return Err(TrustError::Many { path, most: MAX_DIRECTORIES });
    }
    Ok(Some(Theirs { point, config, directories }))
}

fn read_config(dir: &OwnedFd) -> io::Result<String> {
    let refuse = |why: &'static str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    // A link to it is common, and leads no further than the user could go; a pipe must not keep us waiting.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match rights::open_linked(dir, Path::new("config"), flags) {
        Ok(opened) => File::from(opened),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(e) => return Err(e),
    };
    if !file.metadata()?.is_file() {
        return refuse("it is not a regular file");
    }
    // `/proc/self` means the daemon here, whoever named it.
    let system = fstatfs(&file)?.filesystem_type();
    if system == PROC_SUPER_MAGIC || system == SYSFS_MAGIC {
        return refuse("it is a file of the kernel");
    }
    let mut text = String::new();
    if file.take(MAX_CONFIG + 1).read_to_string(&mut text)? as u64 > MAX_CONFIG {
        return refuse("it is larger than 1 MiB");
    }
    Ok(text)
}

/// Names of the directories in it; links to some are none.
fn directories(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())))? {
        let entry = entry?;
        let name = entry.file_name();
        if !OURS.iter().any(|o| name == *o) && entry.file_type()?.is_dir() {
            found.push(name);
        }
        if found.len() > MAX_DIRECTORIES {
            break;
        }
    }
    Ok(found)
}

/// The user's text with `region` (if it names none) and `ca_bundle` in the default profile and every other one.
fn merge(text: &str, region: &str, bundle: &Path) -> String {
    let mut sections: Vec<(String, Vec<&str>)> = vec![(String::new(), Vec::new())];
    for line in text.lines() {
        let trimmed = line.trim();
        match trimmed.strip_prefix('[').and_then(|l| l.split(']').next()) {
            Some(name) => sections.push((name.trim().to_owned(), Vec::new())),
            None => sections.last_mut().expect("it starts with one").1.push(line),
        }
    }
    if !sections.iter().any(|(name, _)| is_default(name)) {
        sections.push(("default".into(), Vec::new()));
    }
    let mut merged =
        String::from("# Made by Tollgate for this session: the user's own settings, with its region and roots.\n");
    for (name, lines) in sections {
        if !name.is_empty() {
            merged.push_str(&format!("[{name}]\n"));
        }
        let profile = is_default(&name) || name.starts_with("profile ");
        // Only at the left margin: indented lines belong to a nested setting such as `s3 =`.
        let sets = |line: &str, key: &str| {
            !line.starts_with([' ', '\t']) && line.split_once('=').is_some_and(|(k, _)| k.trim() == key)
        };
        let has_region = lines.iter().any(|l| sets(l, "region"));
        for line in lines {
            if !(profile && sets(line, "ca_bundle")) {
                merged.push_str(line);
                merged.push('\n');
            }
        }
        if profile {
            if !has_region {
                merged.push_str(&format!("region = {region}\n"));
            }
            merged.push_str(&format!("ca_bundle = {}\n", bundle.display()));
        }
    }
    merged
}

fn is_default(section: &str) -> bool {
    section == "default" || section == "profile default"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_gets_region_and_roots_and_keeps_its_own() {
        let text = "[default]\noutput = json\nca_bundle = /old\ns3 =\n  region = nested\n\n[profile a]\nregion = eu-west-1\n[sso-session b]\nsso_region = x\n";
        let merged = merge(text, "eu-central-1", Path::new("/b.pem"));
        let expected = "[default]\noutput = json\ns3 =\n  region = nested\n\nregion = eu-central-1\nca_bundle = /b.pem\n\
                        [profile a]\nregion = eu-west-1\nca_bundle = /b.pem\n[sso-session b]\nsso_region = x\n";
        assert_eq!(merged.split_once('\n').expect("a comment").1, expected);
    }

    #[test]
    fn an_empty_file_gets_a_default_profile() {
        let merged = merge("", "us-east-1", Path::new("/b.pem"));
        assert!(merged.ends_with("[default]\nregion = us-east-1\nca_bundle = /b.pem\n"), "{merged}");
    }
}
