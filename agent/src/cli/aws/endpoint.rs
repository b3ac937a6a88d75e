//! `tollgate aws endpoint HOST`.

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::aws::endpoint::{Front, HostClass, resolve};
use crate::aws::model;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A host name, such as `s3.eu-central-1.amazonaws.com`; a port is left aside.
    host: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&describe(&args.host)?)?);
    Ok(())
}

/// What stands behind a name.
pub(super) fn describe(host: &str) -> anyhow::Result<Value> {
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let Some(found) = resolve(name) else {
        bail!("`{host}` is not under one of AWS's domains; give a host name alone, without `https://` and path");
    };
    let kind = match found.class {
        HostClass::Api => "api",
        HostClass::Customer => "customer",
        HostClass::Unknown => "unknown",
    };
    let services: Vec<&str> = model::index()
        .map(|index| found.services.iter().filter_map(|n| index.services.get(usize::from(*n))).map(|s| s.id).collect())
        .unwrap_or_default();
    let mut out: Map<String, Value> = [
        ("host", json!(found.host)),
        ("kind", json!(kind)),
        ("partition", json!(found.partition)),
        ("service", json!(services.first())),
        ("region", json!(found.region)),
        ("signing_name", json!(found.signing)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if services.len() > 1 {
        out.insert("services".into(), json!(services));
    }
    if let Some(bucket) = found.bucket {
        out.insert("bucket".into(), bucket.into());
    }
    let front = match found.front {
        Front::Plain | Front::Bucket => None,
        Front::AccessPoint => Some("access point"),
        Front::MultiRegion => Some("multi-region access point"),
        Front::ObjectLambda => Some("object lambda access point"),
        Front::Outpost(_) => Some("outpost"),
        Front::Express => Some("directory bucket"),
        Front::Account(_) => Some("account"),
        Front::Gateway(_) => Some("API behind API Gateway"),
        Front::FunctionUrl => Some("function URL"),
        Front::Search => Some("OpenSearch domain"),
        Front::Collection(_) => Some("OpenSearch Serverless collection"),
        Front::GraphQl => Some("AppSync API"),
    };
    out.extend(front.map(|front| ("front".to_owned(), front.into())));
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_described() {
        for (host, expected) in [
            ("b.s3.eu-west-1.amazonaws.com:443", ["api", "aws", "s3", "eu-west-1", "s3"]),
            ("bedrock-runtime-fips.us-east-1.amazonaws.com", ["api", "aws", "bedrock-runtime", "us-east-1", "bedrock"]),
            ("iam.cn-north-1.amazonaws.com.cn", ["api", "aws-cn", "iam", "cn-north-1", "iam"]),
            ("iam.amazonaws.com", ["api", "aws", "iam", "us-east-1", "iam"]),
        ] {
            let found = describe(host).expect(host);
            let fields = ["kind", "partition", "service", "region", "signing_name"].map(|f| found[f].clone());
            assert_eq!(fields, expected.map(Value::from), "{host}");
        }
        assert_eq!(describe("x.eu-west-1.elb.amazonaws.com").expect("AWS's")["kind"], "customer");
        for wrong in ["example.com", "https://s3.amazonaws.com/x", ""] {
            let why = describe(wrong).expect_err(wrong).to_string();
            assert!(why.contains("not under one of AWS's domains"), "{why}");
        }
    }
}
