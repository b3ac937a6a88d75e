//! The configuration file: one struct per area.
//!
//! Owns parsing and checking of `/etc/tollgate/tollgate.toml`. Does no I/O other than reading it.
//! A value is checked once, here, and is of a type that cannot be wrong afterwards.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

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
    /// Seconds a client may take from connecting to a complete ClientHello or request head.
    #[serde(deserialize_with = "seconds")]
    pub handshake_timeout: Duration,
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
}

impl Default for Egress {
    fn default() -> Self {
        Self { default: Verdict::Splice, allow: Vec::new(), deny: Vec::new(), unnamed: Verdict::Refuse }
    }
}

/// `[identity]`: whose tokens count.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    #[serde(rename = "issuer")]
    pub issuers: Vec<Issuer>,
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
    #[serde(default = "default_leeway", deserialize_with = "seconds")]
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
        /// Account the keys belong to, for ARNs; asked from STS when unset.
        #[serde(default)]
        account: Option<String>,
    },
    /// The AWS SDK's own default chain, in the daemon's environment.
    DefaultChain {
        #[serde(default)]
        account: Option<String>,
    },
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
}

impl Default for Policy {
    fn default() -> Self {
        Self { dir: "/etc/tollgate/policies".into(), mode: Mode::Enforce }
    }
}

/// Whether decisions bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Enforce,
    /// Decide and record, but block nothing; each event says so.
    Observe,
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

    fn check(&self) -> Result<(), (&'static str, String)> {
        for (name, path) in [("state_dir", &self.state_dir), ("runtime_dir", &self.runtime_dir)] {
            if !path.is_absolute() {
                return Err((
                    "top level",
                    format!("`{name}` is `{}`, which is not absolute; give the whole path", path.display()),
                ));
            }
        }
        if self.capture.port == 0 {
            return Err(("capture", "`port` is 0; give a fixed port, the kernel side must know it".into()));
        }
        if self.capture.ports.is_empty() {
            return Err((
                "capture",
                "`ports` is empty, so nothing would be governed; leave it out for 443 and 80".into(),
            ));
        }
        if self.capture.ports.len() > 16 {
            return Err((
                "capture",
                format!("`ports` lists {} ports; the kernel side takes at most 16", self.capture.ports.len()),
            ));
        }
        if let Some(port) = self.capture.ports.iter().find(|p| **p == 0 || **p == self.capture.port) {
            return Err(("capture", format!("`ports` contains `{port}`, which cannot be redirected; remove it")));
        }
        if self.capture.slice.is_empty() || self.capture.slice.split('/').any(|s| s.is_empty() || s == "..") {
            return Err((
                "capture",
                format!(
                    "`slice` is `{}`; give a path below the cgroup mount, without a leading slash",
                    self.capture.slice
                ),
            ));
        }
        if self.gateway.max_buffered_body < 1 << 20 {
            return Err((
                "gateway",
                format!(
                    "`max_buffered_body` is {}; use at least 1048576 bytes, or small uploads fail",
                    self.gateway.max_buffered_body
                ),
            ));
        }
        for issuer in &self.identity.issuers {
            issuer.check().map_err(|m| ("identity.issuer", m))?;
        }
        for (n, issuer) in self.identity.issuers.iter().enumerate() {
            if self.identity.issuers[..n].iter().any(|i| i.url == issuer.url) {
                return Err(("identity.issuer", format!("`{}` is listed twice; merge the two entries", issuer.url)));
            }
        }
        for binding in &self.bindings {
            binding.check().map_err(|m| ("binding", m))?;
        }
        let region = &self.defaults.region;
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(("defaults", format!("`region` is `{region}`; give a region name such as `eu-central-1`")));
        }
        Ok(())
    }
}

impl Issuer {
    fn check(&self) -> Result<(), String> {
        let loopback = match self.url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        match self.url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(format!("`url` is `{}`; use https (http is for loopback addresses only)", self.url)),
        }
        if self.audience.is_empty() {
            return Err(format!(
                "`audience` of `{}` is empty, so any relying party's token would count; name the audience your tokens carry",
                self.url
            ));
        }
        const ASYMMETRIC: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
        if self.algorithms.is_empty() {
            return Err(format!("`algorithms` of `{}` is empty; leave it out for RS256 and ES256", self.url));
        }
        if let Some(bad) = self.algorithms.iter().find(|a| !ASYMMETRIC.contains(&a.as_str())) {
            return Err(format!(
                "`algorithms` of `{}` contains `{bad}`; use asymmetric ones: {}",
                self.url,
                ASYMMETRIC.join(", ")
            ));
        }
        Ok(())
    }
}

impl Binding {
    fn check(&self) -> Result<(), String> {
        let account = match &self.broker {
            Broker::Static { access_key_id, account, .. } => {
                if access_key_id.len() < 16 || !access_key_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
                    return Err(format!(
                        "`access_key_id` is `{access_key_id}`; give the whole key id, such as AKIA followed by 16 characters"
                    ));
                }
                account
            }
            Broker::DefaultChain { account } => account,
        };
        if let Some(account) = account
            && (account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(format!("`account` is `{account}`; give the 12 digits of the account, in quotes"));
        }
        Ok(())
    }
}

/// A host pattern: an exact name, or `*.suffix` for any name below the suffix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    pub fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        if !self.below {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let Some(cut) = host.len().checked_sub(self.name.len() + 1) else { return false };
        host.is_char_boundary(cut)
            && host.as_bytes()[cut] == b'.'
            && cut > 0
            && host[cut + 1..].eq_ignore_ascii_case(&self.name)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if name.parse::<IpAddr>().is_ok() || name.split('.').all(label) {
            Ok(Self { name: name.to_ascii_lowercase(), below })
        } else {
            Err(format!("`{text}` is not a host pattern; use `name.example.com` or `*.example.com`"))
        }
    }
}

fn seconds<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let n = u64::deserialize(d)?;
    if n == 0 || n > 86_400 {
        return Err(serde::de::Error::custom(format!("`{n}` seconds is out of range; use 1 to 86400")));
    }
    Ok(Duration::from_secs(n))
}

/// Addresses of the cloud's metadata service, which are always captured.
pub const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("t.toml")).expect_err("it must not be taken").to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("", Path::new("t.toml")).expect("valid"), Config::default());
    }

    #[test]
    fn the_shipped_example_is_valid() {
        let text = include_str!("../packaging/tollgate.toml");
        Config::parse(text, Path::new("tollgate.toml")).expect("valid");
    }

    #[test]
    fn every_bad_value_says_what_to_do() {
        let issuer = |rest: &str| format!("[[identity.issuer]]\nurl = 'https://i.example'\naudience = ['a']\n{rest}");
        let keys =
            |rest: &str| format!("[[binding]]\nbroker = {{ kind = 'static', secret_access_key_file = '/k', {rest} }}");
        let cases: &[(&str, &str)] = &[
            ("state_dir = 'x'", "top level: `state_dir` is `x`, which is not absolute; give the whole path"),
            ("runtime_dir = 'x'", "top level: `runtime_dir` is `x`, which is not absolute; give the whole path"),
            ("colour = 1", "unknown field `colour`"),
            ("[capture]\nport = 0", "capture: `port` is 0; give a fixed port, the kernel side must know it"),
            ("[capture]\nport = 70000", "invalid value"),
            (
                "[capture]\nports = []",
                "capture: `ports` is empty, so nothing would be governed; leave it out for 443 and 80",
            ),
            (
                "[capture]\nports = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]",
                "capture: `ports` lists 17 ports; the kernel side takes at most 16",
            ),
            ("[capture]\nports = [15001]", "capture: `ports` contains `15001`, which cannot be redirected; remove it"),
            (
                "[capture]\nslice = '../x'",
                "capture: `slice` is `../x`; give a path below the cgroup mount, without a leading slash",
            ),
            (
                "[gateway]\nmax_buffered_body = 9",
                "gateway: `max_buffered_body` is 9; use at least 1048576 bytes, or small uploads fail",
            ),
            ("[gateway]\nidle_timeout = 0", "`0` seconds is out of range; use 1 to 86400"),
            ("[egress]\ndefault = 'drop'", "unknown variant `drop`, expected `splice` or `refuse`"),
            ("[egress]\nallow = ['a b']", "`a b` is not a host pattern; use `name.example.com` or `*.example.com`"),
            (
                "[[identity.issuer]]\nurl = 'ftp://i'\naudience = ['a']",
                "identity.issuer: `url` is `ftp://i/`; use https (http is for loopback addresses only)",
            ),
            (
                "[[identity.issuer]]\nurl = 'http://i.example'\naudience = ['a']",
                "use https (http is for loopback addresses only)",
            ),
            ("[[identity.issuer]]\nurl = 'no url'\naudience = ['a']", "relative URL without a base"),
            (
                "[[identity.issuer]]\nurl = 'https://i'\naudience = []",
                "is empty, so any relying party's token would count; name the audience your tokens carry",
            ),
            (&issuer("algorithms = ['HS256']"), "contains `HS256`; use asymmetric ones"),
            (&issuer("algorithms = ['none']"), "contains `none`; use asymmetric ones"),
            (&issuer("algorithms = []"), "is empty; leave it out for RS256 and ES256"),
            (&issuer("jwks_max_age = 0"), "`0` seconds is out of range; use 1 to 86400"),
            (&format!("{}{}", issuer(""), issuer("")), "is listed twice; merge the two entries"),
            (&keys("access_key_id = 'AKIA'"), "binding: `access_key_id` is `AKIA`; give the whole key id"),
            (
                &keys("access_key_id = 'AKIAIOSFODNN7EXAMPLE', account = '1'"),
                "binding: `account` is `1`; give the 12 digits of the account, in quotes",
            ),
            ("[[binding]]\nbroker = { kind = 'vault' }", "unknown variant `vault`"),
            ("[[upstream]]\nhost = '*'\naddress = '127.0.0.1:1'", "`*` is not a host pattern"),
            ("[[upstream]]\nhost = 'a'\naddress = 'b'", "invalid socket address"),
            (
                "[defaults]\nregion = 'Frankfurt'",
                "defaults: `region` is `Frankfurt`; give a region name such as `eu-central-1`",
            ),
            ("[policy]\nmode = 'off'", "unknown variant `off`, expected `enforce` or `observe`"),
            ("[record]\ndurability = 'none'", "unknown variant `none`, expected `power` or `process`"),
            ("[journal]\nto = 'syslog'", "unknown variant `syslog`"),
            ("[control]\nsocket = 1", "invalid type: integer `1`"),
        ];
        for (text, expected) in cases {
            let message = error(text);
            assert!(message.contains(expected), "{text}\n  says: {message}\n  not:  {expected}");
            assert!(message.contains("t.toml"), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = Config::load(Path::new("/nonexistent/tollgate.toml")).expect_err("missing").to_string();
        assert!(message.contains("cannot read configuration `/nonexistent/tollgate.toml`"), "{message}");
    }

    #[test]
    fn host_patterns_match_whole_labels() {
        let pattern = |t: &str| HostPattern::try_from(t.to_owned()).expect("valid");
        assert!(pattern("*.amazonaws.com").matches("s3.us-east-1.AMAZONAWS.com"));
        for no in ["amazonaws.com", "evilamazonaws.com", ".amazonaws.com", "x.amazonaws.com.evil"] {
            assert!(!pattern("*.amazonaws.com").matches(no), "{no}");
        }
        assert!(pattern("a.example").matches("A.example."));
        assert!(!pattern("a.example").matches("b.a.example"));
    }
}
