//! What the daemon, which is root, does with a home that its user, or an agent of that user, has laid traps in.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tollgate_tests::host::{Agent, BUDGET, Host, NOBODY, wait_for};

/// A session takes well under a second; a daemon that is stuck takes for ever.
const SECONDS: Duration = Duration::from_secs(20);

fn as_nobodys(path: &Path) {
    lchown(path, Some(NOBODY), Some(NOBODY)).expect("lchown");
}

fn directory(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).expect("a directory");
    as_nobodys(&path);
    path
}

fn link(to: &Path, at: &Path) {
    symlink(to, at).expect("a link");
    as_nobodys(at);
}

/// A directory of root's that anybody might read, with a secret in it, below one that nobody else may enter.
fn private(host: &Host) -> PathBuf {
    let outer = host.work("private");
    let dir = outer.join("open");
    for (dir, mode) in [(&outer, 0o700), (&dir, 0o755)] {
        fs::create_dir(dir).expect("a directory");
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).expect("its mode");
    }
    fs::write(dir.join("secret"), "ROOTS-OWN-SECRET").expect("a file");
    dir
}

#[track_caller]
fn is_roots(path: &Path) {
    let found = fs::symlink_metadata(path).expect("there");
    assert_eq!((found.uid(), found.gid()), (0, 0), "`{}` was given away", path.display());
}

#[track_caller]
fn another_starts(host: &Host) {
    let begun = Instant::now();
    host.agent("beside").run(&["true"]).ok();
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
}

fn show(agent: &Agent<'_>) -> tollgate_tests::host::Output {
    agent.run(&["sh", "-c", "cat ~/.aws/config ~/.aws/sso/*; ls -lA ~/.aws ~/.aws/sso"])
}

#[test]
fn a_link_to_what_only_root_may_read_is_not_read() {
    let host = Host::shared();
    let agent = host.agent("link");
    let aws = directory(agent.home().join(".aws"));
    let secret = host.dir().join("held-secret");
    link(&secret, &aws.join("config"));
    let text = show(&agent).failed();
    assert!(text.contains(".aws/config") && text.contains("Permission denied"), "{text}");
    assert!(!text.contains(&host.info.held_secret_access_key), "{text}");
    is_roots(&secret);
    // Nor by way of what the daemon itself has open, or is.
    for through in ["/proc/self/environ", "/proc/self/root/etc/shadow", "/proc/self/fd/3"] {
        fs::remove_file(aws.join("config")).expect("a link");
        link(Path::new(through), &aws.join("config"));
        let text = show(&agent).failed();
        assert!(text.contains("tollgate: cannot read") && text.contains(".aws/config"), "{through}: {text}");
    }
}

#[test]
fn a_link_to_the_users_own_configuration_is_followed() {
    let host = Host::shared();
    let agent = host.agent("dotfiles");
    let aws = directory(agent.home().join(".aws"));
    let dotfiles = directory(agent.home().join("dotfiles"));
    fs::write(dotfiles.join("aws"), "[profile kept]\noutput = text\n").expect("a file");
    link(Path::new("../dotfiles/aws"), &aws.join("config"));
    let text = agent.run(&["cat", aws.join("config").to_str().expect("UTF-8")]).ok();
    assert!(text.contains("[profile kept]\noutput = text"), "{text}");
}

#[test]
fn a_pipe_keeps_nobody_waiting() {
    let host = Host::shared();
    let agent = host.agent("pipe");
    let aws = directory(agent.home().join(".aws"));
    directory(aws.join("sso"));
    host.root(&["mkfifo", aws.join("config").to_str().expect("UTF-8")]).ok();
    as_nobodys(&aws.join("config"));
    let waiting = agent.start(&["true"]);
    another_starts(host);
    let text = waiting.wait(SECONDS).failed();
    assert!(text.contains(".aws/config") && text.contains("not a regular file"), "{text}");
    assert!(!host.daemon_log().contains("panicked"), "{}", host.daemon_log());
}

#[test]
fn a_link_in_the_place_of_the_directory_is_refused() {
    let host = Host::shared();
    let private = private(host);
    for to in [Path::new("/etc"), &private] {
        let agent = host.agent("elsewhere");
        link(to, &agent.home().join(".aws"));
        let before = fs::symlink_metadata(to).expect("there").mtime();
        let text = show(&agent).failed();
        assert!(text.contains(".aws` is not a directory, or a link to one"), "{text}");
        assert!(!text.contains("ROOTS-OWN-SECRET"), "{text}");
        is_roots(to);
        assert_eq!(fs::symlink_metadata(to).expect("there").mtime(), before, "nothing was made in it");
    }
    is_roots(&private.join("secret"));
    another_starts(host);
}

#[test]
fn a_link_below_it_leads_nowhere_not_even_in_the_last_moment() {
    let host = Host::shared();
    let private = private(host);
    let agent = host.agent("below");
    let aws = directory(agent.home().join(".aws"));
    link(&private, &aws.join("sso"));
    let text = show(&agent).text();
    assert!(text.contains("ca_bundle") && !text.contains("ROOTS-OWN-SECRET"), "{text}");
    // A directory while the daemon looks, a link when it is bound.
    let (ready, stop) = (host.work("ready"), host.work("stop"));
    let swap = format!(
        "import ctypes, os\n\
         aws, private, stop = '{}', '{}', '{}'\n\
         os.unlink(aws + '/sso'); os.mkdir(aws + '/sso'); os.symlink(private, aws + '/x')\n\
         sso, x, exchange = f'{{aws}}/sso'.encode(), f'{{aws}}/x'.encode(), ctypes.CDLL(None).renameat2\n\
         open('{}', 'w')\n\
         while not os.path.exists(stop):\n\
        \x20   assert exchange(-100, sso, -100, x, 2) == 0\n",
        aws.display(),
        private.display(),
        stop.display(),
        ready.display()
    );
    let racing = host.outsider("racing").start(&["python3", "-c", &swap]);
    wait_for("the racing process", || ready.exists().then_some(()));
    for _ in 0..20 {
        let text = show(&agent).text();
        assert!(!text.contains("ROOTS-OWN-SECRET"), "{text}");
        is_roots(&private);
    }
    fs::write(&stop, "").expect("a file");
    racing.wait(BUDGET).ok();
    another_starts(host);
}

#[test]
fn what_is_the_users_stays_the_users_and_is_written_through() {
    let host = Host::shared();
    let agent = host.agent("through");
    let aws = directory(agent.home().join(".aws"));
    let cache = directory(directory(aws.join("cli")).join("cache"));
    let script = "set -e; echo kept > ~/.aws/cli/cache/entry; echo '# mine' >> ~/.aws/config; mkdir ~/.aws/new; stat -c '%u %n' ~/.aws ~/.aws/*";
    let text = agent.run(&["sh", "-c", script]).ok();
    assert!(text.lines().count() == 4 && text.lines().all(|line| line.starts_with("65534 ")), "{text}");
    assert_eq!(fs::read_to_string(cache.join("entry")).expect("written through"), "kept\n");
    assert!(!aws.join("new").exists() && !aws.join("config").exists(), "the rest was the session's own");
}
