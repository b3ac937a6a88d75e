//! `cargo xtask kernels`: the capture tests on kernels of Debian's, each booted in an emulated machine.
//!
//! The machine has no disk and no network: its root is an archive in memory, of the Debian that the black-box tests boot,
//! the kernel's modules and the test's program. The processor is emulated even where KVM is there, so that every machine
//! does the same; a run takes about a minute. The kernels come by a private apt configuration below `.tools/kernels`,
//! which takes the place of Debian's archive from the machine's own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::process::{cargo, step};
use crate::tools::{self, Tool};

/// What Debian 12 runs, what Debian 13 runs, and the newest that there is.
const USUAL: [&str; 3] = ["6.1", "6.12", NEWEST];
const NEWEST: &str = "newest";

/// Suites of Debian whose kernels are offered.
const SUITES: [&str; 5] = ["bullseye", "bookworm", "trixie", "trixie-backports", "sid"];

/// Far more than a run takes; ends a machine that hangs.
const BUDGET: Duration = Duration::from_secs(900);

/// How the machine says that the tests have ended, before their exit status.
const VERDICT: &str = "capture tests ended: ";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Series of kernels (`6.1`), or `newest`; Debian 12's, Debian 13's and the newest if none is named
    series: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let usual = USUAL.map(str::to_owned);
    check(if args.series.is_empty() { &usual } else { &args.series })
}

/// Runs the capture tests on a kernel of each series.
pub fn check(series: &[String]) -> anyhow::Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the emulated machine is x86-64, and this one is not");
    tools::programs(&[("qemu-system-x86_64", "qemu-system-x86"), ("cpio", "cpio"), ("depmod", "kmod")])?;
    tools::install(&[Tool::Rootfs])?;
    let folder = tools::folder().join("kernels");
    let tests = tests(&folder)?;
    let apt = Apt::new(&folder.join("apt"))?;
    for series in series {
        let package = apt.newest(series)?;
        let kernel = kernel(&folder, &apt, &package)?;
        let machine = archive(&folder, &kernel, &tests)?;
        boot(&package, &kernel, &machine)?;
    }
    Ok(())
}

/// The program of the capture tests, without what only a debugger needs.
fn tests(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.args(["test", "--locked", "--package", "tollgate", "--test", "capture", "--no-run", "--message-format=json"]);
    let output = build.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "building the capture tests failed");
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "capture")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no executable of the capture tests")?;
    let stripped = folder.join("capture");
    fs::create_dir_all(folder)?;
    step("capture tests: stripped", Command::new("strip").arg("-o").arg(&stripped).arg(&built))?;
    Ok(stripped)
}

/// Debian's archive, apart from what this machine has configured.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(dir))?;
        }
        // Where this machine takes its own packages from.
        let targets = Command::new("apt-get").args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)"]).output()?;
        let targets = String::from_utf8_lossy(&targets.stdout);
        let archive = targets
            .lines()
            .find_map(|line| line.split_once(' ').filter(|(suite, _)| SUITES.contains(suite)))
            .context("apt-get knows of no Debian archive; this needs Debian, after `apt-get update`")?
            .1;
        let sources: String = SUITES
            .iter()
            .map(|s| format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {archive} {s} main\n"))
            .collect();
        let list = folder.join("sources.list");
        let fresh = fs::read_to_string(&list).is_ok_and(|there| there == sources);
        fs::write(&list, sources)?;
        let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
        let apt = Self {
            options: vec![
                option("Dir::Etc::sourcelist", &list),
                "-oDir::Etc::sourceparts=-".into(),
                option("Dir::State::lists", &folder.join("lists")),
                option("Dir::Cache", &folder.join("cache")),
                // The packages lie where only root may read.
                "-oAPT::Sandbox::User=root".into(),
            ],
        };
        if !fresh || apt.kernels()?.is_empty() {
            step("Debian's kernels: what is offered", apt.command("apt-get").args(["update", "-qq"]))?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// Version and package of each kernel that is offered.
    fn kernels(&self) -> anyhow::Result<Vec<(Vec<u32>, String)>> {
        let output = self.command("apt-cache").args(["pkgnames", "linux-image-"]).output()?;
        let names = String::from_utf8_lossy(&output.stdout);
        Ok(names.lines().filter_map(|name| Some((version(name)?, name.to_owned()))).collect())
    }

    /// The packages that make up a kernel: of newer ones, image and modules have packages of their own.
    fn parts(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let mut show = self.command("apt-cache");
        let shown = show.args(["show", "--no-all-versions", package]).output()?;
        let shown = String::from_utf8_lossy(&shown.stdout);
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        let names = depends.split(", ").filter_map(|d| d.split_whitespace().next());
        let parts =
            names.filter(|n| ["linux-base-", "linux-binary-", "linux-modules-"].iter().any(|p| n.starts_with(p)));
        Ok(std::iter::once(package).chain(parts).map(str::to_owned).collect())
    }

    /// The newest package of a series.
    fn newest(&self, series: &str) -> anyhow::Result<String> {
        let wanted: Vec<u32> = match series {
            NEWEST => Vec::new(),
            _ => series
                .split('.')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .with_context(|| format!("`{series}` is no series of kernels; name one as `6.1`, or `{NEWEST}`"))?,
        };
        let kernels = self.kernels()?;
        let newest = kernels.iter().filter(|(version, _)| version.starts_with(&wanted)).max();
        match newest {
            Some((_, package)) => Ok(package.clone()),
            None => bail!("Debian offers no kernel {series}; there are: {}", offered(&kernels)),
        }
    }
}

/// The numbers of `linux-image-6.12.107+deb13-cloud-amd64`; `None` of packages that are no kernels for virtual machines.
fn version(package: &str) -> Option<Vec<u32>> {
    let version = package.strip_prefix("linux-image-")?.strip_suffix("-cloud-amd64")?;
    let version = version.split_once('+').map_or(version, |(version, _)| version);
    version.split(['.', '-']).map(|part| part.parse().ok()).collect()
}

fn offered(kernels: &[(Vec<u32>, String)]) -> String {
    let mut series: Vec<_> = kernels.iter().filter_map(|(v, _)| Some((*v.first()?, *v.get(1)?))).collect();
    series.sort_unstable();
    series.dedup();
    series.iter().map(|(major, minor)| format!("{major}.{minor}")).collect::<Vec<_>>().join(", ")
}

/// The folder of an unpacked kernel: its image, and its modules with their index.
fn kernel(folder: &Path, apt: &Apt, package: &str) -> anyhow::Result<PathBuf> {
    let kernel = folder.join(package);
    let stamp = kernel.join(".complete");
    if stamp.exists() {
        return Ok(kernel);
    }
    fs::create_dir_all(&kernel)?;
    let mut download = apt.command("apt-get");
    step(package, download.args(["download", "-qq"]).args(apt.parts(package)?).current_dir(&kernel))?;
    while let Some(part) = file(&kernel, ".deb") {
        step("unpacked", Command::new("dpkg-deb").arg("-x").arg(&part).arg(&kernel))?;
        fs::remove_file(part)?;
    }
    let modules = modules(&kernel)?;
    let (Some(name), Some(base)) = (modules.file_name(), modules.ancestors().nth(3)) else {
        bail!("`{}` is not below `lib/modules`", modules.display());
    };
    step("its modules", Command::new("depmod").arg("-b").arg(base).arg(name))?;
    fs::write(stamp, "")?;
    Ok(kernel)
}

/// Newer packages have them below `usr`, and the kernel among them.
fn modules(kernel: &Path) -> anyhow::Result<PathBuf> {
    let found = ["lib/modules", "usr/lib/modules"].into_iter().find_map(|dir| file(&kernel.join(dir), ""));
    found.with_context(|| format!("there are no modules in `{}`", kernel.display()))
}

/// The first file of a folder whose name contains `part`.
fn file(folder: &Path, part: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    entries.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)))
}

/// What the machine has in memory, as one archive: the system, the kernel's modules, the tests, and what starts them.
fn archive(folder: &Path, kernel: &Path, tests: &Path) -> anyhow::Result<PathBuf> {
    let own = folder.join("own");
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    let place = own.join("usr/lib/modules");
    fs::create_dir_all(&place)?;
    step("the machine's own files", Command::new("cp").arg("-al").arg(modules(kernel)?).arg(&place))?;
    fs::copy(tests, own.join("capture"))?;
    fs::write(own.join("init"), include_str!("kernels/init"))?;
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(own.join("init"), fs::Permissions::from_mode(0o755))?;
    let archive = folder.join("machine.cpio");
    let out = File::create(&archive)?;
    pack(&tools::folder().join("rootfs/root"), &["./usr/share/doc", "./usr/share/locale", "./usr/share/man"], &out)?;
    // The kernel unpacks one archive after the other.
    pack(&own, &[], &out)?;
    Ok(archive)
}

fn pack(folder: &Path, without: &[&str], out: &File) -> anyhow::Result<()> {
    let mut find = Command::new("find");
    find.current_dir(folder).arg(".");
    for path in without {
        find.args(["-path", path, "-prune", "-o"]);
    }
    let mut find = find.arg("-print0").stdout(Stdio::piped()).spawn().context("cannot start find")?;
    let names = find.stdout.take().context("find has no output")?;
    let mut cpio = Command::new("cpio");
    cpio.current_dir(folder).args(["--null", "-o", "-H", "newc", "--quiet"]).stdin(names).stdout(out.try_clone()?);
    let packed = cpio.status().context("cannot start cpio")?;
    ensure!(find.wait()?.success() && packed.success(), "cannot pack `{}`", folder.display());
    Ok(())
}

/// Starts the machine, shows what it says, and believes its verdict alone.
fn boot(package: &str, kernel: &Path, archive: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    println!("── capture tests on {package}");
    let image = file(&kernel.join("boot"), "vmlinuz").or_else(|| file(&modules(kernel).ok()?, "vmlinuz"));
    let image = image.context("the packages have no kernel")?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072"])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-nic", "none"])
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive);
    let mut machine = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start qemu")?;
    let said = BufReader::new(machine.stdout.take().context("qemu has no output")?);
    let (lines, line) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for text in said.split(b'\n').map_while(Result::ok) {
            let _ = lines.send(String::from_utf8_lossy(&text).trim_end().to_owned());
        }
    });
    let mut verdict = None;
    while let Ok(text) = line.recv_timeout(BUDGET.saturating_sub(began.elapsed())) {
        println!("   {text}");
        if let Some(status) = text.strip_prefix(VERDICT) {
            verdict = Some(status.to_owned());
        }
    }
    machine.kill().or_else(|e| if e.kind() == std::io::ErrorKind::InvalidInput { Ok(()) } else { Err(e) })?;
    machine.wait()?;
    let _ = reader.join();
    match verdict.as_deref() {
        Some("0") => {
            println!("── capture tests on {package}: done in {:.0} s", began.elapsed().as_secs_f32());
            Ok(())
        }
        Some(status) => bail!("the capture tests failed on {package} (exit status {status})"),
        None => bail!("the machine with {package} ended, or hung, without a verdict; what it said is above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packages() {
        assert_eq!(version("linux-image-6.1.0-50-cloud-amd64"), Some(vec![6, 1, 0, 50]));
        assert_eq!(version("linux-image-6.12.107+deb13-cloud-amd64"), Some(vec![6, 12, 107]));
        assert_eq!(version("linux-image-cloud-amd64"), None);
        assert_eq!(version("linux-image-6.12.107+deb13-amd64"), None);
    }
}
