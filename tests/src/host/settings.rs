//! The configuration and the policies of a test host.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::Host;
use crate::bed::ACCOUNT;

/// What the sessions of the tests may do: everything but what [`Settings::policies`] forbids by the session's name.
/// Sessions are unidentified, unless a test sets an issuer up.
pub const POLICIES: &str = r#"
@id("tests-allow")
permit (principal, action, resource);

@id("tests-deny")
@reason("Sessions of this name may do nothing here.")
forbid (principal, action, resource)
when { context.session.name like "denied-*" };

@id("tests-own-bucket")
@reason("Sessions of this name stay in the bucket tollgate-test.")
forbid (principal, action, resource)
when { context.session.name like "bucket-*" }
unless { resource in AWS::Resource::"arn:aws:s3:::tollgate-test" };
"#;

/// What differs from host to host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Text of the one policy file.
    pub policies: String,
    /// Text of `masks.toml` beside it; empty: there is none.
    pub masks: String,
    /// TOML that is put before the first table: top-level keys.
    pub top: String,
    /// Keys of `[policy]`.
    pub policy: String,
    /// Further tables at the end.
    pub extra: String,
    /// Keys of `[gateway]`.
    pub gateway: String,
    /// Keys of `[egress]`.
    pub egress: String,
    /// The `[[binding]]`s; `None`: the held key, for everybody.
    pub bindings: Option<String>,
    /// Variables of the daemon's, besides `PATH`.
    pub daemon_env: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policies: POLICIES.into(),
            masks: String::new(),
            top: String::new(),
            policy: String::new(),
            extra: String::new(),
            gateway: "handshake_timeout = 5".into(),
            egress: String::new(),
            bindings: None,
            daemon_env: Vec::new(),
        }
    }
}

impl Host {
    /// Writes `tollgate.toml`, the held secret and the policies; a running daemon takes them on SIGHUP.
    pub fn write_settings(&self, settings: &Settings) {
        fs::write(self.dir.join("policies/tests.cedar"), &settings.policies).expect("a policy file");
        let masks = self.dir.join("policies/masks.toml");
        if settings.masks.is_empty() {
            drop(fs::remove_file(masks))
        } else {
            fs::write(masks, &settings.masks).expect("a rule file")
        }
        let secret = self.dir.join("held-secret");
        for (path, text) in [(secret, self.info.held_secret_access_key.clone()), (self.config(), self.text(settings))] {
            fs::write(&path, text).expect("a file of the daemon's");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        }
    }

    /// The `broker` of a binding that uses the bed's held key.
    pub fn broker(&self) -> String {
        format!(
            "broker = {{ kind = \"static\", access_key_id = \"{}\", secret_access_key_file = \"{}/held-secret\", account = \"{ACCOUNT}\" }}",
            self.info.held_access_key_id,
            self.dir.display()
        )
    }

    pub(super) fn config(&self) -> std::path::PathBuf {
        self.dir.join("tollgate.toml")
    }

    fn text(&self, settings: &Settings) -> String {
        let dir = self.dir.display();
        let root = self.info.aws_root.display();
        let mut upstreams = String::new();
        for (hosts, address) in [
            (
                &[
                    "s3.us-east-1.amazonaws.com",
                    "*.s3.us-east-1.amazonaws.com",
                    "s3.amazonaws.com",
                    "*.s3.amazonaws.com",
                ][..],
                self.info.s3,
            ),
            (
                &["*.accesspoint.s3-global.amazonaws.com", "*.s3express-use1-az4.us-east-1.amazonaws.com"][..],
                self.info.multiregion,
            ),
            (&["bedrock-runtime.us-east-1.amazonaws.com"][..], self.info.events),
            (&["*.amazonaws.com", "*.api.aws"][..], self.info.moto),
        ] {
            for host in hosts {
                upstreams +=
                    &format!("[[upstream]]\nhost = \"{host}\"\naddress = \"{address}\"\nextra_root = \"{root}\"\n\n");
            }
        }
        let bindings = settings.bindings.clone().unwrap_or_else(|| format!("[[binding]]\n{}\n", self.broker()));
        format!(
            r#"state_dir = "{dir}/state"
runtime_dir = "{dir}/run"
{top}
[capture]
bpffs = "{dir}/bpf/tollgate"
slice = "{slice}"

[gateway]
{gateway}

[egress]
{egress}

[defaults]
region = "us-east-1"

[policy]
dir = "{dir}/policies"
{policy}

[journal]
to = "stderr"

[control]
group = "nogroup"

{bindings}
{upstreams}{extra}
"#,
            top = settings.top,
            slice = crate::bed::slice(&self.dir),
            gateway = settings.gateway,
            egress = settings.egress,
            policy = settings.policy,
            extra = settings.extra,
        )
    }
}
