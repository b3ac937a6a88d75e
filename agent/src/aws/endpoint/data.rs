//! Hosts that are signed for and of which no rule set speaks: customers' own APIs, and first names of services.
//!
//! Pure. Each form is listed; nothing else below these names is recognised.

use super::{Found, Front, Name, is_region};
use crate::aws::model::Index;

pub(super) fn read(name: &Name<'_>, index: &Index) -> Option<Found> {
    if name.private {
        return None;
    }
    let front = |front: Front, signing: &str| Found { signing: Some(signing.to_owned()), front, ..Found::default() };
    let service = |id: &str, signing: &str| Some(Found::service(index, id, signing));
    match name.labels.as_slice() {
        [id, "execute-api"] => {
            let found = Found::service(index, "apigatewaymanagementapi", "execute-api");
            Some(Found { front: Front::Gateway((*id).to_owned()), ..found })
        }
        [_, "lambda-url"] => Some(front(Front::FunctionUrl, "lambda")),
        [_, "appsync-api"] => Some(front(Front::GraphQl, "appsync")),
        [_, "aos"] => Some(front(Front::Search, "es")),
        [id, region, kind @ ("es" | "aoss" | "cloudsearch")] if is_region(region) && name.region.is_none() => {
            let found = match *kind {
                "es" => front(Front::Search, "es"),
                "aoss" => front(Front::Collection((*id).to_owned()), "aoss"),
                _ if id.starts_with("doc-") || id.starts_with("search-") => {
                    service("cloudsearchdomain", "cloudsearch")?
                }
                _ => return None,
            };
            Some(Found { region: Some((*region).to_owned()), ..found })
        }
        // SQS's older names, which version 1 of the AWS CLI still uses.
        ["queue"] if name.region.is_none() && name.partition == "aws" => {
            Some(Found { region: Some("us-east-1".to_owned()), ..Found::service(index, "sqs", "sqs") })
        }
        [region, "queue"] if is_region(region) && name.region.is_none() => {
            Some(Found { region: Some((*region).to_owned()), ..Found::service(index, "sqs", "sqs") })
        }
        [id, "iot"] if id.ends_with("-ats") => service("iot-data", "iotdata"),
        // No model has these: their requests are signed by these names, and unknown.
        [name @ ("ssmmessages" | "ec2messages")] => Some(front(Front::Plain, name)),
        ["git-codecommit"] => Some(front(Front::Plain, "codecommit")),
        [cell, "timestream"] if cell.starts_with("query-") => service("timestream-query", "timestream"),
        [cell, "timestream"] if cell.starts_with("ingest-") => service("timestream-write", "timestream"),
        [_, "data", "mediastore"] => service("mediastore-data", "mediastore"),
        [cell, "kinesisvideo"] if cell.starts_with("b-") || cell.starts_with("s-") => {
            let mut found = service("kinesis-video-media", "kinesisvideo")?;
            let more = ["kinesis-video-archived-media", "kinesis-video-signaling", "kinesis-video-webrtc-storage"];
            found.services.extend(more.iter().filter_map(|id| Some(index.service(id)?.0)));
            Some(found)
        }
        _ => None,
    }
}
