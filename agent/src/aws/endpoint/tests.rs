//! Host names and what they stand for.

use super::*;

type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>, HostClass);

#[test]
fn hosts() {
    use HostClass::{Api, Customer, Unknown};
    let cases: &[Row<'_>] = &[
        ("s3.eu-central-1.amazonaws.com", Some("s3"), Some("eu-central-1"), None, Api),
        ("my.bucket.s3.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("my.bucket"), Api),
        ("us-east-1.s3.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("us-east-1"), Api),
        ("my.rds.s3.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("my.rds"), Api),
        ("b.s3.dualstack.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("b"), Api),
        ("b.s3-fips.dualstack.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("b"), Api),
        ("b.s3-accelerate.dualstack.amazonaws.com", Some("s3"), None, Some("b"), Api),
        ("s3-eu-west-1.amazonaws.com", Some("s3"), Some("eu-west-1"), None, Api),
        ("b.s3-website-eu-west-1.amazonaws.com", Some("s3"), Some("eu-west-1"), Some("b"), Api),
        ("b.s3-website.eu-central-1.amazonaws.com", Some("s3"), Some("eu-central-1"), Some("b"), Api),
        // Buckets may have any of these names.
        ("aws-global.s3.amazonaws.com", Some("s3"), Some("us-east-1"), Some("aws-global"), Api),
        ("us-gov.s3.amazonaws.com", Some("s3"), Some("us-east-1"), Some("us-gov"), Api),
        ("us-gov.s3.us-gov-west-1.amazonaws.com", Some("s3"), Some("us-gov-west-1"), Some("us-gov"), Api),
        ("signin.s3.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("signin"), Api),
        ("s3.aws-us-gov-global.amazonaws.com", Some("s3"), Some("us-gov-west-1"), None, Api),
        ("us-iso-east-1.signin.c2shome.ic.gov", Some("signin"), Some("us-iso-east-1"), None, Api),
        // No model has their operations; what is signed for them is named.
        ("ssmmessages.eu-west-1.amazonaws.com", Some("ssmmessages"), Some("eu-west-1"), None, Api),
        ("git-codecommit.eu-west-1.amazonaws.com", Some("codecommit"), Some("eu-west-1"), None, Api),
        // A token of their own is sent there, and nothing is signed.
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", None, Some("eu-west-1"), None, Unknown),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", None, Some("eu-west-1"), None, Unknown),
        ("d-123456789012.d.codeartifact.eu-west-1.amazonaws.com", None, Some("eu-west-1"), None, Unknown),
        ("a1.credentials.iot.eu-west-1.amazonaws.com", None, Some("eu-west-1"), None, Unknown),
        ("portal.sso.eu-west-1.amazonaws.com", Some("awsssoportal"), Some("eu-west-1"), None, Api),
        ("oidc.eu-west-1.amazonaws.com", Some("sso-oauth"), Some("eu-west-1"), None, Api),
        ("queue.amazonaws.com", Some("sqs"), Some("us-east-1"), None, Api),
        ("eu-west-1.queue.amazonaws.com", Some("sqs"), Some("eu-west-1"), None, Api),
        ("s3-external-1.amazonaws.com", Some("s3"), Some("us-east-1"), None, Api),
        (
            "ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com",
            Some("s3"),
            Some("us-east-1"),
            Some("ap-123456789012"),
            Api,
        ),
        (
            "ap-123456789012.s3-accesspoint-fips.dualstack.us-east-1.amazonaws.com",
            Some("s3"),
            Some("us-east-1"),
            Some("ap-123456789012"),
            Api,
        ),
        ("m1.accesspoint.s3-global.amazonaws.com", None, None, None, Unknown),
        ("m1.mrap.accesspoint.s3-global.amazonaws.com", Some("s3"), None, Some("m1.mrap"), Api),
        (
            "ap-123456789012.s3-object-lambda.us-east-1.amazonaws.com",
            Some("s3-object-lambda"),
            Some("us-east-1"),
            Some("ap-123456789012"),
            Api,
        ),
        (
            "ap-123456789012.op-01.s3-outposts.us-east-1.amazonaws.com",
            Some("s3-outposts"),
            Some("us-east-1"),
            Some("ap-123456789012"),
            Api,
        ),
        (
            "b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com",
            Some("s3express"),
            Some("us-east-1"),
            Some("b--use1-az4--x-s3"),
            Api,
        ),
        ("s3express-control.us-east-1.amazonaws.com", Some("s3express"), Some("us-east-1"), None, Api),
        ("123456789012.s3-control.us-east-1.amazonaws.com", Some("s3"), Some("us-east-1"), None, Api),
        ("b.bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", Some("s3"), Some("us-east-1"), Some("b"), Api),
        ("bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", Some("s3"), Some("us-east-1"), None, Api),
        ("x.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", None, Some("us-east-1"), None, Unknown),
        // Buckets may have any of these names.
        ("aws-global.s3.amazonaws.com", Some("s3"), Some("us-east-1"), Some("aws-global"), Api),
        ("us-gov.s3.amazonaws.com", Some("s3"), Some("us-east-1"), Some("us-gov"), Api),
        ("us-gov.s3.us-gov-west-1.amazonaws.com", Some("s3"), Some("us-gov-west-1"), Some("us-gov"), Api),
        ("signin.s3.us-west-2.amazonaws.com", Some("s3"), Some("us-west-2"), Some("signin"), Api),
        ("s3.aws-us-gov-global.amazonaws.com", Some("s3"), Some("us-gov-west-1"), None, Api),
        ("us-iso-east-1.signin.c2shome.ic.gov", Some("signin"), Some("us-iso-east-1"), None, Api),
        // No model has their operations; what is signed for them is named.
        ("ssmmessages.eu-west-1.amazonaws.com", Some("ssmmessages"), Some("eu-west-1"), None, Api),
        ("git-codecommit.eu-west-1.amazonaws.com", Some("codecommit"), Some("eu-west-1"), None, Api),
        // A token of their own is sent there, and nothing is signed.
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", None, Some("eu-west-1"), None, Unknown),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", None, Some("eu-west-1"), None, Unknown),
        ("d-123456789012.d.codeartifact.eu-west-1.amazonaws.com", None, Some("eu-west-1"), None, Unknown),
        ("a1.credentials.iot.eu-west-1.amazonaws.com", None, Some("eu-west-1"), None, Unknown),
        ("portal.sso.eu-west-1.amazonaws.com", Some("awsssoportal"), Some("eu-west-1"), None, Api),
        ("oidc.eu-west-1.amazonaws.com", Some("sso-oauth"), Some("eu-west-1"), None, Api),
        ("queue.amazonaws.com", Some("sqs"), Some("us-east-1"), None, Api),
        ("eu-west-1.queue.amazonaws.com", Some("sqs"), Some("eu-west-1"), None, Api),
        ("cn-north-1.queue.amazonaws.com.cn", Some("sqs"), Some("cn-north-1"), None, Api),
        ("x.queue.amazonaws.com", None, None, None, Unknown),
        ("STS.amazonaws.com.", Some("sts"), Some("us-east-1"), None, Api),
        ("sts-fips.us-east-1.amazonaws.com", Some("sts"), Some("us-east-1"), None, Api),
        ("iam.amazonaws.com", Some("iam"), Some("us-east-1"), None, Api),
        ("iam.us-gov.amazonaws.com", Some("iam"), Some("us-gov-west-1"), None, Api),
        ("iam.cn-north-1.amazonaws.com.cn", Some("iam"), Some("cn-north-1"), None, Api),
        ("dynamodb.cn-north-1.amazonaws.com.cn", Some("dynamodb"), Some("cn-north-1"), None, Api),
        ("123456789012.ddb.us-east-1.amazonaws.com", Some("dynamodb"), Some("us-east-1"), None, Api),
        ("dynamodb.us-iso-east-1.c2s.ic.gov", Some("dynamodb"), Some("us-iso-east-1"), None, Api),
        ("ec2.us-gov-west-1.amazonaws.com", Some("ec2"), Some("us-gov-west-1"), None, Api),
        ("sqs.us-east-1.api.aws", Some("sqs"), Some("us-east-1"), None, Api),
        ("bedrock-runtime.us-east-1.amazonaws.com", Some("bedrock"), Some("us-east-1"), None, Api),
        ("email.us-east-1.amazonaws.com", Some("ses"), Some("us-east-1"), None, Api),
        ("us-east-1.signin.aws.amazon.com", Some("signin"), Some("us-east-1"), None, Api),
        ("rds.us-east-1.amazonaws.com", Some("rds"), Some("us-east-1"), None, Api),
        ("redshift.us-east-1.amazonaws.com", Some("redshift"), Some("us-east-1"), None, Api),
        ("eks.us-east-1.amazonaws.com", Some("eks"), Some("us-east-1"), None, Api),
        ("vpce-0a-1b.sqs.us-east-1.vpce.amazonaws.com", Some("sqs"), Some("us-east-1"), None, Api),
        ("vpce-0a-1b.api.ecr.us-east-1.vpce.amazonaws.com", Some("ecr"), Some("us-east-1"), None, Api),
        ("sqs.us-east-1.vpce.amazonaws.com", None, Some("us-east-1"), None, Unknown),
        ("abc123.execute-api.us-east-1.amazonaws.com", Some("execute-api"), Some("us-east-1"), None, Api),
        ("abc.lambda-url.us-east-1.on.aws", Some("lambda"), Some("us-east-1"), None, Api),
        ("search-x-y.us-east-1.es.amazonaws.com", Some("es"), Some("us-east-1"), None, Api),
        ("a1-ats.iot.us-east-1.amazonaws.com", Some("iotdata"), Some("us-east-1"), None, Api),
        ("a1.credentials.iot.us-east-1.amazonaws.com", None, Some("us-east-1"), None, Unknown),
        ("x.eu-west-1.elb.amazonaws.com", None, Some("eu-west-1"), None, Customer),
        ("n.elb.eu-west-1.amazonaws.com", None, Some("eu-west-1"), None, Customer),
        ("db.abc.eu-west-1.rds.amazonaws.com", None, Some("eu-west-1"), None, Customer),
        ("ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", None, Some("eu-west-1"), None, Customer),
        ("c.gr7.eu-west-1.eks.amazonaws.com", None, Some("eu-west-1"), None, Customer),
        ("awscli.amazonaws.com", None, None, None, Customer),
        ("nobody.us-east-1.amazonaws.com", None, Some("us-east-1"), None, Unknown),
        ("evil.sts.us-east-1.amazonaws.com", None, Some("us-east-1"), None, Unknown),
        ("sts.cn-north-1.amazonaws.com", None, Some("cn-north-1"), None, Unknown),
        ("x.dkr.ecr.us-east-1.amazonaws.com", None, Some("us-east-1"), None, Unknown),
    ];
    for (host, signing, region, bucket, class) in cases {
        let e = resolve(host).expect("AWS's");
        assert_eq!(
            (e.signing.as_deref(), e.region.as_deref(), e.bucket.as_deref(), e.class),
            (*signing, *region, *bucket, *class),
            "{host}"
        );
    }
    for host in
        ["amazonaws.com", "example.com", "amazonaws.com.evil.example", "notamazonaws.com", "", ".", "..amazonaws.com.x"]
    {
        assert_eq!(resolve(host), None, "{host}");
    }
    for host in [
        ".amazonaws.com",
        "..amazonaws.com",
        "vpce.amazonaws.com",
        "us-east-1.amazonaws.com",
        "dualstack.us-east-1.amazonaws.com",
    ] {
        assert!(resolve(host).is_none_or(|e| e.class == HostClass::Unknown), "{host}");
    }
}

#[test]
fn twins_share_a_host_and_the_likeliest_comes_first() {
    let names = |host: &str| {
        let index = model::index().expect("a sound model");
        let endpoint = resolve(host).expect("AWS's");
        endpoint.services.iter().map(|n| index.services[usize::from(*n)].id).collect::<Vec<_>>()
    };
    assert_eq!(names("rds.us-east-1.amazonaws.com"), ["rds", "docdb", "neptune"]);
    assert_eq!(names("email.us-east-1.amazonaws.com")[0], "ses");
}
