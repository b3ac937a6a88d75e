//! `tollgate policy check`: what a load would refuse, and what is odd though it loads.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::policy::{PolicyError, PolicySet};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory of *.cedar files; /etc/tollgate/policies if none is given.
    dir: Option<PathBuf>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
    /// Fail for warnings, too.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let dir = super::dir(args.dir.clone());
    let (number, errors, warnings) = match super::load(&dir) {
        Ok(set) => (set.len(), Vec::new(), findings(&set)),
        Err(errors) => (0, errors, Vec::new()),
    };
    // The directory itself, which is no matter of what stands in it.
    let unread = errors.iter().any(|e| e.line == 0);
    let good = errors.is_empty() && (warnings.is_empty() || !args.strict);
    if args.json {
        let each = |level: &'static str| move |e: &PolicyError| finding(level, e);
        let all: Vec<Value> = errors.iter().map(each("error")).chain(warnings.iter().map(each("warning"))).collect();
        println!("{:#}", json!({"dir": dir, "policies": number, "good": good, "findings": all}));
    } else {
        errors.iter().for_each(|e| println!("error: {e}"));
        warnings.iter().for_each(|w| println!("warning: {w}"));
        if errors.is_empty() {
            println!("{}: {number} policies, {} warning(s)", dir.display(), warnings.len());
        }
    }
    match (good, unread) {
        (true, _) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(2),
    }
}

/// All that is odd about policies that load, by their places.
pub(in crate::cli) fn findings(set: &PolicySet) -> Vec<PolicyError> {
    let mut all: Vec<PolicyError> = set.warnings().to_vec();
    all.extend(set.findings());
    all.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    all
}

fn finding(level: &str, e: &PolicyError) -> Value {
    json!({"level": level, "file": e.file, "line": e.line, "column": e.column, "message": e.message, "fix": e.fix})
}
