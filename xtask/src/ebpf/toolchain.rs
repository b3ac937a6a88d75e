//! The compiler and the linker for BPF.
//!
//! Owns finding them, and installing Debian's. Never changes the user's Rust: the linker goes into `.tools/` in the
//! repository, and Debian's compiler lies beside rustup's under another path.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const LINKER_VERSION: &str = "0.13.0";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22/bin";
const DEBIAN_PACKAGES: [&str; 5] =
    ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "libpolly-22-dev", "libzstd-dev"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// Debian's if it is there or can be installed, else rustup's nightly
    Auto,
    /// Debian's `rustc-web`, the reference
    Debian,
    /// rustup's nightly with the component `rust-src`
    Nightly,
}

pub(crate) struct Toolchain {
    kind: Kind,
    /// Directories that go first on PATH.
    path: Vec<PathBuf>,
    /// What the compiler says of itself.
    pub compiler: String,
    /// What the linker says of itself.
    pub linker: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Debian,
    Nightly { sysroot: PathBuf },
}

impl Toolchain {
    pub(crate) fn find(choice: Choice, root: &Path) -> Result<Self> {
        let kind = match choice {
            Choice::Debian => debian()?,
            Choice::Nightly => nightly()?,
            Choice::Auto => match debian() {
                Ok(kind) => kind,
                Err(no_debian) => nightly().map_err(|no_nightly| {
                    anyhow::anyhow!("no BPF toolchain:\n- Debian's: {no_debian:#}\n- rustup's: {no_nightly:#}")
                })?,
            },
        };
        let path = match kind {
            Kind::Debian => vec![root.join(".tools/bin"), DEBIAN_LLVM.into()],
            Kind::Nightly { .. } => vec![root.join(".tools/bin")],
        };
        let mut toolchain = Self { kind, path, compiler: String::new(), linker: String::new() };
        toolchain.install_linker(root)?;
        toolchain.compiler = toolchain.compiler_version()?;
        toolchain.linker = toolchain.first_line(Command::new("bpf-linker").arg("--version"))?;
        Ok(toolchain)
    }

    /// Arguments for cargo.
    pub(crate) fn arguments(&self) -> &[&str] {
        match self.kind {
            Kind::Debian => &[],
            Kind::Nightly { .. } => &["-Zbuild-std=core"],
        }
    }

    /// Makes a command use it.
    pub(crate) fn apply(&self, command: &mut Command) {
        let there = std::env::var_os("PATH").unwrap_or_default();
        let all = self.path.iter().cloned().chain(std::env::split_paths(&there));
        if let Ok(path) = std::env::join_paths(all) {
            command.env("PATH", path);
        }
        // The loader of plain flags would win over the encoded ones in some versions; and a wrapper would not know BPF.
        command.env_remove("RUSTFLAGS").env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
        match self.kind {
            Kind::Debian => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
            Kind::Nightly { .. } => command.env_remove("RUSTC").env("RUSTUP_TOOLCHAIN", "nightly"),
        };
    }

    /// Where the compiler's own library lies, if it is built with ours.
    pub(crate) fn library_sources(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Debian => None,
            Kind::Nightly { sysroot } => Some(sysroot.join("lib/rustlib/src/rust")),
        }
    }

    fn compiler_version(&self) -> Result<String> {
        match self.kind {
            Kind::Debian => self.first_line(Command::new(DEBIAN_RUSTC).arg("--version")),
            Kind::Nightly { .. } => self.first_line(Command::new("rustc").arg("--version")),
        }
    }

    fn first_line(&self, command: &mut Command) -> Result<String> {
        self.apply(command);
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.output().with_context(|| format!("cannot run `{program}`"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().next().map(|line| line.trim().to_owned()).with_context(|| format!("`{program}` says nothing"))
    }

    fn install_linker(&self, root: &Path) -> Result<()> {
        let wanted = format!("bpf-linker {LINKER_VERSION}");
        if self.first_line(Command::new("bpf-linker").arg("--version")).is_ok_and(|version| version == wanted) {
            return Ok(());
        }
        println!("installing bpf-linker {LINKER_VERSION} into .tools/ (about 80 seconds)");
        let mut command = Command::new("cargo");
        let there = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(PathBuf::from(DEBIAN_LLVM)).chain(std::env::split_paths(&there));
        command
            .env("PATH", std::env::join_paths(path)?)
            .args([
                "install",
                "bpf-linker",
                "--locked",
                "--version",
                LINKER_VERSION,
                "--jobs",
                "2",
                "--quiet",
                "--force",
            ])
            .arg("--root")
            .arg(root.join(".tools"));
        if self.kind == Kind::Debian {
            command.args(["--no-default-features", "--features", "llvm-22"]);
        }
        if !command.status().context("cannot run cargo")?.success() {
            bail!("bpf-linker could not be installed; the messages are above");
        }
        Ok(())
    }
}

fn debian() -> Result<Kind> {
    let complete = || {
        let core = std::fs::read_dir(DEBIAN_CORE).is_ok_and(|mut entries| entries.next().is_some());
        core && Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_LLVM).join("llvm-config").exists()
    };
    if complete() {
        return Ok(Kind::Debian);
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|line| line == "ID=debian") {
        bail!("this is not Debian");
    }
    if !is_root()? {
        bail!("its packages are missing; run this as root, or install {}", DEBIAN_PACKAGES.join(" "));
    }
    println!("installing Debian's BPF toolchain: {}", DEBIAN_PACKAGES.join(" "));
    // The list may be old, or empty on a new machine.
    apt(&["update"]).and_then(|()| {
        let mut arguments = vec!["install", "-y", "--no-install-recommends"];
        arguments.extend(DEBIAN_PACKAGES);
        apt(&arguments)
    })?;
    if complete() { Ok(Kind::Debian) } else { bail!("the packages were installed, but {DEBIAN_CORE} is empty") }
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    if command.status().context("cannot run apt-get")?.success() {
        Ok(())
    } else {
        bail!("`apt-get {}` failed; the messages are above", arguments.join(" "))
    }
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot run `id`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn nightly() -> Result<Kind> {
    let output = Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output().context("cannot run rustc")?;
    if !output.status.success() {
        bail!("no nightly; run `rustup toolchain install nightly --component rust-src`");
    }
    let sysroot = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    if !sysroot.join("lib/rustlib/src/rust/library/core").exists() {
        bail!("nightly lacks its sources; run `rustup component add rust-src --toolchain nightly`");
    }
    Ok(Kind::Nightly { sysroot })
}
