//! The Rust SDK as an agent would use it: default configuration, nothing but the operation named on the command line.
//!
//! EC2 has a generated client too, but that crate takes seven minutes and six gigabytes to compile; its two
//! operations are described by hand here and run on the SDK's own runtime: the same credentials chain, signer, retry
//! and HTTP client.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::primitives::ByteStream;
use clap::Parser;
use tokio::io::AsyncWriteExt as _;

#[derive(Debug, Parser)]
enum Call {
    /// STS GetCallerIdentity: prints the ARN.
    Sts,
    /// S3 PutObject from a file and GetObject into another.
    S3 { bucket: String, key: String, from: PathBuf, to: PathBuf },
    /// S3 PutObject of files named by their number and GetObject of all, under these keys.
    Keys { bucket: String, from: PathBuf, to: PathBuf, keys: Vec<String> },
    /// S3 ListObjectsV2: prints the keys.
    List { bucket: String, prefix: String, delimiter: String },
    /// Calls of a session that may do nothing: prints name, code, message and request id of each.
    Denied,
    /// DynamoDB CreateTable, PutItem, GetItem: prints the value read back.
    Dynamodb { table: String, value: String },
    /// EC2 CreateSecurityGroup, DescribeSecurityGroups: prints the name read back.
    Ec2 { group: String },
    /// SQS CreateQueue, SendMessage, ReceiveMessage: prints the body received.
    Sqs { queue: String, body: String },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let call = Call::parse();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    match call {
        Call::Sts => {
            let answer = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await?;
            println!("{}", answer.arn().context("the answer has no ARN")?);
        }
        Call::S3 { bucket, key, from, to } => s3(&config, &bucket, &key, &from, &to).await?,
        Call::Keys { bucket, from, to, keys } => hard_keys(&config, &bucket, &from, &to, &keys).await?,
        Call::List { bucket, prefix, delimiter } => list(&config, &bucket, &prefix, &delimiter).await?,
        Call::Denied => denied(&config).await?,
        Call::Dynamodb { table, value } => println!("{}", dynamodb(&config, &table, value).await?),
        Call::Ec2 { group } => println!("{}", ec2::security_group(&config, &group).await?),
        Call::Sqs { queue, body } => println!("{}", sqs(&config, &queue, &body).await?),
    }
    Ok(())
}

async fn s3(config: &SdkConfig, bucket: &str, key: &str, from: &PathBuf, to: &PathBuf) -> anyhow::Result<()> {
    let client = aws_sdk_s3::Client::new(config);
    client.put_object().bucket(bucket).key(key).body(ByteStream::from_path(from).await?).send().await?;
    let mut body = client.get_object().bucket(bucket).key(key).send().await?.body;
    let mut file = tokio::fs::File::create(to).await?;
    while let Some(bytes) = body.try_next().await? {
        file.write_all(&bytes).await?;
    }
    file.flush().await?;
    Ok(())
}

async fn hard_keys(config: &SdkConfig, bucket: &str, from: &Path, to: &Path, keys: &[String]) -> anyhow::Result<()> {
    let client = aws_sdk_s3::Client::new(config);
    for (n, key) in keys.iter().enumerate() {
        let body = ByteStream::from_path(from.join(n.to_string())).await?;
        client.put_object().bucket(bucket).key(key).body(body).send().await.with_context(|| key.clone())?;
    }
    for (n, key) in keys.iter().enumerate() {
        let answer = client.get_object().bucket(bucket).key(key).send().await.with_context(|| key.clone())?;
        tokio::fs::write(to.join(n.to_string()), answer.body.collect().await?.into_bytes()).await?;
    }
    Ok(())
}

async fn list(config: &SdkConfig, bucket: &str, prefix: &str, delimiter: &str) -> anyhow::Result<()> {
    let client = aws_sdk_s3::Client::new(config);
    let answer = client.list_objects_v2().bucket(bucket).prefix(prefix).delimiter(delimiter).send().await?;
    let keys: Vec<&str> = answer.contents().iter().filter_map(|o| o.key()).collect();
    println!("{}", serde_json::to_string(&keys)?);
    Ok(())
}

/// Every error of a service has a code, a message and a request id.
async fn denied(config: &SdkConfig) -> anyhow::Result<()> {
    fn show(name: &str, error: &(impl ProvideErrorMetadata + RequestId)) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(&[Some(name), error.code(), error.message(), error.request_id()])?);
        Ok(())
    }
    let unexpected = || anyhow::anyhow!("it should have been denied");
    let sts = aws_sdk_sts::Client::new(config).get_caller_identity().send().await;
    show("query", &sts.err().with_context(unexpected)?)?;
    let dynamodb = aws_sdk_dynamodb::Client::new(config).list_tables().send().await;
    show("json", &dynamodb.err().with_context(unexpected)?)?;
    let sqs = aws_sdk_sqs::Client::new(config).list_queues().send().await;
    show("json, sqs", &sqs.err().with_context(unexpected)?)?;
    let s3 = aws_sdk_s3::Client::new(config).list_objects_v2().bucket("tollgate-test").send().await;
    show("rest-xml", &s3.err().with_context(unexpected)?)
}

async fn dynamodb(config: &SdkConfig, table: &str, value: String) -> anyhow::Result<String> {
    let client = aws_sdk_dynamodb::Client::new(config);
    client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(
            AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build()?,
        )
        .key_schema(KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build()?)
        .send()
        .await?;
    client
        .put_item()
        .table_name(table)
        .item("id", AttributeValue::S("1".into()))
        .item("value", AttributeValue::S(value))
        .send()
        .await?;
    let answer = client.get_item().table_name(table).key("id", AttributeValue::S("1".into())).send().await?;
    match answer.item().and_then(|item| item.get("value")) {
        Some(AttributeValue::S(text)) => Ok(text.clone()),
        other => anyhow::bail!("read back {other:?}"),
    }
}

async fn sqs(config: &SdkConfig, queue: &str, body: &str) -> anyhow::Result<String> {
    let client = aws_sdk_sqs::Client::new(config);
    let queue = client.create_queue().queue_name(queue).send().await?;
    let url = queue.queue_url().context("the answer has no queue URL")?;
    client.send_message().queue_url(url).message_body(body).send().await?;
    let answer = client.receive_message().queue_url(url).wait_time_seconds(1).send().await?;
    let message = answer.messages().first().context("no message came")?;
    Ok(message.body().context("the message has no body")?.to_owned())
}

/// EC2's query protocol on the SDK's runtime.
mod ec2 {
    use std::convert::Infallible;

    use anyhow::Context as _;
    use aws_config::SdkConfig;
    use aws_runtime::auth::SigV4OperationSigningConfig;
    use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
    use aws_smithy_runtime::client::identity::IdentityCache;
    use aws_smithy_runtime::client::orchestrator::operation::Operation;
    use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
    use aws_smithy_runtime_api::client::auth::{
        AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
    };
    use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
    use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
    use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::config_bag::Layer;

    pub(super) async fn security_group(config: &SdkConfig, name: &str) -> anyhow::Result<String> {
        let made = call(config, format!("Action=CreateSecurityGroup&GroupName={name}&GroupDescription=test")).await?;
        let id = element(&made, "groupId")?;
        let found = call(config, format!("Action=DescribeSecurityGroups&GroupId.1={id}")).await?;
        Ok(element(&found, "groupName")?.to_owned())
    }

    fn element<'a>(xml: &'a str, name: &str) -> anyhow::Result<&'a str> {
        let (_, rest) = xml.split_once(&format!("<{name}>")).with_context(|| format!("no `{name}` in {xml}"))?;
        Ok(rest.split('<').next().unwrap_or_default())
    }

    async fn call(config: &SdkConfig, action: String) -> anyhow::Result<String> {
        let region = config.region().context("no region was found")?.clone();
        let credentials = config.credentials_provider().context("no credentials were found")?;
        let mut settings = Layer::new("ec2");
        settings.store_put(AuthSchemeOptionResolverParams::new(()));
        settings.store_put(SigV4OperationSigningConfig {
            region: Some(region.clone().into()),
            name: Some("ec2".into()),
            ..Default::default()
        });
        let components = RuntimeComponentsBuilder::new("ec2")
            .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
            .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(
                StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]),
            )))
            .with_identity_cache(Some(IdentityCache::lazy().build()))
            .with_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(credentials));
        let operation = Operation::builder()
            .service_name("EC2")
            .operation_name("SecurityGroup")
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&format!("https://ec2.{region}.amazonaws.com"))
            .runtime_plugin(
                StaticRuntimePlugin::new().with_config(settings.freeze()).with_runtime_components(components),
            )
            .serializer(|body: String| {
                let length = body.len();
                let mut request = HttpRequest::new(SdkBody::from(body));
                request.set_method("POST")?;
                request.set_uri("/")?;
                request.headers_mut().insert("content-type", "application/x-www-form-urlencoded");
                request.headers_mut().insert("content-length", length.to_string());
                Ok(request)
            })
            .deserializer::<_, Infallible>(|response| {
                let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default()).into_owned();
                Ok((response.status().as_u16(), body))
            })
            .build();
        let (status, body) = operation.invoke(format!("{action}&Version=2016-11-15")).await?;
        anyhow::ensure!(status == 200, "EC2 answered {status}: {body}");
        Ok(body)
    }
}
