//! Rule files that cannot work, at start and at reload; and which sessions a token is the same in.

use nix::sys::signal::Signal;
use serde_json::Value;
use tollgate_tests::host::{Host, Settings, wait_for};

use super::{POLICIES, RULES, SECRET, is_token, python};

#[test]
fn a_rule_that_cannot_work_is_refused_with_its_place_and_the_nearest_name() {
    let wrong = RULES.replace("$.Item.card\", \"$.Item.deep.M.*", "$.Itm.card");
    let settings = |masks: &str| Settings { policies: POLICIES.into(), masks: masks.into(), ..Settings::default() };
    let host = Host::without_daemon(settings(&wrong));
    let expected = "masks.toml:4: the path `$.Itm.card` leads nowhere in the answer of dynamodb:GetItem: there is no `Itm`; did you mean `Item`?";
    let log = host.try_start_daemon().expect_err("it must not start");
    assert!(log.contains(expected), "{log}");
    let config = host.dir().join("tollgate.toml");
    let said = host.tollgate(&["check", "--config", config.to_str().expect("UTF-8")]).failed();
    assert!(said.contains(expected), "{said}");
    // A reload keeps what was there.
    host.write_settings(&settings(RULES));
    host.start_daemon();
    host.write_settings(&settings(&wrong));
    host.signal_daemon(Signal::SIGHUP);
    wait_for("the reload's refusal", || host.daemon_log().contains("reload refused").then_some(()));
    assert!(host.daemon_log().matches(expected).count() > 1, "{}", host.daemon_log());
    // A profile that nobody has made.
    let policies = POLICIES.replace("@mask(\"secrets\")", "@mask(\"secret\")");
    host.write_settings(&Settings { policies, ..settings(RULES) });
    let said = host.tollgate(&["check", "--config", config.to_str().expect("UTF-8")]).failed();
    assert!(said.contains("tests.cedar:6: there is no mask profile `secret`; did you mean `secrets`?"), "{said}");
}

#[test]
fn a_token_is_the_same_in_a_session_and_another_in_the_next() {
    let host = super::start();
    let make = format!(
        "boto3.client('secretsmanager').create_secret(Name='one', SecretString='{SECRET}')\n\
         boto3.client('ssm').put_parameter(Name='two', Value='{SECRET}', Type='SecureString')\nprint('null')"
    );
    python(&host.agent("plain"), &make);
    let get = "one = boto3.client('secretsmanager').get_secret_value(SecretId='one')['SecretString']\n\
               two = boto3.client('ssm').get_parameter(Name='two', WithDecryption=True)['Parameter']['Value']\n\
               print(json.dumps([one, two]))";
    let agent = host.agent("masked-tokens");
    let first: Value = python(&agent, get);
    assert!(is_token(&first[0]) && first[0] == first[1], "{first}");
    let second: Value = python(&agent, get);
    assert!(is_token(&second[0]) && second[0] == second[1] && second[0] != first[0], "{first} {second}");
}

#[test]
fn what_the_model_calls_sensitive_may_be_hidden_from_everybody() {
    let host = Host::start(Settings {
        policies: POLICIES.into(),
        extra: "[mask]\nsensitive = \"always\"\nexcept = [\"ssm:*\"]\n".into(),
        ..Settings::default()
    });
    let script = format!(
        "sm, ssm = boto3.client('secretsmanager'), boto3.client('ssm')\n\
         sm.create_secret(Name='one', SecretString='{SECRET}')\nssm.put_parameter(Name='two', Value='{SECRET}', Type='SecureString')\n\
         print(json.dumps([sm.get_secret_value(SecretId='one')['SecretString'], ssm.get_parameter(Name='two', WithDecryption=True)['Parameter']['Value']]))"
    );
    let found = python(&host.agent("plain"), &script);
    assert!(is_token(&found[0]), "{found}");
    assert_eq!(found[1], SECRET);
}
