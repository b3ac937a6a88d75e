//! The look-alike's STS: who the key belongs to.

use http::StatusCode;

use super::{ACCOUNT, Answer, Call, xml, xml_error};

pub(super) fn answer(call: &Call) -> Answer {
    match call.form("Action").as_deref() {
        Some("GetCallerIdentity") => xml(format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:aws:iam::{ACCOUNT}:user/held-by-tollgate</Arn><UserId>AIDALOOKALIKEHELDUSER</UserId><Account>{ACCOUNT}</Account>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>look-alike</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        )),
        other => xml_error(
            StatusCode::BAD_REQUEST,
            "InvalidAction",
            &format!("This look-alike's STS has no operation {}.", other.unwrap_or("without a name")),
        ),
    }
}
