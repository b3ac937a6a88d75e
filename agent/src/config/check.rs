//! What a value must be, beyond its type: each bad one has a sentence that says what to do.
//!
//! Pure. Owns the checks; the types are those of [`super`].

use std::time::Duration;

use super::{Binding, Broker, Config, Issuer, Upstream};
use crate::aws::endpoint;
use crate::aws::handout::web_identity::RoleArn;

impl Config {
    /// The area and what is wrong in it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        for (area, name, path) in [
            ("top level", "state_dir", Some(&self.state_dir)),
            ("top level", "runtime_dir", Some(&self.runtime_dir)),
            ("capture", "bpffs", Some(&self.capture.bpffs)),
            ("capture", "cgroup_root", self.capture.cgroup_root.as_ref()),
            ("policy", "dir", Some(&self.policy.dir)),
            ("mask", "file", self.mask.file.as_ref()),
            ("policy", "trial_dir", self.policy.trial_dir.as_ref()),
            ("record", "path", self.record.path.as_ref()),
            ("control", "socket", self.control.socket.as_ref()),
        ] {
            if let Some(path) = path
                && !path.is_absolute()
            {
                return Err((
                    area,
                    format!("`{name}` is `{}`, which is not absolute; give the whole path", path.display()),
                ));
            }
        }
        if self.policy.observe.contains(&super::Observed::default()) {
            return Err((
                "policy",
                "an `[[policy.observe]]` names nobody; give it `session`, `issuer`, `subject` or `group`, or say \
                 `mode = \"observe\"` for everybody"
                    .into(),
            ));
        }
        if self.policy.trial_dir.as_ref() == Some(&self.policy.dir) {
            return Err(("policy", "`trial_dir` is `dir`; what is on trial has a directory of its own".into()));
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
        // `.` would tag nothing of its own: the sessions' cgroups would stand beside the host's.
        if self.capture.slice.split('/').any(|s| matches!(s, "" | "." | "..")) {
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
        if self.gateway.max_connections == 0 {
            return Err((
                "gateway",
                "`max_connections` is 0, so nothing would be served; leave it out for 4096".into(),
            ));
        }
        if self.gateway.max_parsed_body < 1 << 20 {
            return Err((
                "gateway",
                format!(
                    "`max_parsed_body` is {}; use at least 1048576 bytes, or requests with many members fail",
                    self.gateway.max_parsed_body
                ),
            ));
        }
        if self.approval.hold >= self.approval.deadline {
            return Err((
                "approval",
                format!(
                    "`hold` is {} seconds, which is not less than `deadline`; lower it, or nobody could come again",
                    self.approval.hold.as_secs()
                ),
            ));
        }
        if self.approval.max_pending == 0 {
            return Err(("approval", "`max_pending` is 0, so nothing could be asked; leave it out for 100".into()));
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
            binding.check(&self.identity.issuers).map_err(|m| ("binding", m))?;
        }
        for upstream in &self.upstreams {
            upstream.check().map_err(|m| ("upstream", m))?;
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
        if self.audience.iter().any(String::is_empty) {
            return Err(format!(
                "`audience` of `{}` contains an empty text, which is nobody's name; remove it, or name the audience your tokens carry",
                self.url
            ));
        }
        if self.groups_claim.is_empty() {
            return Err(format!("`groups_claim` of `{}` is empty; leave it out for `groups`", self.url));
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
    fn check(&self, issuers: &[Issuer]) -> Result<(), String> {
        // As principals are matched: a binding's URL may have a slash at its end that the issuer's has not.
        let is = |ours: &str, theirs: &str| ours == theirs || ours.strip_suffix('/') == Some(theirs);
        if let Some(issuer) = &self.issuer
            && !issuers.iter().any(|i| is(issuer.as_str(), i.url.as_str()))
        {
            return Err(format!(
                "`issuer` is `{issuer}`, which no [[identity.issuer]] has as its `url`, so the binding would match nobody; add the issuer, or write it as it stands there"
            ));
        }
        self.broker.check()
    }
}

impl Broker {
    fn check(&self) -> Result<(), String> {
        let account = match self {
            Self::Static { access_key_id, account, .. } => {
                if access_key_id.len() < 16 || !access_key_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
                    return Err(format!(
                        "`access_key_id` is `{access_key_id}`; give the whole key id, such as AKIA followed by 16 characters"
                    ));
                }
                account
            }
            Self::DefaultChain { account } => account,
            Self::AssumeRole { role_arn, session_tags, duration, region, source, .. } => {
                if !matches!(**source, Self::Static { .. } | Self::DefaultChain { .. }) {
                    return Err("the `source` of a role is another role; use `static` or `default-chain` there".into());
                }
                if session_tags.len() > 50 || session_tags.keys().any(|k| k.is_empty() || k.len() > 128) {
                    return Err(
                        "`session_tags` has more than 50 tags, or a name that is not 1 to 128 characters long".into()
                    );
                }
                source.check()?;
                return check_role(role_arn, *duration, region.as_deref());
            }
            Self::WebIdentity { role_arn, duration, region, .. } => {
                return check_role(role_arn, *duration, region.as_deref());
            }
        };
        if let Some(account) = account
            && (account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(format!("`account` is `{account}`; give the 12 digits of the account, in quotes"));
        }
        Ok(())
    }
}

fn check_role(role_arn: &str, duration: Duration, region: Option<&str>) -> Result<(), String> {
    let role = RoleArn::parse(role_arn).ok_or_else(|| {
        format!("`role_arn` is `{role_arn}`; give a role's ARN, such as arn:aws:iam::111122223333:role/agents")
    })?;
    if !(900..=43_200).contains(&duration.as_secs()) {
        return Err(format!("`duration` is {} seconds; STS takes 900 to 43200", duration.as_secs()));
    }
    if endpoint::domain_of(&role.partition).is_none() {
        return Err(format!("`role_arn` is of the partition `{}`, which is not known; correct it", role.partition));
    }
    if let Some(region) = region
        && (region.is_empty() || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
    {
        return Err(format!("`region` of a broker is `{region}`; give a region name such as `eu-central-1`"));
    }
    Ok(())
}

impl Upstream {
    fn check(&self) -> Result<(), String> {
        if !self.tls
            && let Some(root) = &self.extra_root
        {
            return Err(format!(
                "`extra_root` of `{}` is `{}`, which plain HTTP (`tls = false`) has no use for; remove one of the two",
                self.host,
                root.display()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::*;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("t.toml")).expect_err("it must not be taken").to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("", Path::new("t.toml")).expect("valid"), Config::default());
    }

    #[test]
    fn the_shipped_example_is_valid() {
        let text = include_str!("../../packaging/tollgate.toml");
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
            ("[capture]\nbpffs = 'x'", "capture: `bpffs` is `x`, which is not absolute; give the whole path"),
            (
                "[capture]\ncgroup_root = 'x'",
                "capture: `cgroup_root` is `x`, which is not absolute; give the whole path",
            ),
            ("[policy]\ntrial_dir = 'x'", "policy: `trial_dir` is `x`, which is not absolute; give the whole path"),
            ("[policy]\ndir = '/x'\ntrial_dir = '/x'", "policy: `trial_dir` is `dir`"),
            ("[[policy.observe]]", "policy: an `[[policy.observe]]` names nobody"),
            ("[[policy.observe]]\nsubjekt = 'x'", "unknown field `subjekt`"),
            ("[policy]\ndir = 'x'", "policy: `dir` is `x`, which is not absolute; give the whole path"),
            ("[record]\npath = 'x'", "record: `path` is `x`, which is not absolute; give the whole path"),
            ("[control]\nsocket = 'x'", "control: `socket` is `x`, which is not absolute; give the whole path"),
            ("[capture]\nslice = '.'", "capture: `slice` is `.`; give a path below the cgroup mount"),
            ("[capture]\nslice = 'a/./b'", "capture: `slice` is `a/./b`; give a path below the cgroup mount"),
            ("[capture]\nslice = ''", "capture: `slice` is ``; give a path below the cgroup mount"),
            (
                "[[identity.issuer]]\nurl = 'https://i'\naudience = ['a', '']",
                "identity.issuer: `audience` of `https://i/` contains an empty text, which is nobody's name",
            ),
            (
                &issuer("groups_claim = ''"),
                "identity.issuer: `groups_claim` of `https://i.example/` is empty; leave it out for `groups`",
            ),
            (
                &format!(
                    "{}\n[[binding]]\nissuer = 'https://j.example'\nbroker = {{ kind = 'default-chain' }}",
                    issuer("")
                ),
                "binding: `issuer` is `https://j.example/`, which no [[identity.issuer]] has as its `url`",
            ),
            (
                "[[upstream]]\nhost = 'a.example'\naddress = '127.0.0.1:1'\ntls = false\nextra_root = '/r.pem'",
                "upstream: `extra_root` of `a.example` is `/r.pem`, which plain HTTP (`tls = false`) has no use for",
            ),
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
            (
                "[gateway]\nmax_connections = 0",
                "gateway: `max_connections` is 0, so nothing would be served; leave it out for 4096",
            ),
            (
                "[gateway]\nmax_parsed_body = 9",
                "gateway: `max_parsed_body` is 9; use at least 1048576 bytes, or requests with many members fail",
            ),
            ("[gateway]\nbody_timeout = 0", "`0` seconds is out of range; use 1 to 86400"),
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
            (&issuer("leeway = 301"), "`301` seconds is out of range; use 0 to 300"),
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
    fn every_bad_value_of_a_role_says_what_to_do() {
        let role = |more: &str| {
            let arn = if more.starts_with(", role_arn") {
                ""
            } else {
                ", role_arn = 'arn:aws:iam::111122223333:role/agents'"
            };
            format!("[[binding]]\nbroker = {{ kind = 'assume-role'{arn}{more} }}")
        };
        let good = role(
            ", session_name = '{session}', source_identity = '{subject}', session_tags = { a = '{claim:b}' }, duration = 900, \
             region = 'eu-central-1', source = { kind = 'default-chain' }",
        );
        Config::parse(&good, Path::new("t.toml")).expect("good");
        for (more, expected) in [
            (", role_arn = 'agents'", "binding: `role_arn` is `agents`; give a role's ARN, such as arn:aws:iam"),
            (", role_arn = 'arn:aws-x:iam::111122223333:role/a'", "of the partition `aws-x`, which is not known"),
            (", duration = 60", "`duration` is 60 seconds; STS takes 900 to 43200"),
            (", region = 'EU'", "`region` of a broker is `EU`; give a region name"),
            (", session_name = '{who}'", "`{who}` is not known; use {session}, {session_name}, {subject}"),
            (", session_name = ''", "it is empty; leave it out"),
            (", session_tags = { '' = 'x' }", "a name that is not 1 to 128 characters long"),
            (", source = { kind = 'default-chain', account = '1' }", "`account` is `1`; give the 12 digits"),
            (
                ", source = { kind = 'web-identity', role_arn = 'arn:aws:iam::111122223333:role/a' }",
                "the `source` of a role is another role; use `static` or `default-chain` there",
            ),
            (", colour = 1", "colour"),
        ] {
            let message = Config::parse(&role(more), Path::new("t.toml")).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_binding_may_write_its_issuer_with_a_slash_at_the_end() {
        for (url, issuer) in [
            ("https://i.example", "https://i.example/"),
            ("https://i.example/x", "https://i.example/x"),
            ("https://i.example/x", "https://i.example/x/"),
        ] {
            let text = format!(
                "[[identity.issuer]]\nurl = '{url}'\naudience = ['a']\n[[binding]]\nissuer = '{issuer}'\nbroker = {{ kind = 'default-chain' }}"
            );
            Config::parse(&text, Path::new("t.toml")).expect(issuer);
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = Config::load(Path::new("/nonexistent/tollgate.toml")).expect_err("missing").to_string();
        assert!(message.contains("cannot read configuration `/nonexistent/tollgate.toml`"), "{message}");
    }
}
