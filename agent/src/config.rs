//! The configuration file: one struct per area.
//!
//! Owns parsing and checking of `/etc/tollgate/tollgate.toml`. Does no I/O other than reading it.
//! A value is checked once, here, and is of a type that cannot be wrong afterwards.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

mod check;
pub mod template;
mod value;

pub use template::Template;
pub use value::HostPattern;

use crate::mask::When;
use value::{leeway, seconds};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the CA, the record and other lasting state live.
    pub state_dir: PathBuf,
    /// Where sockets and per-session files live; emptied by a reboot.
    pub runtime_dir: PathBuf,
    pub capture: Capture,
    pub gateway: Gateway,
    pub egress: Egress,
    pub identity: Identity,
    /// Which principals use which held credentials; the first match counts.
    #[serde(rename = "binding")]
    pub bindings: Vec<Binding>,
    /// Where requests to some hosts go instead of where their name points.
    #[serde(rename = "upstream")]
    pub upstreams: Vec<Upstream>,
    pub defaults: Defaults,
    pub policy: Policy,
    pub approval: Approval,
    pub mask: Mask,
    pub record: Record,
    pub journal: Journal,
    pub control: Control,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/tollgate".into(),
            runtime_dir: "/run/tollgate".into(),
            capture: Capture::default(),
            gateway: Gateway::default(),
            egress: Egress::default(),
            identity: Identity::default(),
            bindings: Vec::new(),
            upstreams: Vec::new(),
            defaults: Defaults::default(),
            policy: Policy::default(),
            approval: Approval::default(),
            mask: Mask::default(),
            record: Record::default(),
            journal: Journal::default(),
            control: Control::default(),
        }
    }
}

/// `[capture]`: what the kernel side redirects, and to where.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// Port of the local listeners, on 127.0.0.1 and ::1.
    pub port: u16,
    /// Destination TCP ports that are redirected; metadata addresses always are.
    pub ports: Vec<u16>,
    /// Directory on a bpffs for links and maps; they outlive the daemon, so that a dead daemon means refused.
    pub bpffs: PathBuf,
    /// Cgroup v2 mount; found in `/proc/mounts` if unset.
    pub cgroup_root: Option<PathBuf>,
    /// Parent, below the cgroup v2 mount, of the cgroups that `tollgate run` makes.
    pub slice: String,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            port: 15001,
            ports: vec![443, 80],
            bpffs: "/sys/fs/bpf/tollgate".into(),
            cgroup_root: None,
            slice: "tollgate-agents.slice".into(),
        }
    }
}

/// `[gateway]`: limits of the data path.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Largest request body, in bytes, that is held in memory to be hashed and read.
    pub max_buffered_body: usize,
    /// Largest request body, in bytes, that is parsed to be judged.
    pub max_parsed_body: usize,
    /// Seconds a request body that is held in memory may take to its last byte.
    #[serde(deserialize_with = "seconds")]
    pub body_timeout: Duration,
    /// Seconds a client may take from connecting to a complete ClientHello or request head.
    #[serde(deserialize_with = "seconds")]
    pub handshake_timeout: Duration,
    /// Connections that one session may have open at a time.
    pub max_connections: usize,
    /// Credentials from answers (`sts:AssumeRole` and the like) that one session may hold at a time.
    pub max_credentials: usize,
    /// Seconds an idle connection is kept, on either side.
    #[serde(deserialize_with = "seconds")]
    pub idle_timeout: Duration,
    /// Seconds to connect and shake hands with an upstream.
    #[serde(deserialize_with = "seconds")]
    pub connect_timeout: Duration,
    /// Seconds that open exchanges get to finish after SIGTERM.
    #[serde(deserialize_with = "seconds")]
    pub drain_timeout: Duration,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            max_buffered_body: 64 << 20,
            max_parsed_body: 16 << 20,
            body_timeout: Duration::from_secs(300),
            max_connections: 4096,
            max_credentials: 1000,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            connect_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What to do with a connection that is not for AWS, or cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Pass it on untouched to where it was going.
    Splice,
    /// Close it, and say so in an event.
    Refuse,
}

/// `[egress]`: connections that are not for AWS.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Names that no list below matches.
    pub default: Verdict,
    /// Host patterns (`*.example.com`) that are always spliced.
    pub allow: Vec<HostPattern>,
    /// Host patterns that are always refused; they win over `allow`.
    pub deny: Vec<HostPattern>,
    /// TLS without a server name, TLS with an encrypted ClientHello, and anything that is neither TLS nor HTTP.
    pub unnamed: Verdict,
    /// Seconds a spliced connection may live without anything passing.
    #[serde(deserialize_with = "seconds")]
    pub idle_timeout: Duration,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            default: Verdict::Splice,
            allow: Vec::new(),
            deny: Vec::new(),
            unnamed: Verdict::Refuse,
            idle_timeout: Duration::from_secs(3600),
        }
    }
}

/// `[identity]`: whose tokens count.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    #[serde(rename = "issuer")]
    pub issuers: Vec<Issuer>,
    /// Seconds after which a session is ended whose token has expired and was not renewed; it is denied everything meanwhile.
    #[serde(deserialize_with = "seconds")]
    pub grace: Duration,
}

impl Default for Identity {
    fn default() -> Self {
        Self { issuers: Vec::new(), grace: Duration::from_secs(300) }
    }
}

/// `[[identity.issuer]]`: one OIDC provider.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Issuer URL, exactly as in the token's `iss`; `https`, or `http` on a loopback address.
    pub url: url::Url,
    /// Audiences of which the token must carry at least one.
    pub audience: Vec<String>,
    /// Accepted signature algorithms; asymmetric ones only.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Claim that lists groups.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// PEM file with an extra root for the issuer's own TLS.
    #[serde(default)]
    pub extra_root: Option<PathBuf>,
    /// Seconds a fetched key set is believed without asking again.
    #[serde(default = "default_jwks_max_age", deserialize_with = "seconds")]
    pub jwks_max_age: Duration,
    /// Seconds of clock difference that are tolerated.
    #[serde(default = "default_leeway", deserialize_with = "leeway")]
    pub leeway: Duration,
}

fn default_algorithms() -> Vec<String> {
    ["RS256", "ES256"].map(String::from).to_vec()
}
fn default_groups_claim() -> String {
    "groups".into()
}
fn default_jwks_max_age() -> Duration {
    Duration::from_secs(600)
}
fn default_leeway() -> Duration {
    Duration::from_secs(30)
}

/// `[[binding]]`: which principals use which held credentials.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Issuer URL the principal must come from; unset: any, or none.
    #[serde(default)]
    pub issuer: Option<url::Url>,
    /// Glob the subject must match (`repo:acme/*`).
    #[serde(default)]
    pub subject: Option<String>,
    /// Group the principal must be in.
    #[serde(default)]
    pub group: Option<String>,
    pub broker: Broker,
}

/// Where held credentials come from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Broker {
    /// Fixed keys, the secret in a file that only root reads.
    Static {
        access_key_id: String,
        /// File with the secret access key on its first line.
        secret_access_key_file: PathBuf,
        /// File with the session token, for temporary keys.
        #[serde(default)]
        session_token_file: Option<PathBuf>,
        /// Account the keys belong to, for ARNs, events and the record; in ARNs it is `*` when unset.
        #[serde(default)]
        account: Option<String>,
    },
    /// The AWS SDK's own default chain, in the daemon's environment.
    DefaultChain {
        /// As above; when unset, the account that the chain itself tells of its credentials, if it does.
        #[serde(default)]
        account: Option<String>,
    },
    /// A role that is assumed for each session (`sts:AssumeRole`), so that CloudTrail names it.
    AssumeRole {
        role_arn: String,
        /// Name of the role's session.
        #[serde(default = "default_session_name")]
        session_name: Template,
        /// Source identity, which CloudTrail keeps through every further role.
        #[serde(default)]
        source_identity: Option<Template>,
        /// Session tags, for conditions on `aws:PrincipalTag`.
        #[serde(default)]
        session_tags: BTreeMap<String, Template>,
        #[serde(default)]
        external_id: Option<String>,
        /// Seconds that the role's credentials live.
        #[serde(default = "default_duration", deserialize_with = "seconds")]
        duration: Duration,
        /// Region of the STS endpoint; the role's partition's first one if unset.
        #[serde(default)]
        region: Option<String>,
        /// Whose credentials assume it: `static` or `default-chain`.
        #[serde(default = "default_source")]
        source: Box<Broker>,
    },
    /// A role that is assumed with the principal's own token (`sts:AssumeRoleWithWebIdentity`), which AWS must trust.
    WebIdentity {
        role_arn: String,
        #[serde(default = "default_session_name")]
        session_name: Template,
        #[serde(default = "default_duration", deserialize_with = "seconds")]
        duration: Duration,
        #[serde(default)]
        region: Option<String>,
    },
}

fn default_session_name() -> Template {
    Template::session()
}
fn default_duration() -> Duration {
    Duration::from_secs(3600)
}
fn default_source() -> Box<Broker> {
    Box::new(Broker::DefaultChain { account: None })
}

/// `[[upstream]]`: an override of where a host's requests go.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Pattern of host names: exact, or `*.suffix` for any depth below it.
    pub host: HostPattern,
    /// `address:port` to connect to instead.
    pub address: SocketAddr,
    /// PEM file with a further root to trust for this upstream only.
    #[serde(default)]
    pub extra_root: Option<PathBuf>,
    /// `false`: plain HTTP to that address.
    #[serde(default = "yes")]
    pub tls: bool,
}

fn yes() -> bool {
    true
}

/// `[defaults]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Region that agents find where they have none of their own.
    pub region: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { region: "us-east-1".into() }
    }
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Directory of `*.cedar` files.
    pub dir: PathBuf,
    pub mode: Mode,
    /// Directory of further `*.cedar` files on trial: as if each policy in it had `@observe`.
    pub trial_dir: Option<PathBuf>,
    /// Sessions for which decisions do not bind.
    pub observe: Vec<Observed>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { dir: "/etc/tollgate/policies".into(), mode: Mode::Enforce, trial_dir: None, observe: Vec::new() }
    }
}

/// `[[policy.observe]]`: sessions that policies observe and do not block. All that is named must match.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Observed {
    /// Glob that the session's name must match. Whoever starts a session names it.
    pub session: Option<String>,
    /// Issuer URL the principal must come from.
    pub issuer: Option<url::Url>,
    /// Glob the subject must match.
    pub subject: Option<String>,
    /// Group the principal must be in.
    pub group: Option<String>,
}

/// Whether decisions bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Enforce,
    /// Decide and record, but block nothing; each event says so.
    Observe,
}

/// `[approval]`: requests that wait for people.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Approval {
    /// Seconds that a client is kept waiting before it is told to come again: less than the shortest read timeout of the
    /// agents' clients. Java's SDK waits 30 seconds, Python's 60.
    #[serde(deserialize_with = "seconds")]
    pub hold: Duration,
    /// Seconds that a request may wait in all, where the policy does not say (`@approval_deadline`).
    #[serde(deserialize_with = "seconds")]
    pub deadline: Duration,
    /// Seconds of the longest window that may be granted, where the policy does not say (`@approval_window`).
    #[serde(deserialize_with = "seconds")]
    pub max_window: Duration,
    /// Seconds that a client which went away while it waited has to come back, before its request is cancelled.
    #[serde(deserialize_with = "seconds")]
    pub grace: Duration,
    /// Requests of one session that may wait at a time.
    pub max_pending: usize,
    /// Whether root counts as a member of every group.
    pub root: bool,
}

impl Default for Approval {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(25),
            deadline: Duration::from_secs(900),
            max_window: Duration::from_secs(8 * 3600),
            grace: Duration::from_secs(30),
            max_pending: 100,
            root: true,
        }
    }
}

/// `[mask]`: what is hidden in answers and in the record.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mask {
    /// Rule file; `masks.toml` in the directory of the policies if unset, where it may be missing.
    pub file: Option<PathBuf>,
    /// In which answers members are hidden that AWS's model calls sensitive.
    pub sensitive: When,
    /// Actions (patterns) that `sensitive = "always"` is not about.
    pub except: Vec<String>,
}

/// `[record]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    /// Database file; `record.db` in the state directory if unset.
    pub path: Option<PathBuf>,
    pub durability: Durability,
}

/// What a recorded intent survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Loss of power: synced to disk before the request leaves.
    #[default]
    Power,
    /// Death of the daemon, but not of the machine: written, not synced.
    Process,
}

/// `[journal]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    pub to: JournalTo,
    /// Whether each allowed exchange is an event too; the record has them all in any case.
    pub allowed: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalTo {
    /// journald if its socket is there, else stderr.
    #[default]
    Auto,
    Journald,
    Stderr,
}

/// `[control]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Path of the unix socket; `control.sock` in the runtime directory if unset.
    pub socket: Option<PathBuf>,
    /// Unix group that may use it besides root.
    pub group: Option<String>,
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read configuration `{path}`: {source}; check that it exists and that the daemon may read it")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration `{path}` is not valid: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("configuration `{path}`: {area}: {message}")]
    Value { path: PathBuf, area: &'static str, message: String },
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// The rule file of masks, and whether it must be there.
    pub fn mask_file(&self) -> (PathBuf, bool) {
        match &self.mask.file {
            Some(file) => (file.clone(), true),
            None => (self.policy.dir.join("masks.toml"), false),
        }
    }

    /// Parses and checks the text of a file; `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|e| ConfigError::Parse { path: path.into(), message: e.to_string().trim_end().to_owned() })?;
        config.check().map_err(|(area, message)| ConfigError::Value { path: path.into(), area, message })?;
        Ok(config)
    }

    pub fn record_path(&self) -> PathBuf {
        self.record.path.clone().unwrap_or_else(|| self.state_dir.join("record.db"))
    }

    pub fn control_socket(&self) -> PathBuf {
        self.control.socket.clone().unwrap_or_else(|| self.runtime_dir.join("control.sock"))
    }
}

/// Addresses of the cloud's metadata service, which are always captured.
pub const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
