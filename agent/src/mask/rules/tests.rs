//! What is said of rules that cannot work, and that those we ship can.

use super::*;

fn errors(text: &str) -> String {
    let errors = Masks::parse("masks.toml", text, When::Asked, Vec::new()).expect_err(text);
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_rule_that_cannot_work_says_where_and_what_is_nearest() {
    for (text, expected) in [
        (
            "[[rule]]\naction = 'dynamodb:GetItm'\npath = '$.Item'",
            "masks.toml:2: there is no action `dynamodb:GetItm`; did you mean `dynamodb:GetItem`?",
        ),
        (
            "[[rule]]\naction = 'dynamodb:GetItem'\n\npath = '$.Itm.x'",
            "masks.toml:4: the path `$.Itm.x` leads nowhere in the answer of dynamodb:GetItem: there is no `Itm`; did you mean `Item`?",
        ),
        ("[[rule]]\naction = 'dynamodb:GetItem'\npath = '$.Item.x.SS.y'", "`y` is asked of a list; write `[*].y`"),
        ("[[rule]]\naction = 'dynamodb:GetItem'\npath = '$.Item.x.S.y'", "there is nothing below a plain value"),
        ("[[rule]]\naction = 'dynamodb:GetItem'\npath = '$[0]'", "`[0]` is for lists"),
        ("[[rule]]\naction = 'ec2:DescribeInstances'\npath = '$..PublicIpAdress'", "did you mean `PublicIpAddress`?"),
        ("[[rule]]\naction = 's3:DeleteObject'\npath = '$.Body'", "there is no `Body`; there are DeleteMarker"),
        ("[[rule]]\naction = 'secretsmanager:Get*'\npath = '$.SecretSting'", "did you mean `SecretString`?"),
        ("[[rule]]\naction = 'nothing:*'\npath = '$'", "there is no action `nothing:*`"),
        ("[[rule]]\naction = 's3:GetObject'\npath = 'Body'", "masks.toml:3: the path `Body` does not begin with `$`"),
        (
            "[[rule]]\naction = 's3:GetObject'\npath = '$.Body'\npatterns = 'emial'",
            "masks.toml:4: there is no pattern `emial`; did you mean `email`?",
        ),
        (
            "[[rule]]\naction = 's3:GetObject'\npath = '$.Body'\nas = 'jsn'",
            "there is no form `jsn`; did you mean `json`?",
        ),
        ("[[rule]]\naction = 's3:GetObject'\npath = '$.Body'\nresource = 'bucket/*'", "`bucket/*` is no ARN"),
        (
            "[[rule]]\naction = 's3:GetObject'\npath = '$.Body'\nprofile = 'secret'",
            "there is no profile `secret`; did you mean `secrets`?",
        ),
        ("[[rule]]\naction = 's3:GetObject'\npath = '$.Body'\nonly = 'agent'", "`only = \"agent\"` is not known"),
        ("[[rule]]\naction = 's3:GetObject'", "a rule has either `path`"),
        ("[[rule]]\naction = []\npath = '$'", "a rule needs an action"),
        (
            "[[rule]]\naction = 'dynamodb:PutItem'\nrequest = '$.Itm'",
            "leads nowhere in the parameters of dynamodb:PutItem: there is no `Itm`; did you mean `Item`?",
        ),
        ("[[rule]]\naction = 's3:GetObject'\npth = '$'", "masks.toml:3: unknown field `pth`"),
        ("\n[[pattern]]\nname = 'e'\nregex = 'x+'", "masks.toml:4: pattern `e`: the expression has no end"),
        ("[profile.pii]\npatterns = ['x']", "masks.toml:2: there is no pattern `x`; there are aws-access-key"),
        ("[[rule]\n", "masks.toml:1: "),
    ] {
        let found = errors(text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
    // All that is wrong at once.
    let found = errors("[[rule]]\naction = ['a:B', 's3:GetObjct']\npath = 'x'\nas = 'y'");
    assert_eq!(found.lines().count(), 4, "{found}");
}

#[test]
fn what_can_work_is_taken() {
    for text in [
        "",
        "[[rule]]\naction = 'dynamodb:GetItem'\npath = ['$.Item.ssn.S', '$.Item..ssn', '$.Item.*.S', '$']",
        "[[rule]]\naction = 's3:GetObject'\npath = ['$.Body', '$.Body.a[*].b', '$.Body..c', '$.Metadata.x', '$..anything']\nas = 'json'",
        "[[rule]]\naction = ['ec2:Describe*', 's3:GetObjectVersion']\npath = '$..UserData'",
        "[[rule]]\naction = 'execute-api:Invoke'\npath = '$.anything'",
        "[[rule]]\naction = 'lambda:InvokeFunction'\npath = '$.Payload.x'",
        "[profile.pii]\nnames = false\npatterns = ['email']\n[[rule]]\nprofile = 'pii'\naction = 's3:GetObject'\npath = '$.Body'\npatterns = ['e']\n[[pattern]]\nname = 'e'\nregex = 'E-[0-9]{6}'",
    ] {
        if let Err(e) = Masks::parse("masks.toml", text, When::Asked, Vec::new()) {
            panic!("{text}\n{e:?}");
        }
    }
    let masks = Masks::none(When::Asked, Vec::new());
    assert_eq!((masks.profile("secrets"), masks.profile("secret")), (Ok(()), Err(Some("secrets"))));
}

#[test]
fn the_shipped_rules_and_those_of_the_guide_are_good() {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shipped = Masks::load(&root.join("policies/masks.toml"), true, When::Asked, Vec::new());
    assert!(shipped.as_ref().is_ok_and(|m| m.len() > 2 && m.profile("personal").is_ok()), "{:?}", shipped.err());
    // What is commented out is as good.
    let text = std::fs::read_to_string(root.join("policies/masks.toml")).expect("it is shipped");
    let is_key =
        |text: &str| text.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase()));
    let all: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || is_key(rest) => rest,
            _ => line,
        })
        .collect();
    let all = Masks::parse("masks.toml", &all.join("\n"), When::Asked, Vec::new());
    assert!(all.as_ref().is_ok_and(|m| m.len() > 6), "{:?}", all.err());
    let guide = std::fs::read_to_string(root.join("docs/masking.md")).expect("the guide");
    let (_, example) = guide.split_once("```toml\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let example = Masks::parse("masking.md", example, When::Asked, Vec::new());
    assert!(example.is_ok(), "{:?}", example.err());
}

#[test]
fn a_file_that_must_be_there_is_missed() {
    let path = FilePath::new("/nonexistent/masks.toml");
    assert!(Masks::load(path, false, When::Asked, Vec::new()).is_ok_and(|m| m.is_empty()));
    let error = Masks::load(path, true, When::Asked, Vec::new()).expect_err("missed");
    assert!(error[0].to_string().starts_with("/nonexistent/masks.toml: cannot read the rule file"), "{error:?}");
}
