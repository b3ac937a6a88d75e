//! `tollgate check`: a configuration and all that it names, without a daemon.
//!
//! What is good here is taken by a start or a reload: both go through [`daemon::check`].

use std::path::{Path, PathBuf};

use crate::daemon;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, default_value = "/etc/tollgate/tollgate.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    for line in check(&args.config)? {
        println!("{line}");
    }
    Ok(())
}

/// Warnings, and what there is.
fn check(path: &Path) -> anyhow::Result<Vec<String>> {
    let (config, policies) = daemon::check(path)?;
    let mut lines: Vec<String> = super::policy::findings(&policies).iter().map(|w| format!("warning: {w}")).collect();
    lines.push(format!(
        "{}: good, with {} policies in {}",
        path.display(),
        policies.len(),
        config.policy.dir.display()
    ));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_start_would_refuse_is_refused() {
        let dir = std::env::temp_dir().join(format!("tollgate-check-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(dir.join("policies")).expect("made");
        std::fs::write(dir.join("policies/a.cedar"), "permit (principal, action, resource);").expect("written");
        let file = dir.join("tollgate.toml");
        let check = |rest: &str| {
            let text = format!("{rest}\n[policy]\ndir = '{}'\n", dir.join("policies").display());
            std::fs::write(&file, text).expect("written");
            check(&file).map_err(|e| format!("{e:#}"))
        };
        let good = check("").expect("good");
        assert!(good.last().is_some_and(|l| l.contains("good, with 1 policies")), "{good:?}");
        for (rest, expected) in [
            (
                "[[binding]]\nbroker = { kind = 'static', access_key_id = 'AKIAIOSFODNN7EXAMPLE', secret_access_key_file = '/nonexistent/k' }",
                "cannot read `/nonexistent/k`",
            ),
            (
                "[[identity.issuer]]\nurl = 'https://i.example'\naudience = ['a']\nextra_root = '/nonexistent/i.pem'",
                "cannot read `extra_root`",
            ),
            (
                "[[upstream]]\nhost = 's3.amazonaws.com'\naddress = '127.0.0.1:1'\nextra_root = '/nonexistent/u.pem'",
                "`/nonexistent/u.pem` holds no usable root",
            ),
            ("[gateway]\nidle_timeout = 0", "out of range"),
        ] {
            let why = check(rest).expect_err(rest);
            assert!(why.contains(expected), "{rest}\n{why}");
        }
        // What is on trial binds nothing, and must be right all the same.
        std::fs::create_dir_all(dir.join("next")).expect("made");
        std::fs::write(dir.join("next/a.cedar"), "forbid (principal, action, resource);").expect("written");
        let trial = |dir: &Path| {
            let text = std::fs::read_to_string(&file).expect("text").replace("idle_timeout = 0", "idle_timeout = 60");
            std::fs::write(&file, text + &format!("trial_dir = '{}'\n", dir.display())).expect("written");
            super::check(&file).map_err(|e| format!("{e:#}"))
        };
        let good = trial(&dir.join("next")).expect("good");
        assert!(good.last().is_some_and(|l| l.contains("good, with 2 policies")), "{good:?}");
        std::fs::write(dir.join("next/a.cedar"), "forbid").expect("written");
        let why = super::check(&file).map_err(|e| format!("{e:#}")).map(|_| ()).expect_err("a broken policy on trial");
        assert!(why.contains("next/a.cedar:1:"), "{why}");
        std::fs::write(dir.join("policies/a.cedar"), "permit (principal").expect("written");
        let why = check("").expect_err("a broken policy");
        assert!(why.contains("the policies are not valid"), "{why}");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
