//! `tollgate policy test`: cases, judged.
//!
//! Cases come from TOML files, which say what is expected, or from the record, where what was decided is expected. Owns
//! reading and writing the files and what is printed; a case's form is `policy::case`'s.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::aws::model;
use crate::aws::operation::Operation;
use crate::cli::aws::Asked;
use crate::cli::table;
use crate::config::Mode;
use crate::control::{Client, Recorded};
use crate::policy::case::{Case, CaseFile, Ids, named};
use crate::policy::{Decision, PolicySet};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory of *.cedar files; /etc/tollgate/policies if none is given.
    dir: Option<PathBuf>,
    /// Directory of *.toml files with cases; `tests` in the directory of the policies if none is given.
    #[arg(long)]
    cases: Option<PathBuf>,
    /// Judge what this session did, and tell what would be decided otherwise; may be given several times.
    #[arg(long, value_name = "ID")]
    from_session: Vec<String>,
    /// Write the cases of those sessions to a directory, with what these policies say of them as expected.
    #[arg(long, value_name = "DIR", requires = "from_session")]
    save: Option<PathBuf>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<ExitCode> {
    let dir = super::dir(args.dir);
    if args.from_session.is_empty() {
        let cases = args.cases.unwrap_or_else(|| dir.join("tests"));
        let results = judge_all(&dir, &cases)?;
        return Ok(tell(&results, args.json));
    }
    let set = super::good(&dir)?;
    let mut all = Vec::new();
    for id in &args.from_session {
        let answer = client.get(&format!("/v1/sessions/{id}/cases")).await?;
        let recorded: Vec<Recorded> = serde_json::from_value(answer).context("the daemon is of another version")?;
        let judged = compare(&set, recorded)?;
        if let Some(to) = &args.save {
            save(to, id, &judged)?;
        }
        all.extend(judged);
    }
    Ok(tell_changes(&all, args.json))
}

// ---- cases from files ---------------------------------------------------------------------

/// How one case went; `None`: as expected.
#[derive(Debug)]
pub(super) struct Outcome {
    file: String,
    name: String,
    problem: Option<String>,
}

/// Judges every case of a directory.
pub(super) fn judge_all(dir: &Path, cases: &Path) -> anyhow::Result<Vec<Outcome>> {
    let set = super::good(dir)?;
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(cases).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect()).with_context(
            || format!("cannot read the cases of `{}`; name their directory with --cases", cases.display()),
        )?;
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    if files.is_empty() {
        bail!("`{}` has no *.toml files; write cases, as docs/policies.md shows", cases.display());
    }
    let mut all = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let file = CaseFile::parse(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        // Policies that are judged along are read with those of the directory.
        let along = (!file.also.is_empty()).then(|| with(dir, &name, &file.also)).transpose()?;
        let set = along.as_ref().unwrap_or(&set);
        for case in &file.cases {
            let operation = operation(case).map_err(|e| anyhow::anyhow!("{name}, case `{}`: {e}", case.name))?;
            let problem = case.differs(&case.judge(set, &operation));
            all.push(Outcome { file: name.clone(), name: case.name.clone(), problem });
        }
    }
    Ok(all)
}

fn with(dir: &Path, name: &str, also: &str) -> anyhow::Result<PolicySet> {
    let mut sources = PolicySet::sources(dir).map_err(|e| anyhow::anyhow!("{}", e.errors[0]))?;
    sources.push((format!("{name}, `also`"), also.to_owned()));
    let sources: Vec<(&str, &str)> = sources.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    PolicySet::from_sources(&sources, Mode::Enforce, model::catalog())
        .map_err(|errors| anyhow::anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// What a case asks about: as it says itself, or what the data path makes of its request.
fn operation(case: &Case) -> Result<Operation, String> {
    let Some(request) = &case.request else { return case.operation() };
    let line = serde_json::to_vec(request).map_err(|e| e.to_string())?;
    let mut asked = Asked::read(&line).map_err(|e| format!("{e:#}"))?;
    let endpoint = crate::aws::endpoint::resolve(&asked.host)
        .ok_or_else(|| format!("`{}` is not under one of AWS's domains", asked.host))?;
    let account = case.credential.as_ref().map(|c| c.account.as_str()).filter(|a| !a.is_empty());
    asked.understood(&endpoint, account).map(|(_, operation)| operation)
}

fn tell(results: &[Outcome], as_json: bool) -> ExitCode {
    let wrong = results.iter().filter(|r| r.problem.is_some()).count();
    if as_json {
        let each = results.iter().map(|r| json!({"file": r.file, "case": r.name, "problem": r.problem}));
        println!("{:#}", json!({"cases": results.len(), "wrong": wrong, "results": each.collect::<Vec<_>>()}));
    } else {
        for r in results {
            if let Some(problem) = &r.problem {
                println!("WRONG  {}: {}: {}", r.file, table::plain(&r.name), table::plain(problem));
            }
        }
        println!("{} cases, {wrong} wrong", results.len());
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

// ---- cases from the record ----------------------------------------------------------------

/// What was decided, and what would be.
#[derive(Debug)]
struct Judged {
    was: Recorded,
    /// `None`: the policies have no say in it.
    would: Option<Decision>,
}

impl Judged {
    fn changes(&self) -> bool {
        let Some(would) = &self.would else { return false };
        let same = would.verdict() == self.was.decision;
        // Somebody turned down what the same policies would have somebody asked about again.
        let turned_down =
            self.was.decision == "deny" && would.verdict() == "hold" && would.policies == self.was.policies;
        !same && !turned_down
    }
}

fn compare(set: &PolicySet, recorded: Vec<Recorded>) -> anyhow::Result<Vec<Judged>> {
    let each = recorded.into_iter().map(|was| {
        if was.unasked {
            return Ok(Judged { was, would: None });
        }
        let operation = was.case.operation().map_err(|e| anyhow::anyhow!("{}: {e}", was.case.name))?;
        let would = was.case.ask(&operation, |q| if was.observed { set.as_recorded(q) } else { set.decide(q) });
        Ok(Judged { was, would: Some(would) })
    });
    each.collect()
}

fn save(to: &Path, id: &str, all: &[Judged]) -> anyhow::Result<()> {
    let cases: Vec<Case> = all
        .iter()
        .filter_map(|j| {
            let would = j.would.as_ref()?;
            let mut case = j.was.case.clone();
            case.name = format!("exchange {}: {}", case.exchange.unwrap_or_default(), case.name);
            case.expect = would.verdict().to_owned();
            case.policy = Some(Ids::Many(would.policies.clone()));
            Some(case)
        })
        .collect();
    if cases.is_empty() {
        bail!("session {id} has no exchange that the policies were asked about");
    }
    std::fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
    let path = to.join(format!("{id}.toml"));
    let text = CaseFile { cases, ..CaseFile::default() }.text().map_err(|e| anyhow::anyhow!(e))?;
    std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    eprintln!("saved {}", path.display());
    Ok(())
}

fn tell_changes(all: &[Judged], as_json: bool) -> ExitCode {
    let changed: Vec<&Judged> = all.iter().filter(|j| j.changes()).collect();
    let unasked = all.iter().filter(|j| j.would.is_none()).count();
    if as_json {
        let each: Vec<Value> = changed
            .iter()
            .map(|j| {
                let would = j.would.as_ref();
                json!({
                    "exchange": j.was.case.exchange,
                    "call": j.was.case.name,
                    "was": {"decision": j.was.decision, "policies": j.was.policies, "observed": j.was.observed},
                    "would": {"decision": would.map(Decision::verdict), "policies": would.map(|d| &d.policies), "reason": would.map(|d| &d.reason)},
                    "incomplete": j.was.case.incomplete,
                })
            })
            .collect();
        println!("{:#}", json!({"calls": all.len(), "unasked": unasked, "changed": each}));
    } else {
        if !changed.is_empty() {
            println!("{:>8}  {:24}  {:24}  CALL", "EXCHANGE", "WAS", "WOULD BE");
        }
        for j in &changed {
            let Some(would) = &j.would else { continue };
            let was = format!(
                "{}{} by {}",
                j.was.decision,
                if j.was.observed { " (observed)" } else { "" },
                named(&j.was.policies)
            );
            let will = format!("{} by {}", would.verdict(), named(&would.policies));
            println!(
                "{:>8}  {:24}  {:24}  {}",
                j.was.case.exchange.unwrap_or_default(),
                was,
                will,
                table::short(&j.was.case.name, 90)
            );
            if !j.was.case.incomplete.is_empty() {
                println!("{:>8}  not sure: {}", "", table::plain(&j.was.case.incomplete));
            }
        }
        println!("{} calls, {} would be decided otherwise", all.len(), changed.len());
        if unasked > 0 {
            println!("{unasked} of them were refused before the policies were asked");
        }
    }
    if changed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(files: &[(&str, &str)]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tollgate-cases-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(dir.join("tests")).expect("made");
        for (name, text) in files {
            std::fs::write(dir.join(name), text).expect("written");
        }
        dir
    }

    const POLICY: &str = r#"@id("small") permit (principal, action == AWS::Action::"ec2:RunInstances", resource)
        when { context.parameters has MaxCount && context.parameters.MaxCount <= 2 };"#;

    #[test]
    fn the_shipped_policies_are_without_findings_and_do_what_their_cases_say() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let inner = std::fs::read_dir(&shipped).expect("it is there").map(|e| e.expect("an entry").path());
        let mut dirs: Vec<PathBuf> = inner.filter(|p| p.is_dir() && !p.ends_with("tests")).collect();
        assert!(dirs.len() >= 6, "{dirs:?}");
        dirs.push(shipped);
        for dir in dirs {
            let set = super::super::good(&dir).unwrap_or_else(|e| panic!("{e:#}"));
            let findings = super::super::findings(&set);
            assert!(findings.is_empty(), "{}: {findings:#?}", dir.display());
            let results = judge_all(&dir, &dir.join("tests")).unwrap_or_else(|e| panic!("{e:#}"));
            let wrong: Vec<_> = results.iter().filter(|r| r.problem.is_some()).collect();
            assert!(wrong.is_empty() && results.len() > 5, "{}: {wrong:#?}", dir.display());
            // Every policy decides a case, so that none of them is there for nothing.
            let told: String = std::fs::read_dir(dir.join("tests"))
                .expect("cases")
                .map(|e| std::fs::read_to_string(e.expect("an entry").path()).expect("text"))
                .collect();
            let examples = ["web-identity", "s3-readers", "operators-look", "no-instances"];
            for policy in set.summaries().filter(|p| !examples.contains(&p.id)) {
                assert!(told.contains(&format!("\"{}\"", policy.id)), "{}: no case for `{}`", dir.display(), policy.id);
            }
        }
    }

    #[test]
    fn a_whole_request_is_understood_as_on_the_data_path() {
        // Action=RunInstances&Version=2016-11-15&MaxCount=2, and with 3.
        let case = |body: &str, expect: &str| {
            format!(
                "[[case]]\nexpect = '{expect}'\nrequest = {{ method = 'POST', url = 'https://ec2.us-east-1.amazonaws.com/', \
                 headers = [['content-type', 'application/x-www-form-urlencoded']], body = '{body}' }}\n"
            )
        };
        let two = case("QWN0aW9uPVJ1bkluc3RhbmNlcyZWZXJzaW9uPTIwMTYtMTEtMTUmTWF4Q291bnQ9Mg==", "allow");
        let three = case("QWN0aW9uPVJ1bkluc3RhbmNlcyZWZXJzaW9uPTIwMTYtMTEtMTUmTWF4Q291bnQ9Mw==", "deny");
        let dir = scratch(&[("a.cedar", POLICY), ("tests/a.toml", &(two + &three))]);
        let results = judge_all(&dir, &dir.join("tests")).expect("judged");
        assert!(results.len() == 2 && results.iter().all(|r| r.problem.is_none()), "{results:?}");
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn what_is_wrong_is_told_and_what_cannot_be_judged_is_an_error() {
        let wrong =
            "[[case]]\nname = 'x'\naction = 'ec2:RunInstances'\nparameters = { MaxCount = 3 }\nexpect = 'allow'";
        let dir = scratch(&[("a.cedar", POLICY), ("tests/a.toml", wrong)]);
        let results = judge_all(&dir, &dir.join("tests")).expect("judged");
        let problem = results[0].problem.as_deref().expect("wrong");
        assert!(
            problem.starts_with("expected allow, got deny by no policy: no policy permits ec2:RunInstances"),
            "{problem}"
        );
        for (file, text, expected) in [
            ("tests/a.toml", "[[case]]\nrequest = { method = 'GET', url = '/x' }\nexpect = 'deny'", "no host"),
            (
                "tests/a.toml",
                "[[case]]\nrequest = { method = 'GET', url = 'https://example.com/' }\nexpect = 'deny'",
                "not under one of AWS",
            ),
            (
                "tests/a.toml",
                "also = 'permit'\n[[case]]\naction = 's3:GetObject'\nexpect = 'deny'",
                "a.toml, `also`:1:",
            ),
            ("tests/a.toml", "[[case]]", "`expect` is ``"),
            ("a.cedar", "permit", "are not valid"),
        ] {
            std::fs::write(dir.join(file), text).expect("written");
            let why = format!("{:#}", judge_all(&dir, &dir.join("tests")).expect_err(text));
            assert!(why.contains(expected), "{text}\n{why}");
        }
        std::fs::write(dir.join("a.cedar"), POLICY).expect("written");
        assert!(judge_all(&dir, &dir.join("nowhere")).is_err());
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn a_change_is_told_and_what_somebody_turned_down_is_none() {
        let set = PolicySet::from_sources(
            &[(
                "t",
                r#"@id("ask") @approval("ops") permit (principal, action == AWS::Action::"s3:PutObject", resource);"#,
            )],
            Mode::Enforce,
            model::catalog(),
        )
        .expect("good");
        let recorded = |decision: &str, policies: &[&str], unasked| Recorded {
            case: Case {
                action: "s3:PutObject".into(),
                resource: "arn:aws:s3:::b/k".into(),
                exchange: Some(1),
                ..Case::default()
            },
            decision: decision.into(),
            policies: policies.iter().map(|p| (*p).to_owned()).collect(),
            reason: String::new(),
            observed: false,
            unasked,
        };
        for (was, changes) in [
            (recorded("allow", &["old"], false), true),
            (recorded("hold", &["ask"], false), false),
            (recorded("deny", &["ask"], false), false),
            (recorded("deny", &[], false), true),
            (recorded("deny", &[], true), false),
        ] {
            let judged = compare(&set, vec![was]).expect("judged");
            assert_eq!(judged[0].changes(), changes, "{judged:?}");
        }
    }
}
