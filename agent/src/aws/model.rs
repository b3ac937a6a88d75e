//! What is known of AWS: services, hosts, operations, IAM actions.
//!
//! Owns reading the generated model (`model/aws.bin`, made by `cargo xtask model`; docs/model.md). Nothing is read
//! before it is asked for: the index on the first question, a service when its first request comes, an IAM prefix when
//! a policy names it. What was read stays for the life of the process. Pure.

mod bytes;
pub(super) mod catalog;
mod route;
mod service;
mod tokens;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub use route::{Step, labels};
pub use service::{Detail, Input, Kind, Member, Members, Op, Place, Role, Service, ShapeId};
pub use tokens::is_idempotency_token;

use crate::policy::ActionCatalog;
use bytes::{Pack, Reader};

static BYTES: &[u8] = include_bytes!("model/aws.bin");
/// Sections before those of the services: the dictionary and the index.
const FIRST_SERVICE: usize = 2;

/// Everything but the services' details.
#[derive(Debug)]
pub struct Index {
    pub services: Box<[Service]>,
    hosts: HashMap<&'static str, Host>,
    prefixes: Box<[catalog::Prefix]>,
}

/// Services behind a host name from which region, partition, FIPS and dual-stack labels were taken away.
#[derive(Debug)]
pub struct Host {
    /// Positions in [`Index::services`], the likeliest first, and how many labels may stand before the name.
    pub services: Box<[(u16, u8)]>,
    /// Regions that are signed for where the host names none, by partition.
    pub regions: Box<[(&'static str, &'static str)]>,
}

/// The index. `None` if the model is damaged; then nothing is known.
pub fn index() -> Option<&'static Index> {
    static INDEX: OnceLock<Option<Index>> = OnceLock::new();
    INDEX.get_or_init(|| Index::read(pack()?.section(1)?)).as_ref()
}

fn pack() -> Option<&'static Pack> {
    static PACK: OnceLock<Option<Pack>> = OnceLock::new();
    PACK.get_or_init(|| Pack::open(BYTES)).as_ref()
}

/// The catalog that policies are validated against.
pub fn catalog() -> Arc<dyn ActionCatalog> {
    Arc::new(catalog::Catalog)
}

impl Index {
    fn read(mut reader: Reader) -> Option<Self> {
        let mut section = FIRST_SERVICE..;
        let services = reader.list(|r| Service::read(r, section.next()?))?;
        let hosts = reader.list(|r| {
            let key = r.text()?;
            let found = r.list(|r| {
                let (service, before) = (r.number().filter(|n| *n < services.len())?, r.number()?);
                Some((u16::try_from(service).ok()?, u8::try_from(before).ok()?))
            })?;
            Some((key, Host { services: found, regions: r.list(|r| Some((r.text()?, r.text()?)))? }))
        })?;
        let prefixes = reader.list(|r| {
            let name = r.text()?;
            let services = r.list(|r| u16::try_from(r.number().filter(|n| *n < services.len())?).ok())?;
            Some(catalog::Prefix::new(name, services, section.next()?))
        })?;
        Some(Self { services, hosts: hosts.into_iter().collect(), prefixes })
    }

    /// By labels joined with dots.
    pub fn host(&self, key: &str) -> Option<&Host> {
        self.hosts.get(key)
    }

    /// By botocore's name.
    pub fn service(&self, id: &str) -> Option<(u16, &Service)> {
        let n = self.services.binary_search_by_key(&id, |s| s.id).ok()?;
        Some((u16::try_from(n).ok()?, &self.services[n]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_can_be_read() {
        let index = index().expect("a sound model");
        assert!(index.services.len() > 400 && index.hosts.len() > 450);
        assert!(index.services.is_sorted_by_key(|s| s.id), "services are looked up by their name");
        let mut operations = 0;
        for service in &index.services {
            let detail = service.detail().unwrap_or_else(|| panic!("{} cannot be read", service.id));
            operations += detail.operations.len();
            for op in &detail.operations {
                assert!(detail.operation(op.name).is_some(), "{}:{}", service.id, op.name);
            }
        }
        assert!(operations > 19_000, "{operations}");
        assert!(BYTES.len() < 4 << 20, "the model is larger than 4 MiB");
    }

    #[test]
    fn the_shipped_policies_are_right_by_it_and_a_misspelling_is_not() {
        use crate::config::Mode;
        use crate::policy::PolicySet;

        let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        PolicySet::load(&shipped, Mode::Enforce, catalog()).expect("the shipped policies load");
        let dir = std::env::temp_dir().join(format!("tollgate-catalog-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("made");
        let text = "permit (principal, action == AWS::Action::\"s3:ListObjectsV2\", resource);\n\
                    permit (principal, action == AWS::Action::\"ec2:RunInstance\", resource);";
        std::fs::write(dir.join("a.cedar"), text).expect("written");
        let errors = PolicySet::load(&dir, Mode::Enforce, catalog()).expect_err("two wrong actions");
        std::fs::remove_dir_all(&dir).expect("removed");
        let all = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(all.contains("s3:ListObjectsV2") && all.contains("ec2:RunInstances"), "{all}");
    }

    #[test]
    fn every_action_of_an_operation_is_in_the_catalog() {
        let catalog = catalog();
        for service in &index().expect("a sound model").services {
            for op in &service.detail().expect("a sound service").operations {
                for action in op.actions() {
                    assert!(catalog.level(action).is_some(), "{}:{} needs {action}", service.id, op.name);
                }
            }
        }
    }
}
