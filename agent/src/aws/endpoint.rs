//! Host name → services, region, partition, bucket.
//!
//! Owns AWS's domains and the forms of its host names. Which name belongs to which service comes from the model, which
//! has it from botocore's rule sets; S3's many forms and the hosts that no rule set speaks of stand here. Pure. A host
//! that is not recognised is `Unknown`, and what is sent to it is denied.

mod data;
mod s3;

pub(super) use s3::account_of;

use super::model::{self, Index};

/// What a host name under AWS's domains stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Lower case, without port.
    pub host: String,
    /// Name that the likeliest service behind this host signs with; `None` if it is not known.
    pub signing: Option<String>,
    /// Region named by the host, or the fixed signing region of a global endpoint.
    pub region: Option<String>,
    /// GovCloud's signing region of a global endpoint that it shares with the commercial regions.
    pub gov_region: Option<&'static str>,
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: &'static str,
    /// S3: what stands in front of the service labels and belongs in front of the path (bucket of a virtual-host
    /// address, access point).
    pub bucket: Option<String>,
    /// What kind of host it is.
    pub class: HostClass,
    /// The services that may answer here, as positions in the model, the likeliest first.
    pub services: Vec<u16>,
    /// What the labels before the service's name stand for.
    pub front: Front,
}

/// Kinds of hosts under AWS's domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostClass {
    /// A service API: judged, signed.
    Api,
    /// A customer's or a download host under an AWS domain (load balancers, databases): never signed.
    Customer,
    /// Under an AWS domain, but nothing that is known.
    Unknown,
}

/// What stands before a service's own labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front {
    /// Nothing, or an account or an id that says no more than the request does.
    Plain,
    /// A bucket of S3.
    Bucket,
    /// `{name}-{account}` of an access point.
    AccessPoint,
    /// Alias of a multi-region access point.
    MultiRegion,
    /// `{name}-{account}` of an object lambda access point.
    ObjectLambda,
    /// An access point on an outpost, named by its id.
    Outpost(String),
    /// A directory bucket, or nothing in front of the control plane of such buckets.
    Express,
    /// An account of S3 Control.
    Account(String),
    /// The id of an API behind API Gateway.
    Gateway(String),
    /// A function behind a URL of its own.
    FunctionUrl,
    /// An OpenSearch domain.
    Search,
    /// A collection of OpenSearch Serverless.
    Collection(String),
    /// A GraphQL API of AppSync.
    GraphQl,
}

/// AWS's domains, with their partitions: the only place where they are listed. Interception, and the names that our CA
/// may vouch for, follow from it.
const DOMAINS: &[(&str, &str)] = &[
    ("amazonaws.com", "aws"),
    ("amazonaws.com.cn", "aws-cn"),
    ("amazonaws.eu", "aws-eusc"),
    ("amazonaws.cn", "aws-cn"),
    ("amazonaws-us-gov.com", "aws-us-gov"),
    ("amazonaws-eusc.eu", "aws-eusc"),
    ("api.aws", "aws"),
    ("on.aws", "aws"),
    (SIGNIN, "aws"),
    ("ecr.aws", "aws"),
    ("aws.amazon.com", "aws"),
    ("api.amazonwebservices.com.cn", "aws-cn"),
    ("api.amazonwebservices.eu", "aws-eusc"),
    ("c2s.ic.gov", "aws-iso"),
    ("api.aws.ic.gov", "aws-iso"),
    ("sc2s.sgov.gov", "aws-iso-b"),
    ("api.aws.scloud", "aws-iso-b"),
    ("cloud.adc-e.uk", "aws-iso-e"),
    ("api.cloud-aws.adc-e.uk", "aws-iso-e"),
    ("csp.hci.ic.gov", "aws-iso-f"),
    // Sign-in's own.
    ("c2shome.ic.gov", "aws-iso"),
    ("sc2shome.sgov.gov", "aws-iso-b"),
    ("csphome.adc-e.uk", "aws-iso-e"),
    ("csphome.hci.ic.gov", "aws-iso-f"),
    ("api.aws.hci.ic.gov", "aws-iso-f"),
];

/// The domain that the names of a partition's regional endpoints end in.
pub fn domain_of(partition: &str) -> Option<&'static str> {
    // GovCloud's endpoints have the names of the commercial partition's.
    let partition = if partition == "aws-us-gov" { "aws" } else { partition };
    DOMAINS.iter().find(|(_, of)| *of == partition).map(|(domain, _)| *domain)
}

/// A region of a partition in which STS answers.
pub fn first_region(partition: &str) -> &'static str {
    match partition {
        "aws-cn" => "cn-north-1",
        "aws-us-gov" => "us-gov-west-1",
        "aws-eusc" => "eusc-de-east-1",
        "aws-iso" => "us-iso-east-1",
        "aws-iso-b" => "us-isob-east-1",
        "aws-iso-e" => "eu-isoe-west-1",
        "aws-iso-f" => "us-isof-south-1",
        _ => "us-east-1",
    }
}

/// A service's name and a domain at once.
const SIGNIN: &str = "signin.aws";

/// First parts of regions' names, with their partitions.
const REGIONS: &[(&str, &str)] = &[
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
    ("eusc-", "aws-eusc"),
    ("cn-", "aws-cn"),
    ("us-", "aws"),
    ("eu-", "aws"),
    ("ap-", "aws"),
    ("sa-", "aws"),
    ("ca-", "aws"),
    ("me-", "aws"),
    ("af-", "aws"),
    ("il-", "aws"),
    ("mx-", "aws"),
];

/// Labels of customers' and download hosts: no API stands behind them once anything stands before them.
const CUSTOMER: &[&str] = &["elb", "rds", "cache", "redshift", "docdb", "mq", "kafka", "compute", "compute-1", "eks"];

/// AWS's domains, without a leading dot.
pub fn domains() -> impl Iterator<Item = &'static str> {
    DOMAINS.iter().map(|(domain, _)| *domain)
}

/// Whether a host name is under one of AWS's domains.
pub fn is_aws(host: &str) -> bool {
    domain(host).is_some()
}

/// What stands before the domain, the domain, and its partition.
fn domain(host: &str) -> Option<(&str, &'static str, &'static str)> {
    DOMAINS.iter().find_map(|(domain, partition)| {
        let stem = host.strip_suffix(domain)?.strip_suffix('.').filter(|stem| !stem.is_empty())?;
        Some((stem, *domain, *partition))
    })
}

/// Whether a host is a global endpoint, whose name says nothing about the region that is signed for.
pub fn is_global(host: &str) -> bool {
    !host.split('.').any(|label| is_region(label) || legacy_region(label).is_some())
}

/// Reads a host name. `None`: it is not AWS's.
pub fn resolve(host: &str) -> Option<Endpoint> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let (stem, domain, partition) = domain(&host)?;
    let mut labels: Vec<&str> = stem.split('.').collect();
    if domain == SIGNIN {
        labels.push("signin");
    }
    let private = labels.pop_if(|l| *l == "vpce").is_some();
    // Rule sets make names for their partitions' pseudo-regions too. Only the last label: before it may stand a bucket.
    let is_pseudo = |l: &mut &str| l.starts_with("aws-") && l.ends_with("-global") || *l == "aws-global";
    let mut gov = labels.pop_if(|l| *l == "us-gov").map(|_| "us-gov-west-1");
    let region = labels.pop_if(|l| is_region(l));
    let mut pseudo = labels.pop_if(is_pseudo);
    if let [.., "signin" | "signin-fips"] = labels.as_slice()
        && let Some(at) = labels.len().checked_sub(2).filter(|at| is_pseudo(&mut labels[*at]))
    {
        pseudo = Some(labels.remove(at));
    }
    if pseudo == Some("aws-us-gov-global") {
        gov = Some("us-gov-west-1");
    }
    let region = region.or(gov);
    labels.pop_if(|l| *l == "dualstack");
    let name = Name { labels, region, partition, private };
    let mut found = model::index().and_then(|index| name.read(index)).unwrap_or_else(|| Found {
        class: if name.customer(domain) { HostClass::Customer } else { HostClass::Unknown },
        region: name.labels.iter().rev().find(|l| is_region(l)).map(|l| (*l).to_owned()),
        ..Found::default()
    });
    let named = name.region.map(str::to_owned).or(found.region.take());
    let mut partition = partition;
    if let Some(of_region) = named.as_deref().and_then(partition_of) {
        // A region of another partition than its domain's is no endpoint; GovCloud shares its domain.
        if of_region != partition && (of_region, partition) != ("aws-us-gov", "aws") && found.class == HostClass::Api {
            found = Found { class: HostClass::Unknown, ..Found::default() };
        } else {
            partition = of_region;
        }
    }
    Some(Endpoint {
        gov_region: found.gov_region.filter(|_| partition == "aws"),
        region: found.signed.or(named),
        partition,
        signing: found.signing,
        bucket: found.bucket,
        class: found.class,
        services: found.services,
        front: found.front,
        host,
    })
}

/// A host name, the labels that say where rather than what taken off.
#[derive(Debug)]
struct Name<'a> {
    labels: Vec<&'a str>,
    region: Option<&'a str>,
    partition: &'static str,
    /// A PrivateLink name (`….vpce.amazonaws.com`).
    private: bool,
}

/// What the labels stand for.
#[derive(Debug)]
struct Found {
    class: HostClass,
    signing: Option<String>,
    services: Vec<u16>,
    front: Front,
    bucket: Option<String>,
    /// Where the labels taken off named none.
    region: Option<String>,
    /// Region that is signed for whatever the host says.
    signed: Option<String>,
    gov_region: Option<&'static str>,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            class: HostClass::Api,
            signing: None,
            services: Vec::new(),
            front: Front::Plain,
            bucket: None,
            region: None,
            signed: None,
            gov_region: None,
        }
    }
}

impl Found {
    /// An API of one service of the model.
    fn service(index: &Index, id: &str, signing: &str) -> Self {
        let services = index.service(id).map(|(n, _)| n).into_iter().collect();
        Self { services, signing: Some(signing.to_owned()), ..Self::default() }
    }
}

impl Name<'_> {
    fn read(&self, index: &Index) -> Option<Found> {
        s3::read(self, index).or_else(|| self.by_rule_set(index)).or_else(|| data::read(self, index))
    }

    /// By the model's table: as many labels as there are in it, and before them only what the rule sets put there.
    fn by_rule_set(&self, index: &Index) -> Option<Found> {
        let bare: Vec<&str> =
            self.labels.iter().map(|l| l.strip_suffix("-fips").unwrap_or(l)).filter(|l| *l != "fips").collect();
        for before in 0..bare.len() {
            let Some(host) = index.host(&bare[before..].join(".")) else { continue };
            // Sign-in, graphs and some older endpoints have their region before the service's name.
            let (front, region) = match bare[..before].split_last() {
                Some((last, front)) if is_region(last) && self.region.is_none() => (front, Some(*last)),
                _ => (&bare[..before], None),
            };
            let fits = |allowed: u8| match front {
                [] => !self.private,
                [first] if self.private => first.starts_with("vpce-"),
                _ => !self.private && front.len() <= usize::from(allowed),
            };
            let services: Vec<u16> =
                host.services.iter().filter(|(_, allowed)| fits(*allowed)).map(|(n, _)| *n).collect();
            let first = index.services.get(usize::from(*services.first()?))?;
            let fixed = |wanted: &str| host.regions.iter().find(|(p, _)| *p == wanted).map(|(_, region)| *region);
            return Some(Found {
                signing: first.signing.first().map(|s| (*s).to_owned()),
                region: region.or_else(|| fixed(self.partition)).map(str::to_owned),
                signed: fixed("*").or_else(|| fixed(&format!("*{}", self.of_region()))).map(str::to_owned),
                gov_region: fixed("aws-us-gov").filter(|_| self.region.is_none() && region.is_none()),
                services,
                ..Found::default()
            });
        }
        None
    }

    /// The partition of the region that the host names, or of its domain.
    fn of_region(&self) -> &'static str {
        self.region.and_then(partition_of).unwrap_or(self.partition)
    }

    fn customer(&self, domain: &str) -> bool {
        match self.labels.as_slice() {
            ["awscli"] => domain == "amazonaws.com",
            [_, .., last] => CUSTOMER.contains(last),
            _ => false,
        }
    }
}

/// Whether a label has the form of a region (`eu-central-1`, `us-gov-west-1`).
fn is_region(label: &str) -> bool {
    let Some((name, number)) = label.rsplit_once('-') else { return false };
    partition_of(label).is_some()
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
        && name.matches('-').count() <= 2
        && name.contains('-')
        && name.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()))
}

fn partition_of(region: &str) -> Option<&'static str> {
    REGIONS.iter().find(|(prefix, _)| region.starts_with(prefix)).map(|(_, partition)| *partition)
}

/// The region of a label such as `s3-eu-west-1` or `s3-website-eu-west-1`.
fn legacy_region(label: &str) -> Option<&str> {
    let rest = label.strip_prefix("s3-")?;
    let rest = rest.strip_prefix("website-").or_else(|| rest.strip_prefix("fips-")).unwrap_or(rest);
    is_region(rest).then_some(rest)
}

#[cfg(test)]
mod tests;
