//! `~/.aws` as the session sees it: the user's own configuration with a region and a CA bundle added.
//!
//! One file serves every Python environment and both CLIs. Credentials are left out: real keys are hidden from the
//! session, so that the default chain ends at the metadata service.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Bind, Facts, MountPoint, Prepared, TrustError, file, own, write};

/// Files of `~/.aws` that are replaced or hidden; the rest is shown as it is.
const OURS: &[&str] = &["config", "credentials"];

pub(super) fn prepare(
    facts: &Facts<'_>,
    home: &Path,
    bundle: &Path,
    prepared: &mut Prepared,
) -> Result<(), TrustError> {
    let there = fs::metadata(home).map_err(file("look at", home))?;
    // A bind needs a mount point; making one in somebody else's directory is not ours to do.
    if !there.is_dir() || (there.uid() != facts.uid && facts.uid != 0) {
        return Err(TrustError::Home(home.into()));
    }
    let theirs = home.join(".aws");
    prepared.points.push(MountPoint::claim(&theirs, facts)?);
    let ours = facts.dir.join("aws");
    fs::create_dir_all(&ours).map_err(file("make", &ours))?;
    own(&ours, facts)?;
    let text = fs::read_to_string(theirs.join("config")).unwrap_or_default();
    let config = ours.join("config");
    write(&config, merge(&text, facts.region, bundle).as_bytes())?;
    own(&config, facts)?;
    prepared.binds.push(Bind { source: ours.clone(), target: theirs.clone(), read_only: false });
    for entry in
        fs::read_dir(&theirs).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(file("read", &theirs))?
    {
        let name = entry.file_name();
        let kind = entry.file_type().map_err(file("look at", &theirs))?;
        if OURS.iter().any(|o| name == *o) || !kind.is_dir() {
            continue;
        }
        let point = ours.join(&name);
        fs::create_dir_all(&point).map_err(file("make", &point))?;
        own(&point, facts)?;
        // The source is reached by the host's path, which the bind above hides: so this one has to come before it, onto
        // the directory that is about to be bound.
        let at = prepared.binds.len() - 1;
        prepared.binds.insert(at, Bind { source: theirs.join(&name), target: point, read_only: false });
    }
    Ok(())
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
