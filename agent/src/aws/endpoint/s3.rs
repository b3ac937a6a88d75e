//! S3's host names, whose rule set says more than a table can.
//!
//! Pure. Buckets may contain dots, so that all labels before S3's own are the bucket's.

use super::{Found, Front, HostClass, Name, is_region, legacy_region};
use crate::aws::model::Index;

pub(super) fn read(name: &Name<'_>, index: &Index) -> Option<Found> {
    let (last, before) = name.labels.split_last()?;
    let api = |front: Front, signing: &str, bucket: Option<String>| Found {
        front,
        bucket,
        ..Found::service(index, "s3", signing)
    };
    let joined = (!before.is_empty()).then(|| before.join("."));
    let bare = last.strip_suffix("-fips").unwrap_or(last);
    let unknown = || Some(Found { class: HostClass::Unknown, ..Found::default() });
    if name.private && bare == "s3" {
        return private(before, index).or_else(unknown);
    }
    if name.private && before.len() > 1 && bare.starts_with("s3") {
        return unknown();
    }
    let in_bucket =
        |bucket: Option<String>| api(if bucket.is_some() { Front::Bucket } else { Front::Plain }, "s3", bucket);
    Some(match bare {
        // It leads to all regions.
        "s3-accelerate" => in_bucket(joined),
        "s3" | "s3-external-1" => {
            let region = (bare == "s3-external-1" || name.partition == "aws").then(|| "us-east-1".to_owned());
            Found { region, ..in_bucket(joined) }
        }
        "s3-website" => in_bucket(joined),
        _ if legacy_region(bare).is_some() => {
            Found { region: legacy_region(bare).map(str::to_owned), ..in_bucket(joined) }
        }
        "s3-accesspoint" => match before {
            [point] if account_of(point).is_some() => api(Front::AccessPoint, "s3", joined),
            _ => return unknown(),
        },
        "s3-global" => match before {
            [alias, "mrap", "accesspoint"] => api(Front::MultiRegion, "s3", Some(format!("{alias}.mrap"))),
            _ => return unknown(),
        },
        "s3-object-lambda" => match before {
            [point] if account_of(point).is_some() => api(Front::ObjectLambda, "s3-object-lambda", joined),
            // A request route of `WriteGetObjectResponse`, which has no bucket.
            [] | [_] => api(Front::Plain, "s3-object-lambda", None),
            _ => return unknown(),
        },
        "s3-outposts" => match before {
            [] => {
                let mut found = Found::service(index, "s3outposts", "s3-outposts");
                found.services.extend(index.service("s3control").map(|(n, _)| n));
                found
            }
            [account] if is_account(account) => {
                let found = Found::service(index, "s3control", "s3-outposts");
                Found { front: Front::Account((*account).to_owned()), ..found }
            }
            [point, outpost] if account_of(point).is_some() => {
                api(Front::Outpost((*outpost).to_owned()), "s3-outposts", Some((*point).to_owned()))
            }
            // Buckets that are known by their alias, on a rack that is named after `ec2` or `op-…`.
            [.., outpost] if *outpost == "ec2" || outpost.starts_with("op-") => {
                api(Front::Outpost((*outpost).to_owned()), "s3-outposts", Some(before[..before.len() - 1].join(".")))
            }
            _ => return unknown(),
        },
        "s3-control" => control(before, index, "s3").or_else(unknown)?,
        "s3express-control" => match before {
            [] => {
                let mut found = api(Front::Express, "s3express", None);
                found.services.extend(index.service("s3control").map(|(n, _)| n));
                found
            }
            _ => control(before, index, "s3express").or_else(unknown)?,
        },
        _ if bare.strip_prefix("s3express-").is_some_and(is_zone) => match joined {
            Some(bucket) => api(Front::Express, "s3express", Some(bucket)),
            None => return unknown(),
        },
        _ => return None,
    })
}

/// `{bucket}.bucket.vpce-….s3`, `{point}-{account}.accesspoint.vpce-….s3`, `{account}.control.vpce-….s3`.
fn private(before: &[&str], index: &Index) -> Option<Found> {
    let (endpoint, before) = before.split_last()?;
    if !endpoint.starts_with("vpce-") {
        return None;
    }
    let (kind, before) = before.split_last()?;
    let api = |front: Front, bucket: Option<String>| Found { front, bucket, ..Found::service(index, "s3", "s3") };
    Some(match (*kind, before) {
        ("bucket" | "accesspoint", []) => api(Front::Plain, None),
        ("bucket", _) => api(Front::Bucket, Some(before.join("."))),
        ("accesspoint", [point]) if account_of(point).is_some() => api(Front::AccessPoint, Some((*point).to_owned())),
        ("control", _) => control(before, index, "s3")?,
        _ => return None,
    })
}

fn control(before: &[&str], index: &Index, signing: &str) -> Option<Found> {
    let front = match before {
        [] => Front::Plain,
        [account] if is_account(account) => Front::Account((*account).to_owned()),
        _ => return None,
    };
    Some(Found { front, ..Found::service(index, "s3control", signing) })
}

/// The account of `{name}-{account}`.
pub(in crate::aws) fn account_of(point: &str) -> Option<(&str, &str)> {
    point.rsplit_once('-').filter(|(name, account)| !name.is_empty() && is_account(account))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `usw2-az1`, and with FIPS in front; local zones have more parts.
fn is_zone(text: &str) -> bool {
    let text = text.strip_prefix("fips-").unwrap_or(text);
    text.contains("-az") && !is_region(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
