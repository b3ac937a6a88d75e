//! The play: its cast, its steps, and whether each went as it should.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Group, User};

use super::ca::Ca;
use super::daemon::{AUDIENCE, Daemon, Facts};
use super::issuer::{Claims, Issuer};
use super::lookalike::{HeldKey, LookAlike};
use super::report::{self, Seen};
use super::shell::{Outcome, Shell};
use super::stage::{self, BUCKET, Stage};
use super::{DemoError, Options};
use crate::credential::Secret;

const SUBJECT: &str = "repo:acme/shop:agent";
const LETTER: &str = "letter.txt";

/// Gives the demonstration; whether every step went as it should.
pub fn run(options: &Options) -> Result<bool, DemoError> {
    let program = Program::choose(options.aws.as_deref())?;
    let stage = Stage::set(options.keep)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(DemoError::Runtime)?;
    let cast = runtime.block_on(Cast::assemble(&stage, program))?;
    let daemon = Daemon::start(&stage, &Facts { issuer: cast.issuer.url(), key: &cast.key, group: &cast.user.group })?;
    report::opening(&stage, &cast.program.name());
    let all_well = cast.act(&stage, &daemon)?;
    report::closing(&stage, options.keep, all_well);
    Ok(all_well)
}

/// Who takes part.
struct Cast {
    program: Program,
    user: AgentUser,
    key: HeldKey,
    look_alike: LookAlike,
    issuer: Issuer,
}

/// What the agent calls AWS with.
enum Program {
    /// The AWS CLI: its interpreter if it is one of a private directory, and its script.
    Cli(PathBuf),
    Curl,
}

/// Whom the agent runs as.
struct AgentUser {
    uid: u32,
    gid: u32,
    group: String,
}

/// One step: a command of the agent, and what must come of it.
struct Step {
    title: &'static str,
    command: String,
    tagged: bool,
    expect: Expect,
}

enum Expect {
    /// Ends well, and prints this.
    Works(&'static str),
    /// Ends badly, and prints all of these.
    Fails(&'static [&'static str]),
}

impl Cast {
    async fn assemble(stage: &Stage, program: Program) -> Result<Self, DemoError> {
        let user = AgentUser::nobody()?;
        let key = HeldKey {
            access_key_id: format!("AKIA{}", text(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")),
            secret_access_key: Secret::new(text(
                40,
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            )),
        };
        let ca = Ca::new()?;
        stage.write("look-alike-root.pem", ca.pem(), 0o644)?;
        let address = SocketAddr::from((stage::AWS, 443));
        let look_alike = LookAlike::start(address, &ca, key.clone(), BUCKET).await?;
        let issuer = Issuer::start().await?;
        let token = issuer.token(&Claims {
            subject: SUBJECT,
            audience: AUDIENCE,
            groups: &["s3-writers"],
            life: Duration::from_secs(3600),
        })?;
        user.owns(&stage.write("token", &token, 0o600)?)?;
        user.owns(&stage.path("home"))?;
        let letter =
            stage.write(&format!("home/{LETTER}"), &"Sent by an agent that has no key.\n".repeat(300), 0o644)?;
        user.owns(&letter)?;
        stage.bind(
            &std::env::current_exe().map_err(|source| DemoError::File {
                what: "find",
                path: "tollgate".into(),
                source,
            })?,
            "tollgate",
        )?;
        let program = program.on(stage)?;
        Ok(Self { program, user, key, look_alike, issuer })
    }

    fn act(&self, stage: &Stage, daemon: &Daemon) -> Result<bool, DemoError> {
        let home = stage.path("home");
        let mut launcher = self.user.becomes();
        let client = daemon.client();
        launcher.arg(client.get_program()).args(client.get_args());
        launcher.args(["run", "--name", "demo", "--identity-token-file"]).arg(stage.path("token"));
        launcher.args(["--", "/bin/sh"]);
        let mut agent = Shell::start(launcher, &home)?;
        let mut launcher = self.user.becomes();
        launcher.arg("/bin/sh");
        let mut bystander = Shell::start(launcher, &home)?;
        if matches!(self.program, Program::Curl) {
            agent.define(include_str!("curl.sh"))?;
        }

        let mut all_well = true;
        let mut said = String::new();
        for step in self.program.steps() {
            let shell = if step.tagged { &mut agent } else { &mut bystander };
            let outcome = shell.run(&step.command)?;
            let well = step.expect.met(&outcome);
            report::step(step.title, &self.program.shown(&step.command), step.tagged, &outcome, well);
            all_well &= well;
            said.push_str(&outcome.output);
        }
        agent.end()?;
        bystander.end()?;

        let session = latest_session(daemon)?;
        report::timeline(&daemon.ask(&["sessions", "show", &session])?);
        let blocked = daemon.ask(&["events", "--kind", "blocked", "--session", &session, "--json"])?;
        all_well &= report::blocked(&blocked);
        let (accepted, refused) = self.look_alike.counts();
        let seen = Seen {
            accepted,
            refused,
            instances: self.look_alike.instances(),
            leaked: [self.key.access_key_id.as_str(), self.key.secret_access_key.expose()]
                .iter()
                .any(|k| said.contains(k)),
            held: self.key.access_key_id.clone(),
            subject: SUBJECT,
        };
        all_well &= report::summary(&seen);
        Ok(all_well)
    }
}

impl Program {
    fn choose(asked: Option<&Path>) -> Result<Self, DemoError> {
        if let Some(path) = asked.map(Path::to_path_buf).or_else(|| stage::find("aws")) {
            let path = path.canonicalize().map_err(|source| DemoError::File { what: "find", path, source })?;
            return Ok(Self::Cli(path));
        }
        if stage::find("curl").is_some() { Ok(Self::Curl) } else { Err(DemoError::Missing("curl", "curl, or awscli")) }
    }

    /// Puts a CLI of a private Python environment where the agent's user can reach it.
    fn on(self, stage: &Stage) -> Result<Self, DemoError> {
        let Self::Cli(path) = &self else { return Ok(self) };
        let Some(folder) = path.parent().and_then(Path::parent).filter(|f| f.join("pyvenv.cfg").exists()) else {
            return Ok(self);
        };
        Ok(Self::Cli(stage.bind(folder, "aws-cli")?.join("bin/aws")))
    }

    fn name(&self) -> String {
        match self {
            Self::Cli(path) => format!("the AWS CLI ({})", path.display()),
            Self::Curl => "curl".into(),
        }
    }

    fn aws(&self, args: &str) -> String {
        match self {
            Self::Cli(path) => {
                // The script's first line names an interpreter that may be out of the user's reach; the one beside it is not.
                let python = path.with_file_name("python3");
                let interpreter = if python.exists() { format!("{} ", python.display()) } else { String::new() };
                format!("{interpreter}{} {args}", path.display())
            }
            Self::Curl => args.to_owned(),
        }
    }

    /// A command as a person would type it.
    fn shown(&self, command: &str) -> String {
        match self {
            Self::Cli(_) => command.replace(&self.aws(""), "aws "),
            Self::Curl => command.to_owned(),
        }
    }

    fn steps(&self) -> Vec<Step> {
        let step = |title, command: String, tagged, expect| Step { title, command, tagged, expect };
        let nothing = step(
            "Nothing is set for the agent: no variable, no key, no file",
            "env | grep -i -E 'aws|token|secret|ca_bundle|proxy' || echo 'no such variable'".into(),
            true,
            Expect::Works("no such variable"),
        );
        let mut steps = vec![nothing];
        match self {
            Self::Cli(_) => steps.extend([
                step("Who am I? Allowed", self.aws("sts get-caller-identity"), true, Expect::Works("held-by-tollgate")),
                step("A file goes up. Allowed, to this one bucket", self.aws("s3 cp letter.txt s3://tollgate-demo/letter.txt"), true, Expect::Works("upload")),
                step(
                    "The file comes down, and is the same",
                    format!("{} && cmp letter.txt back.txt && echo identical", self.aws("s3 cp s3://tollgate-demo/letter.txt back.txt")),
                    true,
                    Expect::Works("identical"),
                ),
                step(
                    "An instance is to be started. Denied, in AWS's own words and with our reason",
                    self.aws("ec2 run-instances --image-id ami-0abcdef1234567890 --instance-type p5.48xlarge"),
                    true,
                    Expect::Fails(&["no-instances", "not start instances"]),
                ),
                step(
                    "A secret is asked for. Denied: it never reaches the agent",
                    self.aws("secretsmanager get-secret-value --secret-id demo/database"),
                    true,
                    Expect::Fails(&["no-secrets", "do not read secrets"]),
                ),
                step(
                    "The same program outside of the session: no credentials come to it, nothing is captured",
                    self.aws("--region us-east-1 sts get-caller-identity"),
                    false,
                    Expect::Fails(&["credentials"]),
                ),
            ]),
            Self::Curl => steps.extend([
                step(
                    "Who am I? Allowed",
                    "signed sts https://sts.us-east-1.amazonaws.com/ -d 'Action=GetCallerIdentity&Version=2011-06-15'".into(),
                    true,
                    Expect::Works("held-by-tollgate"),
                ),
                step(
                    "A file goes up. Allowed, to this one bucket",
                    "signed s3 -X PUT --data-binary @letter.txt https://tollgate-demo.s3.us-east-1.amazonaws.com/letter.txt && echo uploaded".into(),
                    true,
                    Expect::Works("uploaded"),
                ),
                step(
                    "The file comes down, and is the same",
                    "signed s3 -o back.txt https://tollgate-demo.s3.us-east-1.amazonaws.com/letter.txt && cmp letter.txt back.txt && echo identical".into(),
                    true,
                    Expect::Works("identical"),
                ),
                step(
                    "An instance is to be started. Denied, in AWS's own words and with our reason",
                    "signed ec2 https://ec2.us-east-1.amazonaws.com/ -d 'Action=RunInstances&Version=2016-11-15&ImageId=ami-0abcdef1234567890&InstanceType=p5.48xlarge&MinCount=1&MaxCount=1'".into(),
                    true,
                    Expect::Fails(&["no-instances", "not start instances"]),
                ),
                step(
                    "A secret is asked for. Denied: it never reaches the agent",
                    "signed secretsmanager -H 'X-Amz-Target: secretsmanager.GetSecretValue' -H 'Content-Type: application/x-amz-json-1.1' \
                     https://secretsmanager.us-east-1.amazonaws.com/ -d '{\"SecretId\":\"demo/database\"}'"
                        .into(),
                    true,
                    Expect::Fails(&["no-secrets", "do not read secrets"]),
                ),
                step(
                    "Outside of the session there is no metadata service, and nothing is captured",
                    "curl -sS --max-time 5 http://169.254.169.254/latest/meta-data/".into(),
                    false,
                    Expect::Fails(&["curl"]),
                ),
            ]),
        }
        steps.push(step(
            "Outside of the session the server's own certificate is seen, untouched",
            "openssl s_client -connect sts.us-east-1.amazonaws.com:443 </dev/null 2>/dev/null | grep -m1 'issuer='"
                .into(),
            false,
            Expect::Works("look-alike"),
        ));
        steps
    }
}

impl Expect {
    fn met(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Works(text) => outcome.status == 0 && outcome.output.contains(text),
            Self::Fails(texts) => outcome.status != 0 && texts.iter().all(|text| outcome.output.contains(text)),
        }
    }
}

impl AgentUser {
    fn nobody() -> Result<Self, DemoError> {
        let user = User::from_name("nobody").ok().flatten().ok_or(DemoError::NoUser)?;
        let group = Group::from_gid(user.gid).ok().flatten().ok_or(DemoError::NoUser)?;
        Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), group: group.name })
    }

    fn owns(&self, path: &Path) -> Result<(), DemoError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(|source| DemoError::File {
            what: "give away",
            path: path.into(),
            source,
        })
    }

    /// Runs what follows as this user.
    fn becomes(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={}", self.uid),
            format!("--regid={}", self.gid),
            "--clear-groups".into(),
            "--".into(),
        ]);
        command
    }
}

fn latest_session(daemon: &Daemon) -> Result<String, DemoError> {
    let list: serde_json::Value = serde_json::from_str(&daemon.ask(&["sessions", "list", "--json"])?)?;
    list[0]["id"].as_str().map(str::to_owned).ok_or_else(|| DemoError::Daemon("it has no session".into()))
}

/// Random text of these characters.
fn text(length: usize, characters: &[u8]) -> String {
    (0..length).map(|_| char::from(characters[rand::random_range(0..characters.len())])).collect()
}
