//! The look-alike's EC2: instances that are only a list.

use http::StatusCode;

use super::{ACCOUNT, Answer, Call, escape, xml, xml_error};

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

#[derive(Debug, Default)]
pub(super) struct Instances(Vec<Instance>);

#[derive(Debug)]
struct Instance {
    id: String,
    image: String,
    kind: String,
}

impl Instances {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

pub(super) fn answer(instances: &mut Instances, call: &Call) -> Answer {
    match call.form("Action").as_deref() {
        Some("RunInstances") => run(instances, call),
        Some("DescribeInstances") => xml(format!(
            "<DescribeInstancesResponse xmlns=\"{NAMESPACE}\"><requestId>look-alike</requestId><reservationSet>{}</reservationSet>\
             </DescribeInstancesResponse>",
            instances
                .0
                .iter()
                .map(|i| format!("<item>{}</item>", reservation(std::slice::from_ref(i))))
                .collect::<String>()
        )),
        other => xml_error(
            StatusCode::BAD_REQUEST,
            "InvalidAction",
            &format!("This look-alike's EC2 has no operation {}.", other.unwrap_or("without a name")),
        ),
    }
}

fn run(instances: &mut Instances, call: &Call) -> Answer {
    let Some(image) = call.form("ImageId") else {
        return xml_error(
            StatusCode::BAD_REQUEST,
            "MissingParameter",
            "The request must contain the parameter ImageId.",
        );
    };
    let kind = call.form("InstanceType").unwrap_or_else(|| "m1.small".into());
    let count = call.form("MaxCount").and_then(|n| n.parse().ok()).unwrap_or(1usize).clamp(1, 100);
    let first = instances.0.len();
    for n in first..first + count {
        instances.0.push(Instance { id: format!("i-{n:017x}"), image: image.clone(), kind: kind.clone() });
    }
    xml(format!(
        "<RunInstancesResponse xmlns=\"{NAMESPACE}\"><requestId>look-alike</requestId>{}</RunInstancesResponse>",
        reservation(&instances.0[first..])
    ))
}

fn reservation(instances: &[Instance]) -> String {
    let items: String = instances
        .iter()
        .map(|i| {
            format!(
                "<item><instanceId>{}</instanceId><imageId>{}</imageId><instanceType>{}</instanceType>\
                 <instanceState><code>16</code><name>running</name></instanceState></item>",
                escape(&i.id),
                escape(&i.image),
                escape(&i.kind)
            )
        })
        .collect();
    format!("<reservationId>r-0</reservationId><ownerId>{ACCOUNT}</ownerId><instancesSet>{items}</instancesSet>")
}
