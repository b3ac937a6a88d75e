//! Host name → service, region, partition, bucket.
//!
//! Pure. A host that is not recognised is `Unknown`, and what is sent to it is denied.

/// What a host name under AWS's domains stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Lower case, without port.
    pub host: String,
    /// Name that the service behind this host signs with; `None` if it is not known.
    pub signing: Option<String>,
    /// Region named by the host, or the fixed signing region of a global endpoint.
    pub region: Option<String>,
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: &'static str,
    /// S3: what stands in front of the service labels (bucket of a virtual-host address).
    pub bucket: Option<String>,
    /// What kind of host it is.
    pub class: HostClass,
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

/// Suffixes of API endpoints, with their partition; longer ones first where one ends in another.
const SUFFIXES: &[(&str, &str)] = &[
    (".amazonaws.com.cn", "aws-cn"),
    (".api.amazonwebservices.com.cn", "aws-cn"),
    (".amazonaws.cn", "aws-cn"),
    (".amazonaws.com", "aws"),
    (".api.aws", "aws"),
    (".on.aws", "aws"),
    (".signin.aws", "aws"),
    (".ecr.aws", "aws"),
    (".aws.amazon.com", "aws"),
    (".amazonaws-us-gov.com", "aws-us-gov"),
    (".amazonaws.eu", "aws-eusc"),
    (".api.amazonwebservices.eu", "aws-eusc"),
    (".amazonaws-eusc.eu", "aws-eusc"),
    (".c2s.ic.gov", "aws-iso"),
    (".api.aws.ic.gov", "aws-iso"),
    (".sc2s.sgov.gov", "aws-iso-b"),
    (".api.aws.scloud", "aws-iso-b"),
    (".cloud.adc-e.uk", "aws-iso-e"),
    (".api.cloud-aws.adc-e.uk", "aws-iso-e"),
    (".csp.hci.ic.gov", "aws-iso-f"),
    (".api.aws.hci.ic.gov", "aws-iso-f"),
];

/// Labels of customers' and download hosts under `amazonaws.com`: no API, never signed.
const CUSTOMER: &[&str] = &["elb", "rds", "cache", "redshift", "docdb", "mq", "kafka", "awscli"];

/// Whether a host name is under one of AWS's domains.
pub fn is_aws(host: &str) -> bool {
    suffix(host).is_some()
}

fn suffix(host: &str) -> Option<(&str, &'static str)> {
    SUFFIXES
        .iter()
        .find_map(|(s, partition)| host.strip_suffix(s).filter(|stem| !stem.is_empty()).map(|stem| (stem, *partition)))
}

/// Reads a host name. `None`: it is not AWS's.
pub fn resolve(host: &str) -> Option<Endpoint> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let (stem, partition) = suffix(&host)?;
    let labels: Vec<&str> = stem.split('.').collect();
    let customer = labels.iter().any(|l| CUSTOMER.contains(l) || l.starts_with("compute"));
    let mut region = labels.iter().rev().find(|l| is_region(l)).map(|l| (*l).to_owned());
    let partition = if region.as_deref().is_some_and(|r| r.starts_with("us-gov-")) { "aws-us-gov" } else { partition };
    // The right-most label that names a service: whatever stands before it belongs to the customer.
    let service = labels.iter().enumerate().rev().find_map(|(n, l)| {
        let bare = l.strip_suffix("-fips").unwrap_or(l);
        let known = SIGNING.iter().find(|(label, _)| *label == bare).map(|(_, name)| *name);
        // Legacy `s3-eu-west-1`.
        let legacy = bare.strip_prefix("s3-").filter(|r| is_region(r));
        if let (None, Some(r)) = (known, legacy) {
            region.get_or_insert_with(|| r.to_owned());
            return Some((n, "s3"));
        }
        known.map(|name| (n, name))
    });
    let bucket = match service {
        Some((n, "s3")) if n > 0 => Some(labels[..n].join(".")),
        _ => None,
    };
    let class = match service {
        _ if customer => HostClass::Customer,
        Some((n, name)) if n == 0 || name == "s3" => HostClass::Api,
        _ => HostClass::Unknown,
    };
    let signing = service.filter(|_| class == HostClass::Api).map(|(_, name)| name.to_owned());
    if region.is_none() && signing.as_deref().is_some_and(|s| GLOBAL.contains(&s)) && partition == "aws" {
        region = Some("us-east-1".to_owned());
    }
    Some(Endpoint { signing, region, partition, bucket, class, host })
}

/// Endpoint labels and the names their services sign with.
const SIGNING: &[(&str, &str)] = &[
    ("s3", "s3"),
    ("sts", "sts"),
    ("ec2", "ec2"),
    ("iam", "iam"),
    ("sqs", "sqs"),
    // `queue.amazonaws.com`: what version 1 of the AWS CLI still uses for us-east-1.
    ("queue", "sqs"),
    ("sns", "sns"),
    ("dynamodb", "dynamodb"),
    ("secretsmanager", "secretsmanager"),
    ("kms", "kms"),
    ("ssm", "ssm"),
    ("logs", "logs"),
    ("cloudformation", "cloudformation"),
    ("autoscaling", "autoscaling"),
    ("elasticloadbalancing", "elasticloadbalancing"),
    ("ecs", "ecs"),
    ("events", "events"),
    ("states", "states"),
    ("kinesis", "kinesis"),
    ("firehose", "firehose"),
    ("codebuild", "codebuild"),
];

/// Services whose endpoint without a region is signed for us-east-1.
const GLOBAL: &[&str] = &["iam", "sts", "s3", "sqs"];

/// Whether a host is a global endpoint, whose name says nothing about the region that is signed for.
pub fn is_global(host: &str) -> bool {
    !host.split('.').any(is_region)
}

/// Whether a label has the form of a region (`eu-central-1`, `us-gov-west-1`).
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    (3..=4).contains(&parts.len())
        && parts[0].len() >= 2
        && parts[0].len() <= 4
        && parts[..parts.len() - 1].iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
        && parts.last().is_some_and(|p| !p.is_empty() && p.len() <= 2 && p.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let cases: &[(&str, Option<&str>, Option<&str>, Option<&str>, HostClass)] = &[
            ("s3.eu-central-1.amazonaws.com", Some("s3"), Some("eu-central-1"), None, HostClass::Api),
            ("my.bucket.s3.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("my.bucket"), HostClass::Api),
            ("b.s3.dualstack.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("b"), HostClass::Api),
            ("s3-eu-west-1.amazonaws.com", Some("s3"), Some("eu-west-1"), None, HostClass::Api),
            ("STS.amazonaws.com.", Some("sts"), Some("us-east-1"), None, HostClass::Api),
            ("sts-fips.us-east-1.amazonaws.com", Some("sts"), Some("us-east-1"), None, HostClass::Api),
            ("dynamodb.cn-north-1.amazonaws.com.cn", Some("dynamodb"), Some("cn-north-1"), None, HostClass::Api),
            ("ec2.us-gov-west-1.amazonaws.com", Some("ec2"), Some("us-gov-west-1"), None, HostClass::Api),
            ("queue.amazonaws.com", Some("sqs"), Some("us-east-1"), None, HostClass::Api),
            ("sqs.us-east-1.api.aws", Some("sqs"), Some("us-east-1"), None, HostClass::Api),
            ("x.eu-west-1.elb.amazonaws.com", None, Some("eu-west-1"), None, HostClass::Customer),
            ("nobody.us-east-1.amazonaws.com", None, Some("us-east-1"), None, HostClass::Unknown),
            ("evil.sts.us-east-1.amazonaws.com", None, Some("us-east-1"), None, HostClass::Unknown),
        ];
        for (host, signing, region, bucket, class) in cases {
            let e = resolve(host).expect("AWS's");
            assert_eq!(
                (e.signing.as_deref(), e.region.as_deref(), e.bucket.as_deref(), e.class),
                (*signing, *region, *bucket, *class),
                "{host}"
            );
        }
        for host in ["amazonaws.com", "example.com", "amazonaws.com.evil.example", "notamazonaws.com", ""] {
            assert_eq!(resolve(host), None, "{host}");
        }
    }
}
