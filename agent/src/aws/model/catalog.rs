//! The IAM actions that exist, as the service authorization reference lists them.
//!
//! Owns the answer to [`ActionCatalog`]'s questions. A prefix is read when it is first asked about. Pure.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Input;
use crate::aws::AccessLevel;
use crate::policy::ActionCatalog;

/// The actions of one prefix.
#[derive(Debug)]
pub(super) struct Prefix {
    name: &'static str,
    /// Services whose operations need its actions, as positions in the index.
    services: Box<[u16]>,
    section: usize,
    actions: OnceLock<Option<HashMap<&'static str, AccessLevel>>>,
}

impl Prefix {
    pub fn new(name: &'static str, services: Box<[u16]>, section: usize) -> Self {
        Self { name, services, section, actions: OnceLock::new() }
    }

    fn actions(&self) -> Option<&HashMap<&'static str, AccessLevel>> {
        let read = || {
            let mut reader = super::pack()?.section(self.section)?;
            let all = reader.list(|r| {
                let name = r.text()?;
                let level = match r.byte()? {
                    0 => AccessLevel::Read,
                    1 => AccessLevel::List,
                    2 => AccessLevel::Write,
                    3 => AccessLevel::Tagging,
                    4 => AccessLevel::PermissionsManagement,
                    _ => return None,
                };
                Some((name, level))
            })?;
            Some(all.into_iter().collect())
        };
        self.actions.get_or_init(read).as_ref()
    }
}

/// All of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Catalog;

fn prefixes() -> &'static [Prefix] {
    super::index().map_or(&[], |index| &index.prefixes)
}

fn prefix(name: &str) -> Option<&'static Prefix> {
    let all = prefixes();
    all.binary_search_by_key(&name, |p| p.name).ok().map(|n| &all[n])
}

/// The level of an action in IAM's spelling.
pub(in crate::aws) fn level(action: &str) -> Option<AccessLevel> {
    let (service, name) = action.split_once(':')?;
    prefix(service)?.actions()?.get(name).copied()
}

/// Inputs of the operations that need an action.
fn inputs(action: &str) -> Vec<Input> {
    let Some((service, name)) = action.split_once(':') else { return Vec::new() };
    let mut found = of_services(prefix(service).map_or(&[], |p| &p.services), &|a| a == action);
    let Some((s3, _)) = super::index().and_then(|index| index.service("s3")) else { return found };
    if service == "s3" || service.starts_with("s3-") || service == "s3express" {
        // S3's requests name versions, hosts and headers that ask for other actions than the operation's own.
        let plain = [format!("s3:{name}"), format!("s3:{}", name.replacen("ObjectVersion", "Object", 1))];
        found.extend(of_services(&[s3], &|a| a != action && plain.iter().any(|p| p == a)));
        if found.is_empty() || crate::aws::operation::s3_gives_power(action) {
            found.extend(of_services(&[s3], &|_| true));
        }
    } else if action == "kms:GenerateDataKey" {
        found.extend(of_services(&[s3], &|a| a == "s3:PutObject"));
    }
    found
}

fn of_services(services: &[u16], wanted: &dyn Fn(&str) -> bool) -> Vec<Input> {
    let details = services.iter().filter_map(|n| super::index()?.services.get(usize::from(*n))?.detail());
    details
        .flat_map(|detail| detail.operations.iter().map(move |op| Input { detail, op }))
        .filter(|input| input.op.actions().any(wanted))
        .collect()
}

impl ActionCatalog for Catalog {
    fn level(&self, action: &str) -> Option<AccessLevel> {
        level(action)
    }
    fn services(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(prefixes().iter().map(|p| p.name))
    }
    fn inputs(&self, action: &str) -> Option<Vec<Input>> {
        let found = inputs(action);
        // Roles are passed by any operation.
        (!found.is_empty() && action != "iam:PassRole").then_some(found)
    }
    fn actions(&self, service: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        let actions = prefix(service).and_then(Prefix::actions);
        Box::new(actions.into_iter().flat_map(|a| a.keys().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_iam_s_actions_and_what_was_meant() {
        assert!(prefixes().is_sorted_by_key(|p| p.name), "prefixes are looked up by their name");
        for (action, level) in [
            ("s3:GetObject", Some(AccessLevel::Read)),
            ("s3:ListBucket", Some(AccessLevel::List)),
            ("ec2:RunInstances", Some(AccessLevel::Write)),
            ("ec2:CreateTags", Some(AccessLevel::Tagging)),
            ("iam:CreatePolicy", Some(AccessLevel::PermissionsManagement)),
            ("s3:ListObjectsV2", None),
            ("s3:getobject", None),
            ("nosuch:Thing", None),
            ("s3", None),
        ] {
            assert_eq!(Catalog.level(action), level, "{action}");
        }
        assert_eq!(Catalog.nearest("s3:GetObjekt").as_deref(), Some("s3:GetObject"));
        assert_eq!(Catalog.nearest("ec2:RunInstance").as_deref(), Some("ec2:RunInstances"));
        assert!(Catalog.any_match("s3:Get*") && Catalog.any_match("*:GetCallerIdentity"));
        assert!(!Catalog.any_match("s3:Fetch*"));
    }
}
