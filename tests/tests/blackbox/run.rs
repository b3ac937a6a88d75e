//! `tollgate run`: the command notices nothing but what docs/run.md says, and the host nothing at all.

use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::Signal;
use tollgate_tests::host::{BUDGET, Host, NOBODY, wait_for};

#[test]
fn the_exit_code_is_the_commands() {
    let host = Host::shared();
    let agent = host.agent("exit");
    for code in [0, 1, 42, 255] {
        let output = agent.run(&["sh", "-c", &format!("exit {code}")]);
        assert_eq!(output.status.code(), Some(code), "{output}");
    }
    let missing = agent.run(&["no-such-command"]);
    assert_eq!(missing.status.code(), Some(127), "{missing}");
    assert!(missing.stderr.contains("no-such-command"), "{missing}");
    let forbidden = agent.run(&["/etc/passwd"]);
    assert_eq!(forbidden.status.code(), Some(126), "{forbidden}");
    let killed = agent.run(&["sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.signal(), Some(9), "{killed}");
}

#[test]
fn signals_are_passed_on() {
    let host = Host::shared();
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGUSR1, "USR1")] {
        let agent = host.agent("signal");
        let ready = host.work("ready");
        let script =
            format!("trap 'echo caught; exit 7' {name}; : > {}; while :; do sleep 0.05; done", ready.display());
        let running = agent.start(&["sh", "-c", &script]);
        wait_for("the command", || ready.exists().then_some(()));
        running.signal(signal);
        let output = running.wait(BUDGET);
        assert_eq!((output.status.code(), output.stdout.trim()), (Some(7), "caught"), "{output}");
    }
    let agent = host.agent("signal");
    let ready = host.work("ready");
    let running = agent.start(&["sh", "-c", &format!(": > {}; sleep 60", ready.display())]);
    wait_for("the command", || ready.exists().then_some(()));
    running.signal(Signal::SIGTERM);
    let output = running.wait(BUDGET);
    assert_eq!(output.status.signal(), Some(15), "it ends as the command did: {output}");
}

#[test]
fn the_command_is_the_callers_and_cannot_gain_privileges() {
    let host = Host::shared();
    let agent = host.agent("caller");
    let status = agent.run(&["cat", "/proc/self/status"]).ok();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let nobody = [NOBODY.to_string(), NOBODY.to_string(), NOBODY.to_string(), NOBODY.to_string()].join(" ");
    assert_eq!((field("Uid:"), field("Gid:"), field("Groups:")), (nobody.clone(), nobody, "65534".into()));
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    assert_eq!(field("CapEff:"), "0000000000000000");
    let root = host.agent("root").uid(0);
    let caps = root.run(&["grep", "CapEff", "/proc/self/status"]).ok();
    let caps = u64::from_str_radix(caps.split_whitespace().nth(1).expect("a mask"), 16).expect("hex");
    for (bit, name) in [(12, "NET_ADMIN"), (13, "NET_RAW"), (19, "SYS_PTRACE"), (21, "SYS_ADMIN"), (39, "BPF")] {
        assert_eq!(caps >> bit & 1, 0, "a tagged root keeps CAP_{name}");
    }
}

#[test]
fn environment_directory_and_streams_are_the_callers() {
    let host = Host::shared();
    let agent = host.agent("env").env("WITH SPACE", "a=b\nc").env("LANG", "C.UTF-8");
    let inside = agent.run(&["env", "-0"]).ok();
    let outside = host.outsider("env").env("WITH SPACE", "a=b\nc").env("LANG", "C.UTF-8").run(&["env", "-0"]).ok();
    let sorted = |text: &str| {
        let mut variables: Vec<String> =
            text.split('\0').filter(|v| !v.starts_with("HOME=")).map(str::to_owned).collect();
        variables.sort();
        variables
    };
    assert_eq!(sorted(&inside), sorted(&outside));
    let home = agent.home().display().to_string();
    assert_eq!(agent.run(&["sh", "-c", "pwd; umask"]).ok(), format!("{home}\n0022"));
    let echoed = agent.clone().stdin(b"through\0and through").run(&["sh", "-c", "cat; echo err >&2"]);
    assert_eq!((echoed.stdout.as_str(), echoed.stderr.as_str()), ("through\0and through", "err\n"));
}

#[test]
fn resource_limits_are_the_callers() {
    let host = Host::shared();
    let socket = host.socket().display().to_string();
    let script = format!(
        "ulimit -Sn 234; ulimit -Hn 345; ulimit -c 0; ulimit -St 4321; exec tollgate --socket {socket} run -- \
         sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -St'"
    );
    let text = host.outsider("limits").run(&["sh", "-c", &script]).ok();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["234", "345", "0", "4321"], "{text}");
    // The rest too, line by line.
    let all = |what: &str| format!("{what} cat /proc/self/limits");
    let outside = host.outsider("limits").run(&["sh", "-c", &all("exec")]).ok();
    let inside = host.agent("limits").run(&["sh", "-c", &all("exec")]).ok();
    assert_eq!(inside, outside);
}

#[test]
fn what_a_command_leaves_running_ends_with_its_session() {
    let host = Host::shared();
    let agent = host.agent("left");
    let pid = agent.run(&["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!"]).ok();
    let gone = std::path::Path::new("/proc").join(&pid).join("exe");
    wait_for("the end of what was left", || std::fs::read_link(&gone).is_err().then_some(()));
    assert_eq!(agent.timeline().state(), "ended");
}

/// One user's sessions share a home, and so the mount point that was made in it.
#[test]
fn sessions_of_one_user_do_not_take_each_others_configuration_away() {
    let host = Host::shared();
    let first = host.agent("first");
    let second = host.agent("second").at_home_with(&first);
    let (up, go) = (host.work("up"), host.work("go"));
    let lasting = host.work("lasting");
    let held = first.start(&[
        "sh",
        "-c",
        &format!(": > {0}; while [ ! -e {1} ]; do sleep 0.02; done", up.display(), go.display()),
    ]);
    wait_for("the first session", || up.exists().then_some(()));
    let script = format!(
        "set -e; aws sts get-caller-identity; : > {0}; while [ ! -e {0}.go ]; do sleep 0.02; done; ls ~/.aws; aws sts get-caller-identity",
        lasting.display()
    );
    let running = second.start(&["sh", "-c", &script]);
    wait_for("the second session", || lasting.exists().then_some(()));
    std::fs::write(&go, "").expect("a file");
    held.wait(BUDGET).ok();
    std::fs::write(
        lasting.with_file_name(format!("{}.go", lasting.file_name().expect("a name").to_string_lossy())),
        "",
    )
    .expect("a file");
    let text = running.wait(BUDGET).ok();
    assert_eq!(text.matches("user/held").count(), 2, "{text}");
    assert!(!first.home().join(".aws").exists(), "the last one takes the mount point away");
}

#[test]
fn the_host_is_left_as_it_was() {
    let host = Host::shared();
    let agent = host.agent("trace");
    let look = || {
        host.root(&[
            "sh",
            "-c",
            &format!(
                "ls -lA {home}; sha256sum /etc/ssl/openssl.cnf /etc/ssl/certs/ca-certificates.crt; ls /etc/ssl/certs | wc -l; \
                 cat /proc/self/mounts | wc -l",
                home = agent.home().display()
            ),
        ])
        .ok()
    };
    let before = look();
    let during = agent.run(&["sh", "-c", "ls -A ~; ls ~/.aws; grep -c . /proc/self/mounts"]).ok();
    assert!(during.contains("config"), "{during}");
    assert_eq!(look(), before);
    let id = agent.timeline().id().to_owned();
    assert!(!host.dir().join("run/sessions").join(&id).exists(), "the session's directory is gone");
    let cgroups = host.root(&["sh", "-c", "find /sys/fs/cgroup -maxdepth 4 -type d"]).ok();
    assert!(!cgroups.contains(&id), "the session's cgroup is gone: {cgroups}");
}
