//! The unit in a real systemd, its events in a real journald.

use serde_json::Value;
use tollgate_tests::booted::Booted;
use tollgate_tests::host::wait_for;

const CONFIG: &str = r#"
[capture]
bpffs = "/run/bpf/tollgate"

[[binding]]
broker = { kind = "static", access_key_id = "AKIAIOSFODNN7EXAMPLE", secret_access_key_file = "/etc/tollgate/secret", account = "111122223333" }
"#;

/// Where a name leads to that nothing listens at: only capture makes it answer.
const HOSTS: &str = "127.0.0.1 localhost\n198.51.100.7 sts.us-east-1.amazonaws.com\n";

/// Asks STS with the credentials of the metadata service, by nothing but curl.
const ASK: &str = r#". /etc/tollgate-test/signed.sh; signed sts https://sts.us-east-1.amazonaws.com/ -d "Action=GetCallerIdentity&Version=2011-06-15""#;

fn boot() -> Booted {
    let booted = Booted::start(&[
        ("/etc/tollgate/tollgate.toml", CONFIG),
        ("/etc/tollgate/secret", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        ("/etc/tollgate/policies/00-baseline.cedar", include_str!("../../../policies/00-baseline.cedar")),
        ("/etc/tollgate-test/signed.sh", include_str!("../../../agent/src/demo/curl.sh")),
        ("/etc/hosts", HOSTS),
    ]);
    // Containers have no /sys/fs/bpf of their own.
    booted.run("mkdir -p /run/bpf && mount -t bpf bpf /run/bpf");
    booted
}

fn property(booted: &Booted, name: &str) -> String {
    booted.run(&format!("systemctl show --value -p {name} tollgate"))
}

fn blocked(booted: &Booted) -> Vec<Value> {
    let lines = booted.run("journalctl --sync; journalctl -u tollgate -o json TOLLGATE_EVENT=blocked");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_unit_starts_reloads_restarts_and_tells_journald() {
    let booted = boot();
    // Returns only once the daemon has said that it is ready.
    booted.run("systemctl start tollgate");
    assert_eq!(property(&booted, "ActiveState"), "active");
    assert!(booted.run("tollgate status").contains("\"policies\": 2"));
    assert!(booted.run("systemd-analyze verify /etc/systemd/system/tollgate.service 2>&1; true").is_empty());

    let asked = booted.try_run(&format!("tollgate run --name job -- sh -c '{ASK}'"));
    assert_eq!(asked.status.code(), Some(22), "curl's code for a refusal passes through: {asked}");
    assert!(asked.text().contains("<Code>AccessDenied</Code>"), "{asked}");
    let events = blocked(&booted);
    let [event] = events.as_slice() else { panic!("one blocked event, not {events:?}") };
    for (field, value) in [
        ("_SYSTEMD_UNIT", "tollgate.service"),
        ("SYSLOG_IDENTIFIER", "tollgate"),
        ("MESSAGE_ID", "5f1d0b8a63c94f0c9c7be2a1f4c10002"),
        ("PRIORITY", "4"),
        ("TOLLGATE_POLICY", "unidentified"),
        ("TOLLGATE_SUBJECT", "unidentified"),
        ("AWS_ACTION", "sts:GetCallerIdentity"),
        ("AWS_RESOURCE", "*"),
        ("AWS_REGION", "us-east-1"),
    ] {
        assert_eq!(event[field], value, "{field} in {event}");
    }
    for field in ["TOLLGATE_SESSION", "TOLLGATE_REASON", "TOLLGATE_EXE", "TOLLGATE_PID", "TOLLGATE_EXCHANGE"] {
        assert!(event[field].is_string(), "{field} is missing in {event}");
    }

    // A bad policy is told and not taken; the good ones stay.
    booted.run("cp -r /etc/tollgate/policies /run/good; mount --bind /run/good /etc/tollgate/policies");
    booted.run("echo 'permit (nonsense' > /etc/tollgate/policies/99-bad.cedar; systemctl reload tollgate");
    let told = || booted.run("journalctl --sync; journalctl -u tollgate -o cat TOLLGATE_EVENT=daemon");
    wait_for("the refusal of the reload", || told().contains("reload refused").then_some(()));
    assert!(told().contains("99-bad.cedar"), "{}", told());
    assert!(booted.run("tollgate status").contains("\"policies\": 2"));

    booted.run("rm /etc/tollgate/policies/99-bad.cedar");

    // A daemon that is killed comes back by itself, and takes its pins over.
    let open = || booted.run("tollgate sessions list --state open --json");
    booted.run("systemd-run --quiet --unit=long tollgate run --name long -- sleep 600");
    wait_for("the session", || open().contains("\"long\"").then_some(()));
    let before = property(&booted, "MainPID");
    booted.run("systemctl kill --signal=KILL --kill-whom=main tollgate");
    wait_for("the restart", || {
        (property(&booted, "MainPID") != before && property(&booted, "ActiveState") == "active").then_some(())
    });
    assert_eq!(open(), "[]");
    let orphaned = booted.run("journalctl --sync; journalctl -u tollgate -o cat TOLLGATE_EVENT=session-ended");
    assert!(orphaned.contains("its daemon ended before it did"), "{orphaned}");
    booted.try_run(&format!("tollgate run --name again -- sh -c '{ASK}'"));
    assert_eq!(blocked(&booted).len(), 2);

    booted.run("systemctl stop tollgate");
    assert_eq!(property(&booted, "Result"), "success");
    let refused = booted.try_run("tollgate run -- true").failed();
    assert!(refused.contains("systemctl start tollgate"), "{refused}");
}

#[test]
fn the_watchdog_restarts_a_daemon_that_hangs() {
    let booted = boot();
    booted.run("mkdir -p /run/systemd/system/tollgate.service.d");
    booted.run("printf '[Service]\\nWatchdogSec=2\\n' > /run/systemd/system/tollgate.service.d/quick.conf");
    booted.run("systemctl daemon-reload; systemctl start tollgate");
    let before = property(&booted, "MainPID");
    // It beats: systemd takes note of the time of each one.
    let beat = || property(&booted, "WatchdogTimestampMonotonic").parse::<u64>().expect("microseconds");
    let first = beat();
    // Two periods of two seconds without one would have ended it.
    wait_for("beats for longer than two periods", || (beat() > first + 4_000_000).then_some(()));
    assert_eq!((property(&booted, "MainPID"), property(&booted, "NRestarts").as_str()), (before.clone(), "0"));
    booted.run(&format!("kill -STOP {before}"));
    wait_for("the watchdog", || {
        (property(&booted, "MainPID") != before && property(&booted, "ActiveState") == "active").then_some(())
    });
    assert_eq!(property(&booted, "NRestarts"), "1");
}

/// THREATS.md, "Not stopped": where a service manager answers, its rules decide, and here one really answers.
#[test]
fn the_service_manager_starts_units_for_root_and_for_nobody_else() {
    let booted = boot();
    booted.run("systemctl start tollgate");
    booted.run("test -S /run/systemd/private && test -S /run/dbus/system_bus_socket");
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let start = |name: &str, before: &str| {
        let unit = format!("sh -c 'cat /proc/self/cgroup; : > /run/started-by-{name}'");
        booted.try_run(&format!("{before} systemd-run --quiet --wait --pipe {unit} 2>&1"))
    };
    let started = |name: &str| booted.try_run(&format!("test -e /run/started-by-{name}")).status.success();
    // The tag adds nothing to what the manager refuses this user anyway.
    for (name, before) in
        [("nobody", format!("tollgate run --name nobody -- {nobody}")), ("nobody-outside", nobody.to_owned())]
    {
        let text = start(name, &before).failed();
        assert!(text.contains("Access denied"), "{name}: {text}");
        assert!(!started(name), "{name}: the unit ran");
    }
    // Nor does it take anything from root: what the manager starts for it is in a cgroup of the manager's.
    let text = start("root", "tollgate run --name root --").ok();
    assert!(text.contains("/system.slice/run-") && !text.contains("tollgate"), "{text}");
    assert!(started("root"));
}
