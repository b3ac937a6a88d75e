//! What the object is made from, as one digest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Directories whose Rust sources and manifests go into the object.
const DIRS: [&str; 2] = ["common", "ebpf"];
/// Packages whose versions go into the object.
const PACKAGES: &str = "aya-";

pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Digest of the sources and of the locked versions of aya's packages.
pub(crate) fn sources(root: &Path) -> Result<String> {
    let mut all = Sha256::new();
    let mut add = |name: &str, bytes: &[u8]| {
        all.update((name.len() as u64).to_le_bytes());
        all.update(name.as_bytes());
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(bytes);
    };
    for dir in DIRS {
        for file in files(&root.join(dir))? {
            let name = file.strip_prefix(root)?.to_str().context("file names are text")?;
            add(name, &std::fs::read(&file)?);
        }
    }
    for package in locked(&std::fs::read_to_string(root.join("Cargo.lock"))?) {
        add("Cargo.lock", package.as_bytes());
    }
    Ok(hex::encode(all.finalize()))
}

/// `name = …` and `version = …` of the packages that matter, in the order of the file.
fn locked(lock: &str) -> Vec<String> {
    let entries = lock.split("[[package]]").skip(1);
    entries
        .filter_map(|entry| {
            let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            let name = field("name")?;
            name.trim_matches('"').starts_with(PACKAGES).then(|| format!("{name} {}", field("version").unwrap_or("")))
        })
        .collect()
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_into_the_object_counts() {
        let lock = "version = 4\n\n[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n";
        assert_eq!(locked(lock), ["\"aya-ebpf\" \"0.2.1\""]);
    }
}
